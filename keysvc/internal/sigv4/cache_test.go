package sigv4_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"kmsfs.dev/kmsfs/keysvc/internal/sigv4"
)

// store is a Lookup that counts.
type store struct {
	mu      sync.Mutex // guards what follows
	secrets map[string]string
	asked   int
	during  func() // called within each look-up, after the secret was lent
}

func (s *store) lookup(id string, use func([]byte)) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked++
	secret, ok := s.secrets[id]
	if ok {
		use([]byte(secret))
	}
	if s.during != nil {
		s.during()
	}
	return ok, nil
}

// lookups returns how many look-ups Verify needed, 0 or 1.
func (s *store) lookups(t *testing.T, o sigv4.Options, f forged) (int, error) {
	t.Helper()
	req, body := f.request(t)
	before := s.asked
	_, err := sigv4.Verify(req, body, o)
	return s.asked - before, err
}

func cached(max int) (*store, sigv4.Options) {
	s := &store{secrets: map[string]string{userID: userSecret}}
	o := options()
	o.Lookup, o.Cache = s.lookup, sigv4.NewCache(max)
	return s, o
}

func (s *store) expect(t *testing.T, o sigv4.Options, f forged, lookups int, code string) {
	t.Helper()
	n, err := s.lookups(t, o, f)
	if n != lookups {
		t.Errorf("%d look-ups, not %d", n, lookups)
	}
	if code != "" {
		refused(t, err, code, "")
	} else if err != nil {
		t.Error(err)
	}
}

func TestCache(t *testing.T) {
	s, o := cached(10)
	wrong := describeKey()
	wrong.secret = "x"
	// A wrong signature leaves nothing behind, and finds nothing out.
	s.expect(t, o, wrong, 1, invalid)
	s.expect(t, o, describeKey(), 1, "")
	s.expect(t, o, describeKey(), 0, "")
	s.expect(t, o, wrong, 0, invalid)

	another := describeKey()
	another.id = "AKIAI44QH8DHBEXAMPLE"
	s.expect(t, o, another, 1, unrecognized) // signed with the cached key's secret
	s.expect(t, o, another, 1, unrecognized) // an unknown key is not remembered

	nobody := another
	nobody.secret = strings.Repeat("0", 40) // what Verify computes with for an unknown key
	s.expect(t, o, nobody, 1, unrecognized)
	s.expect(t, o, nobody, 1, unrecognized)

	sts := describeKey()
	sts.service = "sts"
	o.Service = "sts"
	s.expect(t, o, sts, 1, "")
	o.Service = "kms"
	s.expect(t, o, describeKey(), 0, "")

	o.Cache.Invalidate("AKIAI44QH8DHBEXAMPLE")
	s.expect(t, o, describeKey(), 0, "")
	delete(s.secrets, userID)
	s.expect(t, o, describeKey(), 0, "") // nobody told
	o.Cache.Invalidate(userID)
	s.expect(t, o, describeKey(), 1, unrecognized)
	o.Service = "sts"
	s.expect(t, o, sts, 1, unrecognized)

	o.Service = "kms"
	s.secrets[userID] = "another"
	renewed := describeKey()
	renewed.secret = "another"
	s.expect(t, o, describeKey(), 1, invalid)
	s.expect(t, o, renewed, 1, "")
	s.expect(t, o, describeKey(), 0, invalid)

	o.Cache.Close()
	s.expect(t, o, renewed, 1, "")
	s.expect(t, o, renewed, 1, "")
}

// TestInvalidateDuringLookup: a request that was given the secret before its key
// was deleted verifies, and leaves no key behind.
func TestInvalidateDuringLookup(t *testing.T) {
	s, o := cached(10)
	defer o.Cache.Close()
	s.during = func() { o.Cache.Invalidate(userID) }
	s.expect(t, o, describeKey(), 1, "")
	s.during = nil
	delete(s.secrets, userID)
	s.expect(t, o, describeKey(), 1, unrecognized)
}

// TestCacheIsBounded: at most max keys, those of other days leave first.
func TestCacheIsBounded(t *testing.T) {
	const max = 3
	s, o := cached(max)
	defer o.Cache.Close()
	user := func(i int) forged {
		f := describeKey()
		f.id = fmt.Sprintf("AKIA%016d", i)
		s.secrets[f.id] = userSecret
		return f
	}
	for i := range max + 3 {
		s.expect(t, o, user(i), 1, "")
	}
	kept := 0
	for i := range max + 3 {
		n, err := s.lookups(t, o, user(i))
		if err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			kept++
		}
	}
	if kept > max {
		t.Errorf("%d keys are kept, not %d", kept, max)
	}

	tomorrow := user(0)
	tomorrow.set("X-Amz-Date", noon.Add(24*time.Hour).Format("20060102T150405Z"))
	tomorrow.date = noon.Add(24 * time.Hour).Format("20060102")
	o.Now = func() time.Time { return noon.Add(24 * time.Hour) }
	s.expect(t, o, tomorrow, 1, "")
	s.expect(t, o, tomorrow, 0, "")

	// Yesterday's leave before today's, whichever come first in a map.
	for range 20 {
		s, o = cached(max)
		o.Now = func() time.Time { return noon.Add(12 * time.Hour) }
		today, yesterday, more := user(0), user(1), user(2)
		for _, f := range []*forged{&today, &more} {
			f.set("X-Amz-Date", "20261123T000100Z")
			f.date = "20261123"
		}
		yesterday.set("X-Amz-Date", "20261122T235900Z")
		s.expect(t, o, today, 1, "")
		s.expect(t, o, yesterday, 1, "")
		yesterday.id = user(3).id
		s.expect(t, o, yesterday, 1, "")
		s.expect(t, o, more, 1, "")
		s.expect(t, o, today, 0, "")
		o.Cache.Close()
	}

	s, o = cached(0)
	s.expect(t, o, describeKey(), 1, "")
	s.expect(t, o, describeKey(), 1, "")
}

// TestCacheConcurrently is for the race detector: a key that is wiped while it signs
// would refuse a good request.
func TestCacheConcurrently(t *testing.T) {
	s, o := cached(2)
	type signed struct {
		req  *http.Request
		body []byte
	}
	var all []signed
	for i := range 4 {
		f := describeKey()
		f.id = fmt.Sprintf("AKIA%016d", i)
		s.secrets[f.id] = userSecret
		req, body := f.request(t)
		all = append(all, signed{req, body})
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for i := range 200 {
				r := all[i%len(all)]
				if _, err := sigv4.Verify(r.req, r.body, o); err != nil {
					t.Error(err)
				}
				if i%10 == 0 {
					o.Cache.Invalidate(fmt.Sprintf("AKIA%016d", i%4))
				}
			}
		})
	}
	wg.Wait()
	o.Cache.Close()
}
