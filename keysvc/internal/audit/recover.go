package audit

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"kmsfs.dev/kmsfs/internal/durable"
)

// The log's own events, of type AwsServiceEvent.
const (
	// EventRepaired says that a torn end was cut off, and where it is now.
	EventRepaired = "AuditLogRepaired"
	// EventLossAccepted is of Options.AcceptLoss.
	EventLossAccepted = "AuditLogLossAccepted"
)

// recover finds the end of the log, makes it good, and begins to write there.
func (l *Log) recover() error {
	if err := l.checkKey(); err != nil {
		return err
	}
	segs, err := listSegments(l.opts.Dir)
	if err != nil {
		return err
	}
	var notes []ServiceEventDetails
	if loss := l.checkHead(segs); loss != nil {
		if !l.opts.AcceptLoss || !errors.Is(loss, ErrHead) {
			return loss
		}
		h := l.opts.ExpectedHead
		notes = append(notes, ServiceEventDetails{ExpectedSequence: h.Sequence, ExpectedHash: h.Hash.String()})
		l.opts.Log.Warn("audit log: its loss was accepted", "error", loss)
	}
	if len(segs) == 0 {
		err = l.begin()
	} else {
		err = l.resume(segs)
	}
	if err != nil {
		return err
	}
	return l.start(notes)
}

// checkKey refuses a log of another key.
func (l *Log) checkKey() error {
	key, err := PublicKey(l.opts.Dir)
	if missing(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if !key.Equal(l.signer.public) {
		return fmt.Errorf("the audit log in %s is signed with key %s, this key service has key %s: it is another service's log, or the service's state was replaced; move the directory away to begin a new log",
			l.opts.Dir, keyID(key), l.signer.id)
	}
	return nil
}

// begin makes a new log. The public key comes after the first segment, so that a
// key without segments means that these were removed.
func (l *Log) begin() error {
	if _, err := os.Lstat(filepath.Join(l.opts.Dir, publicKeyFile)); err == nil && !l.opts.AcceptLoss {
		return fmt.Errorf("%w: %s has a public key but no records; put them back, or move the directory away to begin a new log", ErrDamaged, l.opts.Dir)
	}
	l.next = genesis(l.signer.public)
	f, err := l.opts.disk.create(l.opts.Dir, segmentName(1))
	if err != nil {
		return fmt.Errorf("begin the audit log: %w", err)
	}
	l.file = f
	return nil
}

// resume opens the last segment, after cutting off what a crash left.
func (l *Log) resume(segs []segment) error {
	seg := segs[len(segs)-1]
	at, err := l.startOf(segs, len(segs)-1)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(seg.path(), os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("audit log: %w", err)
	}
	l.file = f
	s, err := l.scan(f, seg, at)
	if err != nil {
		return err
	}
	l.next, l.size = s.next, s.size
	l.written = l.next.sequence - 1
	st, err := f.Stat()
	if err != nil {
		return fmt.Errorf("audit log: %w", err)
	}
	if st.Size() == l.size {
		return nil
	}
	if err := saveTorn(l.opts.Dir, f, l.size, st.Size(), l.next.sequence); err != nil {
		return fmt.Errorf("save the torn end of the audit log: %w", err)
	}
	if err := errors.Join(l.opts.disk.truncate(f, l.size), l.opts.disk.datasync(f)); err != nil {
		return fmt.Errorf("cut off the torn end of the audit log: %w", err)
	}
	l.opts.Log.Warn("cut off a torn end of the audit log, as a crash leaves it", "segment", seg.name, "offset", l.size, "bytes", st.Size()-l.size)
	return nil
}

// start notes what was found, and signs all there is.
func (l *Log) start(notes []ServiceEventDetails) error {
	l.rotateAt = l.opts.SegmentBytes
	if _, err := os.Lstat(filepath.Join(l.opts.Dir, publicKeyFile)); missing(err) {
		if err := durable.WriteFile(filepath.Join(l.opts.Dir, publicKeyFile), publicKeyText(l.signer.public)); err != nil {
			return fmt.Errorf("save the audit log's public key: %w", err)
		}
	}
	e := new(entry)
	for i := range notes {
		if err := l.add(e, serviceEvent(EventLossAccepted, &notes[i])); err != nil {
			return err
		}
	}
	torn, err := l.tornHere()
	if err != nil {
		return err
	}
	for i := range torn {
		if err := l.add(e, serviceEvent(EventRepaired, &torn[i])); err != nil {
			return err
		}
	}
	l.writing.Lock()
	defer l.writing.Unlock()
	if err := l.sync(); err != nil { // so that the checkpoint can say it is durable
		return err
	}
	if err := l.writeHereLocked([]*entry{e}, reasonOpen); err != nil {
		return err
	}
	if err := l.sync(); err != nil {
		return err
	}
	l.tells.Wait()
	return nil
}

func serviceEvent(name string, details *ServiceEventDetails) *Record {
	const internal = "AWS Internal"
	return &Record{
		UserIdentity:        UserIdentity{InvokedBy: internal},
		EventName:           name,
		SourceIPAddress:     internal,
		UserAgent:           internal,
		EventType:           TypeServiceEvent,
		ServiceEventDetails: details,
	}
}

// startOf is the place of a segment's first line: after the last line of the
// segment before, which is a checkpoint.
func (l *Log) startOf(segs []segment, i int) (link, error) {
	if segs[i].first == 1 {
		return genesis(l.signer.public), nil
	}
	if i == 0 {
		return link{}, fmt.Errorf("%w: the segment before %s is missing from %s: put it back (of the oldest segments any may be moved away, the last two must stay)",
			ErrDamaged, segs[i].name, l.opts.Dir)
	}
	before := segs[i-1]
	f, err := os.Open(before.path())
	if err != nil {
		return link{}, fmt.Errorf("audit log: %w", err)
	}
	defer f.Close()
	line, err := lastLine(f)
	if err != nil {
		return link{}, fmt.Errorf("%w: %s: %w", ErrDamaged, before.name, err)
	}
	c, at, err := parseCheckpoint(line, l.signer.public)
	if err != nil {
		return link{}, fmt.Errorf("%w: the last line of %s is %w", ErrDamaged, before.name, err)
	}
	if c.Reason != reasonRotate || at.sequence != segs[i].first-1 {
		return link{}, fmt.Errorf("%w: %s does not end where %s begins", ErrDamaged, before.name, segs[i].name)
	}
	at.follow(line)
	return at, nil
}

// checkHead looks for the expected head in the segments.
func (l *Log) checkHead(segs []segment) error {
	h := l.opts.ExpectedHead
	if h == nil {
		return nil
	}
	i := len(segs) - 1
	for i >= 0 && segs[i].first > h.Sequence {
		i--
	}
	if i < 0 {
		if len(segs) > 0 && segs[0].first > 1 {
			return nil // moved away; a later checkpoint is there
		}
		return fmt.Errorf("%w: there is none in %s, but a checkpoint was made at record %d; put the newest copy of the directory back",
			ErrHead, l.opts.Dir, h.Sequence)
	}
	f, err := os.Open(segs[i].path())
	if err != nil {
		return fmt.Errorf("audit log: %w", err)
	}
	defer f.Close()
	r := newLineReader(f)
	for {
		line, offset, err := r.next()
		last := segs[i].first + r.line - 1
		if errors.Is(err, io.EOF) {
			return fmt.Errorf("%w: %s ends at record %d, but a checkpoint was made at record %d: its end was cut off, or an older copy was put back; put the newest copy of %s back",
				ErrHead, segs[i].name, last, h.Sequence, l.opts.Dir)
		}
		if err != nil {
			return fmt.Errorf("read %s: %w", segs[i].name, err)
		}
		if last < h.Sequence {
			continue
		}
		if _, at, err := parseCheckpoint(line, l.signer.public); err != nil || headOf(at, line) != *h {
			return fmt.Errorf("%w: record %d, line %d, byte %d of %s is not the checkpoint that was made there; put the newest copy of %s back",
				ErrHead, h.Sequence, r.line, offset, segs[i].name, l.opts.Dir)
		}
		return nil
	}
}
