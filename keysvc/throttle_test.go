package keysvc

import (
	"encoding/binary"
	"log/slog"
	"net/netip"
	"testing"
	"time"
)

func TestThrottle(t *testing.T) {
	now := time.Now()
	at := func(i int) netip.Prefix {
		return network(netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, 10<<24+uint32(i)))))
	}
	takes := func(th *throttle, from func(int) netip.Prefix, n int) (taken int) {
		for i := range n {
			if th.take(from(i), now) {
				taken++
			}
		}
		return taken
	}
	one := func(int) netip.Prefix { return at(0) }
	var th throttle
	if n := takes(&th, one, 150); n != 100 {
		t.Errorf("one address has %d attempts", n)
	}
	now = now.Add(time.Second)
	if n := takes(&th, one, 150); n != 10 {
		t.Errorf("%d attempts come back in a second", n)
	}
	th.give(at(0))
	if n := takes(&th, one, 150); n != 1 {
		t.Errorf("%d attempts were given back, not 1", n)
	}
	now = now.Add(time.Hour)
	if n := takes(&th, one, 150); n != 100 {
		t.Errorf("%d attempts come back in an hour", n)
	}

	th = throttle{}
	if n := takes(&th, at, 2000); n != 1000 {
		t.Errorf("all addresses have %d attempts", n)
	}
	now = now.Add(time.Second)
	if n := takes(&th, at, 2000); n != 500 {
		t.Errorf("all have %d attempts back after a second", n)
	}
	for i := range 30_000 {
		if now = now.Add(10 * time.Millisecond); !th.take(at(i), now) {
			t.Fatalf("address %d has no attempt", i)
		}
	}
	if len(th.buckets) > maxBuckets {
		t.Errorf("%d buckets", len(th.buckets))
	}
	if n := takes(&th, func(int) netip.Prefix { return network(netip.IPv6Loopback()) }, 2000); n != 2000 {
		t.Errorf("loopback has %d attempts", n)
	}
}

func TestNetwork(t *testing.T) {
	for a, want := range map[string]string{
		"192.0.2.1": "192.0.2.1/32", "::ffff:192.0.2.1": "192.0.2.1/32", "2001:db8:1:2:3::4": "2001:db8:1:2::/64",
		"fe80::1%eth0": "fe80::/64", "::1": "::1/128", "127.0.0.1": "127.0.0.1/32",
	} {
		if got := network(netip.MustParseAddr(a)); got.String() != want {
			t.Errorf("%s is of %s, not %s", a, got, want)
		}
	}
	if network(netip.Addr{}).IsValid() {
		t.Error("no address has a network")
	}
}

// TestRemoteTimeouts: how soon peers are cut off that begin and do not end. That they
// are shows TestSlowPeersAreCutOff, on machines of any speed.
func TestRemoteTimeouts(t *testing.T) {
	h := (&Server{svc: &Service{}, log: slog.New(slog.DiscardHandler)}).remoteServer(nil)
	if h.ReadHeaderTimeout != 5*time.Second || h.ReadTimeout != 10*time.Second {
		t.Errorf("a header may take %v, and a request %v", h.ReadHeaderTimeout, h.ReadTimeout)
	}
}
