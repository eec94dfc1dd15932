package audit

import (
	"fmt"
	"time"
)

// retryAfter is how long a failed sync or checkpoint is left alone when nobody
// appends. Whoever appends tries at once.
const retryAfter = time.Second

// round is one sync, for those who wait for it.
type round struct {
	wanted bool
	done   chan struct{}
	err    error
}

func newRound() *round { return &round{done: make(chan struct{})} }

func (r *round) end(err error) {
	r.err = err
	close(r.done)
}

// awaitSync returns when what is written up to a sequence number is durable. The
// next sync to begin serves all who wait by then.
func (l *Log) awaitSync(upTo uint64) error {
	l.mu.Lock()
	if upTo <= l.durable || l.file == nil {
		defer l.mu.Unlock()
		if upTo <= l.durable {
			return nil
		}
		return ErrClosed
	}
	r := l.round
	wake := !r.wanted
	r.wanted = true
	l.mu.Unlock()
	if wake {
		l.wake()
	}
	<-r.done
	return r.err
}

func (l *Log) wake() {
	select {
	case l.kick <- struct{}{}:
	default:
	}
}

// sync makes durable what has been written. After a failure the kernel may have
// dropped what it could not write and called it clean, so that the next sync would
// succeed without it: it is written again first.
func (l *Log) sync() error {
	l.syncing.Lock()
	defer l.syncing.Unlock()
	l.mu.Lock()
	f, r, again, chunks := l.file, l.round, l.failed != nil, l.unsynced
	upTo, head := l.written, l.checkpointed
	l.round = newRound()
	l.dirtySince = time.Time{}
	l.mu.Unlock()

	err := error(ErrClosed)
	if f != nil {
		err = nil
		for i := 0; again && err == nil && i < len(chunks); i++ {
			_, err = l.opts.disk.writeAt(f, *chunks[i].bytes, chunks[i].offset)
		}
		if err == nil {
			err = l.opts.disk.datasync(f)
		}
		if err != nil {
			err = fmt.Errorf("make the audit log durable: %w", err)
		}
	}
	l.synced(len(chunks), upTo, head, err)
	r.end(err)
	return err
}

// synced notes the result of a sync of the first n chunks.
func (l *Log) synced(n int, upTo uint64, head Head, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		if l.failed == nil && l.file != nil {
			l.opts.Log.Error("audit log: calls are refused until it can be written", "error", err)
		}
		l.failed = err
		// In the future, so that the syncer waits before it tries again.
		l.dirtySince = time.Now().Add(retryAfter)
		return
	}
	l.failed = nil
	for i, c := range l.unsynced[:n] {
		l.unsyncedBytes -= int64(len(*c.bytes))
		recycle(c.bytes)
		l.unsynced[i] = chunk{}
	}
	l.unsynced = append(l.unsynced[:0], l.unsynced[n:]...)
	l.durable = upTo
	if head.Sequence > l.head.Sequence {
		l.head = head
		if l.opts.OnCheckpoint != nil && !l.telling {
			l.telling = true
			l.tells.Go(l.tell)
		}
	}
}

// tell gives OnCheckpoint the last head until there is no newer one.
func (l *Log) tell() {
	l.mu.Lock()
	for l.head != l.told {
		early := time.Until(l.toldAt.Add(l.opts.TellDelay))
		l.mu.Unlock()
		if early > 0 {
			select {
			case <-time.After(early):
			case <-l.stop: // Close waits
			}
		}
		l.mu.Lock()
		h := l.head
		l.mu.Unlock()
		l.opts.OnCheckpoint(h)
		l.mu.Lock()
		l.told, l.toldAt = h, time.Now()
	}
	l.telling = false
	l.mu.Unlock()
}

// syncLoop begins syncs when they are due or waited for, and writes checkpoints
// that are due. It sleeps when there is nothing to do.
func (l *Log) syncLoop() {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		syncIn, signIn, any := l.due()
		switch {
		case !any:
			timer.Stop()
		case signIn <= 0:
			l.signDue()
			continue
		case syncIn <= 0:
			l.sync() // its error goes to those who wait, and to the log
			continue
		default:
			timer.Reset(min(syncIn, signIn))
		}
		select {
		case <-l.kick:
		case <-timer.C:
		case <-l.stop:
			return
		}
	}
}

// due says how long there is until the next sync and the next checkpoint, and
// whether there is to be any.
func (l *Log) due() (syncIn, signIn time.Duration, any bool) {
	const never = time.Hour
	syncIn, signIn = never, never
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return // Close does it
	}
	if l.round.wanted {
		syncIn, any = 0, true
	} else if !l.dirtySince.IsZero() {
		syncIn, any = time.Until(l.dirtySince.Add(l.opts.SyncDelay)), true
	}
	if !l.unsignedSince.IsZero() {
		signIn, any = time.Until(l.unsignedSince.Add(l.opts.CheckpointAfter)), true
	}
	return
}

// signDue writes a checkpoint.
func (l *Log) signDue() {
	l.writing.Lock()
	defer l.writing.Unlock()
	if l.unsigned == 0 {
		return // somebody was faster
	}
	if err := l.writeLocked(nil, reasonPeriodic); err != nil {
		l.opts.Log.Warn("sign the audit log", "error", err)
		l.mu.Lock()
		l.unsignedSince = time.Now().Add(retryAfter)
		l.mu.Unlock()
	}
}
