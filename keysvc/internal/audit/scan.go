package audit

import (
	"errors"
	"fmt"
	"io"
	"os"
)

// scanned is the good part of a segment.
type scanned struct {
	next link
	size int64
}

// scan reads the segment from its start. What it stops at is damage if it was
// durable once, and else the torn end that a crash leaves: disks write pages in any
// order, so that whole lines may follow a missing one.
func (l *Log) scan(f *os.File, seg segment, at link) (scanned, error) {
	s := scanned{next: at}
	before, signed := s, s // without the last line; up to the last checkpoint
	r := newLineReader(f)
	var line []byte
	for {
		var offset int64
		var err error
		line, offset, err = r.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return s, fmt.Errorf("read %s: %w", seg.name, err)
		}
		if !complete(line) || !s.next.fits(line) {
			break
		}
		if IsCheckpoint(line) {
			_, _, err := parseCheckpoint(line, l.signer.public)
			if errors.Is(err, errForm) {
				break
			}
			if err != nil {
				return s, fmt.Errorf("%w: %v is %w", ErrDamaged, Place{seg.name, r.line, offset, s.next.sequence}, err)
			}
		}
		before = s
		s.next.follow(line)
		s.size = r.offset
		if IsCheckpoint(line) {
			before, signed = s, s
		}
	}
	if claims(line, s.next.sequence) {
		s = before // the line is in its place, so the one before it was changed
	}
	s, err := confirmed(f.Name(), signed, s)
	if err != nil {
		return s, fmt.Errorf("read %s: %w", seg.name, err)
	}
	if h := l.opts.ExpectedHead; h != nil && s.next.sequence <= h.Sequence && !l.opts.AcceptLoss {
		return s, damagedAt(seg, s, fmt.Sprintf("the key service knows of a checkpoint after it (record %d)", h.Sequence))
	}
	for {
		if err := l.mayCut(seg, s, line); err != nil {
			return s, err
		}
		var err error
		line, _, err = r.next()
		if errors.Is(err, io.EOF) {
			return s, nil
		}
		if err != nil {
			return s, fmt.Errorf("read %s: %w", seg.name, err)
		}
	}
}

// confirmed is the part of s that holds records, after what is signed. The chain
// does not say so of the last line, nor of any that somebody hashed anew: where a
// page never reached the disk there is no JSON.
func confirmed(path string, signed, s scanned) (scanned, error) {
	f, err := os.Open(path)
	if err != nil {
		return s, err
	}
	defer f.Close()
	r := newLineReader(f)
	if err := r.seek(signed.size); err != nil {
		return s, err
	}
	for k := signed; k.size < s.size; {
		line, _, err := r.next()
		if err != nil {
			return s, err
		}
		if _, ok := parseLine(line); !ok {
			return k, nil
		}
		k.next.follow(line)
		k.size = r.offset
	}
	return s, nil
}

// mayCut refuses to cut off a line that proves that a crash did not do this.
func (l *Log) mayCut(seg segment, s scanned, line []byte) error {
	if !IsCheckpoint(line) {
		return nil
	}
	c, at, err := parseCheckpoint(line, l.signer.public)
	switch {
	case errors.Is(err, errForm):
		return nil
	case err != nil:
		return damagedAt(seg, s, "after it there is "+err.Error())
	case c.Durable >= s.next.sequence:
		return damagedAt(seg, s, fmt.Sprintf("a later checkpoint (record %d) says that it was on the disk", at.sequence))
	}
	return nil
}

func damagedAt(seg segment, s scanned, why string) error {
	return fmt.Errorf("%w: record %d, at byte %d of %s, was changed, and not by a crash: %s; run `kmsfs audit verify`, and put the segment back from a copy",
		ErrDamaged, s.next.sequence, s.size, seg.name, why)
}

// claims says whether a line is a record or checkpoint that claims a sequence
// number.
func claims(line []byte, sequence uint64) bool {
	s, ok := parseLine(line)
	return ok && s.Chain.Sequence == sequence
}
