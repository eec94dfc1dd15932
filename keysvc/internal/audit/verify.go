package audit

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

// VerifyOptions say what to hold a log against.
type VerifyOptions struct {
	// PublicKey is the service's. Nil means the one that lies beside the log,
	// which proves less.
	PublicKey ed25519.PublicKey
	// Head is the key service's last checkpoint: the log must contain it.
	Head *Head
	// Anchor is the line of a checkpoint that was kept elsewhere, with or without
	// its newline: the log must contain it. Only this detects that the whole state
	// directory was put back.
	Anchor []byte
	// Archives are the directories that Archive has moved segments to. They are
	// verified together with the rest.
	Archives []string
	// AllowArchived accepts a log whose oldest segments were moved away.
	AllowArchived bool
	// Grace is how long the end of a line that is being written may take to
	// appear, for the log of a running service.
	Grace time.Duration
}

// ErrAnchor is an anchor that is no checkpoint of the log's key.
var ErrAnchor = errors.New("the anchor is not a checkpoint of this audit log's key")

// Verify reads the log in dir as it is at the call, from its beginning, and checks
// every line, up to the first fault, which is in the report. An error means that it
// could not be read. It needs about 1 MiB of memory, and no lock: the service may be running.
func Verify(dir string, o VerifyOptions) (*Report, error) {
	v := verifier{dir: dir, o: o, key: o.PublicKey}
	v.report.Events = make(map[string]uint64)
	if v.key == nil {
		var err error
		if v.key, err = PublicKey(dir); err != nil {
			return nil, err
		}
		v.report.KeyFromLog = true
	}
	if len(v.key) != ed25519.PublicKeySize {
		return nil, fmt.Errorf("audit: a public key of %d bytes", len(v.key))
	}
	v.report.KeyID = keyID(v.key)
	if o.Head != nil {
		v.wanted = append(v.wanted, wanted{*o.Head, "the key service's last checkpoint", &v.report.HeadFound})
	}
	if o.Anchor != nil {
		line := append(bytes.TrimSpace(o.Anchor), '\n')
		_, at, err := parseCheckpoint(line, v.key)
		if err != nil {
			return nil, fmt.Errorf("%w: it is %w", ErrAnchor, err)
		}
		v.wanted = append(v.wanted, wanted{headOf(at, line), "the anchor", &v.report.AnchorFound})
	}
	err := v.run()
	var fault *Fault
	if errors.As(err, &fault) {
		v.report.Fault, err = fault, nil
	}
	if err != nil {
		return nil, err
	}
	return &v.report, nil
}

// wanted is a checkpoint that must be in the log.
type wanted struct {
	head  Head
	name  string
	found *bool
}

type verifier struct {
	dir    string
	o      VerifyOptions
	key    ed25519.PublicKey
	wanted []wanted
	report Report

	next     link
	place    Place       // of the line in hand
	previous *seen       // the record before, counted when a line confirms it
	last     *checkpoint // the last one
	notes    uint64      // records after it that only a starting service writes
}

// run reads what there is when it begins: a log may grow faster than it can be
// verified.
func (v *verifier) run() error {
	segs, err := listSegments(append([]string{v.dir}, v.o.Archives...)...)
	if err != nil {
		return err
	}
	if len(segs) == 0 {
		return &Fault{FaultMissing, Place{Segment: segmentName(1), Line: 1, Sequence: 1}, "there is no segment"}
	}
	st, err := os.Stat(segs[len(segs)-1].path())
	if err != nil {
		return fmt.Errorf("audit log: %w", err)
	}
	before := ""
	for i, seg := range segs {
		if err := v.enter(seg, before); err != nil {
			return err
		}
		size := int64(-1)
		if i == len(segs)-1 {
			size = st.Size()
		}
		if err := v.segment(seg, size); err != nil {
			return err
		}
		before = seg.name
	}
	return v.end()
}

// enter checks that seg is the next segment.
func (v *verifier) enter(seg segment, before string) error {
	if before == "" {
		if seg.first == 1 {
			v.next = genesis(v.key)
		} else if !v.o.AllowArchived {
			return &Fault{FaultMissing, Place{Segment: segmentName(1), Line: 1, Sequence: 1},
				fmt.Sprintf("the log begins with record %d: segments before %s are missing", seg.first, seg.name)}
		} else if err := v.archived(seg); err != nil {
			return err
		}
		return nil
	}
	at := Place{seg.name, 1, 0, v.next.sequence}
	switch {
	case seg.first > v.next.sequence:
		return &Fault{FaultMissing, at, fmt.Sprintf("%s ends before record %d and the next segment is %s: records, a whole segment, or its name are missing", before, v.next.sequence, seg.name)}
	case seg.first < v.next.sequence:
		return &Fault{FaultReordered, at, fmt.Sprintf("%s holds records up to %d and then there is %s: one of the two is not where it was written", before, v.next.sequence-1, seg.name)}
	case v.last == nil || v.last.Reason != reasonRotate || v.report.Unsigned > 0:
		return &Fault{FaultTruncated, at, fmt.Sprintf("%s does not end with the checkpoint of a complete segment", before)}
	}
	return nil
}

// archived takes the first segment's own word for what came before. The next
// checkpoint's signature covers it.
func (v *verifier) archived(seg segment) error {
	f, err := os.Open(seg.path())
	if err != nil {
		return fmt.Errorf("audit log: %w", err)
	}
	defer f.Close()
	line, _, err := newLineReader(f).next()
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read %s: %w", seg.name, err)
	}
	s, ok := parseLine(line)
	if !ok {
		return &Fault{FaultEdited, Place{seg.name, 1, 0, seg.first}, notALine}
	}
	v.next = link{seg.first, s.Chain.Previous}
	return nil
}

// segment reads a whole segment, or the last one to the end of the line at size.
func (v *verifier) segment(seg segment, size int64) error {
	f, err := os.Open(seg.path())
	if err != nil {
		return fmt.Errorf("audit log: %w", err)
	}
	defer f.Close()
	v.report.Segments++
	r := newLineReader(f)
	deadline := time.Now().Add(v.o.Grace)
	for {
		line, offset, err := r.next()
		if errors.Is(err, io.EOF) || err == nil && size >= 0 && offset >= size {
			n := r.line // of the line after the last
			if err != nil {
				n++
			}
			v.place = Place{seg.name, n, offset, v.next.sequence}
			return nil
		}
		if err != nil {
			return fmt.Errorf("read %s: %w", seg.name, err)
		}
		v.place = Place{seg.name, r.line, offset, v.next.sequence}
		if line[len(line)-1] != '\n' {
			if len(line) < maxLine && time.Now().Before(deadline) {
				time.Sleep(time.Millisecond)
				if err := r.back(offset); err != nil {
					return fmt.Errorf("read %s: %w", seg.name, err)
				}
				continue
			}
			return v.unterminated(line, size >= 0)
		}
		if err := v.line(line, r); err != nil {
			return err
		}
		deadline = time.Now().Add(v.o.Grace)
	}
}

func (v *verifier) unterminated(line []byte, last bool) error {
	switch {
	case len(line) >= maxLine:
		return v.fault(FaultEdited, "the line is longer than any record")
	case last:
		return v.fault(FaultTruncated, "the last line has no end: it was cut off, or a crash left it so and the service has not been started since")
	}
	return v.fault(FaultTruncated, "the segment's last line has no end")
}

func (v *verifier) fault(kind Kind, format string, args ...any) error {
	return &Fault{kind, v.place, fmt.Sprintf(format, args...)}
}
