package keysvc

import (
	"net/netip"
	"sync"
	"time"
)

// throttle bounds what strangers may cost: a TLS handshake, a signature that is
// computed to be refused. Each address has a bucket of attempts that fills up again, and
// all addresses together have one. A connection takes an attempt, and gives it
// back once a signature was good, so that who has an access key never notices.
//
// Loopback has no bucket. Whoever is on this machine has its processors anyhow, and would
// use up the attempts of everybody else on it.
type throttle struct {
	mu      sync.Mutex
	buckets map[netip.Prefix]*bucket // all but full ones
	all     bucket
}

// bucket is how many attempts are missing, as of when.
type bucket struct {
	missing float64
	at      time.Time
}

// What a bucket holds, and how many attempts per second come back.
const (
	addressBurst, addressRate = 100, 10
	allBurst, allRate         = 1000, 500
	// maxBuckets bounds the memory. Beyond it an address has what all have.
	maxBuckets = 10_000
)

// network is what counts as one address: who has an IPv6 address has a /64.
func network(a netip.Addr) netip.Prefix {
	a = a.Unmap().WithZone("")
	bits := a.BitLen()
	if a.Is6() && !a.IsLoopback() {
		bits = 64
	}
	p, err := a.Prefix(bits)
	if err != nil {
		return netip.Prefix{} // no address: one bucket for all of these
	}
	return p
}

// take takes an attempt, if there is one left.
func (t *throttle) take(from netip.Prefix, now time.Time) bool {
	if from.Addr().IsLoopback() {
		return true
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.all.fill(now, allRate); t.all.missing > allBurst-1 {
		return false
	}
	b := t.bucketLocked(from, now)
	if b.fill(now, addressRate); b.missing > addressBurst-1 {
		return false
	}
	t.all.missing++
	b.missing++
	return true
}

// give gives an attempt back.
func (t *throttle) give(from netip.Prefix) {
	if from.Addr().IsLoopback() {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.all.missing = max(t.all.missing-1, 0)
	if b := t.buckets[from]; b != nil {
		b.missing = max(b.missing-1, 0)
	}
}

func (t *throttle) bucketLocked(from netip.Prefix, now time.Time) *bucket {
	if b := t.buckets[from]; b != nil {
		return b
	}
	if len(t.buckets) >= maxBuckets {
		t.forgetFullLocked(now)
	}
	b := &bucket{at: now}
	if len(t.buckets) < maxBuckets {
		if t.buckets == nil {
			t.buckets = map[netip.Prefix]*bucket{}
		}
		t.buckets[from] = b
	}
	return b
}

// forgetFullLocked drops the buckets that say nothing any more.
func (t *throttle) forgetFullLocked(now time.Time) {
	for from, b := range t.buckets {
		if b.fill(now, addressRate); b.missing == 0 {
			delete(t.buckets, from)
		}
	}
}

func (b *bucket) fill(now time.Time, rate float64) {
	b.missing = max(b.missing-now.Sub(b.at).Seconds()*rate, 0)
	b.at = now
}
