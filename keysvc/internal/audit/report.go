package audit

import (
	"fmt"
	"time"
)

// Kind is what is wrong with a log.
type Kind string

// What Verify finds.
const (
	FaultEdited    Kind = "edited"      // a line is not what was written
	FaultMissing   Kind = "missing"     // lines or segments are not there
	FaultReordered Kind = "reordered"   // a line is not in its place, or twice there
	FaultTruncated Kind = "truncated"   // the log ends too early
	FaultForged    Kind = "forged"      // a checkpoint that the key did not sign
	FaultReplaced  Kind = "rolled back" // the log is not the one of the head or anchor
)

// Fault is the first thing that is wrong with a log, and where.
type Fault struct {
	Kind   Kind   `json:"kind"`
	Place  Place  `json:"place"`
	Reason string `json:"reason"`
}

func (f *Fault) Error() string { return fmt.Sprintf("%v: %s: %s", f.Place, f.Kind, f.Reason) }

// Checkpoint is a checkpoint that was verified.
type Checkpoint struct {
	Head
	Place  Place     `json:"place"`
	Time   time.Time `json:"time"`
	Reason string    `json:"reason"` // open, periodic, rotate or close
	// Line is the whole line: kept elsewhere, it is an anchor.
	Line []byte `json:"-"`
}

// maxEvents bounds Report.Events; further names are counted together.
const maxEvents = 256

// OtherEvents is where Report.Events counts names beyond 256.
const OtherEvents = "(other)"

// Report is what Verify found. Its counts end before the fault, if there is one.
type Report struct {
	Segments int `json:"segments"`
	// First and Last are the sequence numbers of the first and the last good
	// line. 0 when there is none.
	First uint64 `json:"first"`
	Last  uint64 `json:"last"`
	// Records are calls and events; checkpoints are not among them.
	Records     uint64            `json:"records"`
	Errors      uint64            `json:"errors"` // records with an errorCode
	Events      map[string]uint64 `json:"events"` // records by eventName
	Checkpoints uint64            `json:"checkpoints"`
	// LastCheckpoint is nil when no line is signed. All before it is as it was
	// written.
	LastCheckpoint *Checkpoint `json:"lastCheckpoint"`
	// Unsigned is how many records follow the last checkpoint.
	Unsigned uint64 `json:"unsigned"`
	// SignedLate is how many records were signed only when the service was
	// started again after it had been killed.
	SignedLate uint64 `json:"signedLate"`
	// Closed says that the service ended the log. Else it is running, was
	// killed, or the end was cut off.
	Closed bool `json:"closed"`
	// KeyID names the public key; KeyFromLog says that it was read from the log's
	// directory.
	KeyID      Hash `json:"keyId"`
	KeyFromLog bool `json:"keyFromLog"`
	// HeadFound and AnchorFound say that the log contains them.
	HeadFound   bool `json:"headFound"`
	AnchorFound bool `json:"anchorFound"`
	// Fault is nil for a log in which nothing is wrong.
	Fault *Fault `json:"fault"`
}

// Caveats are sentences about what this verification could not have noticed.
func (r *Report) Caveats() []string {
	var c []string
	if r.First > 1 {
		c = append(c, fmt.Sprintf("The log begins with record %d: what was moved away before it was not looked at.", r.First))
	}
	if r.KeyFromLog && !r.HeadFound && !r.AnchorFound { // these name the key
		c = append(c, fmt.Sprintf("The public key was read from the log's own directory. Whoever could write there could replace both: compare the key's id, %s, with a copy kept elsewhere.", r.KeyID))
	}
	if r.Unsigned > 0 {
		c = append(c, fmt.Sprintf("%d records follow the last checkpoint. They are chained but not signed: whoever could write to the log could have changed or removed them.", r.Unsigned))
	}
	if r.SignedLate > 0 {
		c = append(c, fmt.Sprintf("%d records were signed only when the service was started again after it had been killed. Until then, whoever could write to the log could have changed or removed them.", r.SignedLate))
	}
	if n := r.Events[EventRepaired]; n > 0 {
		c = append(c, fmt.Sprintf("The end of the log was cut off %d times when the service started after a crash. What was cut off is beside the log: look whether it is what a crash leaves (the %s records say where).", n, EventRepaired))
	}
	if n := r.Events[EventLossAccepted]; n > 0 {
		c = append(c, fmt.Sprintf("An operator started the service %d times on a log that lacked a checkpoint it had made (the %s records say which).", n, EventLossAccepted))
	}
	if !r.HeadFound && !r.AnchorFound && !r.Closed {
		c = append(c, "The log was not closed: the service is running or was killed, or the end of the log was cut off. The key service knows the last checkpoint and could tell.")
	}
	if !r.AnchorFound {
		c = append(c, "Without --anchor, an older copy of the whole state directory in the place of the newest would not be noticed. Keep the last checkpoint elsewhere.")
	}
	return c
}
