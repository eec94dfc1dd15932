package audit

import (
	"bytes"
	"crypto/sha256"
)

// line checks one line, which has an end.
func (v *verifier) line(line []byte, r *lineReader) error {
	s, ok := parseLine(line)
	if !ok {
		return v.fault(FaultEdited, notALine)
	}
	s.place = v.place
	if !v.next.fits(line) {
		return v.misplaced(line, s.Chain, r)
	}
	var c *checkpoint
	if IsCheckpoint(line) {
		var err error
		if c, _, err = parseCheckpoint(line, v.key); err != nil {
			return v.fault(FaultForged, "the line is %v", err)
		}
	}
	v.confirm()
	at := v.next
	v.next.follow(line)
	if err := v.compare(); err != nil {
		return err
	}
	if c == nil {
		v.record(s)
		return nil
	}
	v.good(v.place.Sequence)
	v.checkpoint(c)
	v.report.LastCheckpoint = &Checkpoint{
		Head: headOf(at, line), Place: v.place, Time: c.Time, Reason: c.Reason, Line: bytes.Clone(line),
	}
	return nil
}

func (v *verifier) record(s *seen) {
	v.previous = s
	v.report.Unsigned++
	v.report.Closed = false
	if s.EventName == EventRepaired || s.EventName == EventLossAccepted {
		v.notes++
	}
}

func (v *verifier) checkpoint(c *checkpoint) {
	if c.Reason == reasonOpen {
		v.report.SignedLate += v.report.Unsigned - v.notes
	}
	v.last, v.notes = c, 0
	v.report.Checkpoints++
	v.report.Unsigned = 0
	v.report.Closed = c.Reason == reasonClose
}

// confirm counts the record before: what follows fits to it.
func (v *verifier) confirm() {
	s := v.previous
	if s == nil {
		return
	}
	v.previous = nil
	v.good(s.place.Sequence)
	v.report.Records++
	if s.ErrorCode != "" {
		v.report.Errors++
	}
	name := s.EventName
	if _, ok := v.report.Events[name]; !ok && len(v.report.Events) >= maxEvents {
		name = OtherEvents
	}
	v.report.Events[name]++
}

func (v *verifier) good(sequence uint64) {
	v.report.Last = sequence
	if v.report.First == 0 {
		v.report.First = sequence
	}
}

// compare holds the line in hand, whose hash is in v.next, against what must be
// in the log.
func (v *verifier) compare() error {
	for _, w := range v.wanted {
		if w.head.Sequence != v.place.Sequence {
			continue
		}
		if w.head.Hash != v.next.previous {
			return v.fault(FaultReplaced, "it is not %s: the log was put back to an older state and went on from there, or was written anew", w.name)
		}
		*w.found = true
	}
	return nil
}

// end checks what can be said when there are no more lines.
func (v *verifier) end() error {
	v.confirm()
	for _, w := range v.wanted {
		switch {
		case *w.found:
		case w.head.Sequence >= v.next.sequence:
			return v.fault(FaultTruncated, "the log ends here, but %s is record %d: the end was cut off, or an older copy was put back", w.name, w.head.Sequence)
		default:
			return v.fault(FaultMissing, "%s is record %d, which was moved away: the log cannot be held against it", w.name, w.head.Sequence)
		}
	}
	return nil
}

// misplaced says what is wrong with a line, or with the one before, that do not
// fit together.
func (v *verifier) misplaced(line []byte, c *Chain, r *lineReader) error {
	want := v.next.sequence
	switch {
	case c.Sequence < want:
		return v.fault(FaultReordered, "it is record %d, whose place is before", c.Sequence)
	case c.Sequence > want:
		if follows(r, want) {
			return v.fault(FaultReordered, "it is record %d; record %d comes later", c.Sequence, want)
		}
		return v.fault(FaultMissing, "it is record %d: %d records are missing before it, from record %d", c.Sequence, c.Sequence-want, want)
	case c.Previous == v.next.previous:
		return v.fault(FaultEdited, "the line is not as it was written")
	case v.previous == nil && want == 1:
		return v.fault(FaultEdited, "the log was not begun with this key, or its first line was changed")
	case v.previous == nil || !v.intact(line, r):
		return v.fault(FaultEdited, "the line does not name the one before it")
	}
	v.place = v.previous.place
	v.previous = nil
	v.report.Unsigned--
	return v.fault(FaultEdited, "the next line names another hash than this one has")
}

// intact says whether a line is as it was written, by its signature or by the
// line that follows it. At the end of a segment there is none.
func (v *verifier) intact(line []byte, r *lineReader) bool {
	if IsCheckpoint(line) {
		_, _, err := parseCheckpoint(line, v.key)
		return err == nil
	}
	hash := Hash(sha256.Sum256(line))
	next, _, err := r.next()
	if err != nil {
		return true
	}
	s, ok := parseLine(next)
	return !ok || s.Chain.Previous == hash
}

// follows says whether the rest of the segment has a line that claims to be a
// record.
func follows(r *lineReader, sequence uint64) bool {
	for {
		line, _, err := r.next()
		if err != nil {
			return false
		}
		if claims(line, sequence) {
			return true
		}
	}
}
