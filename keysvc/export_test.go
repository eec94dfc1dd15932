package keysvc

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"testing"

	"kmsfs.dev/kmsfs/keysvc/internal/grant"
	"kmsfs.dev/kmsfs/keysvc/internal/identity"
	"kmsfs.dev/kmsfs/keysvc/internal/policy"
	"kmsfs.dev/kmsfs/keysvc/internal/store"
	"kmsfs.dev/kmsfs/keysvc/kmsapi"
)

// ActionNames lists the actions of the API that the service has.
func ActionNames() []string { return slices.Sorted(maps.Keys(actions())) }

// Permits says what a key in a state answers to an action: "" or an error's
// text, without the key's ARN.
func Permits(state, action string) string {
	k := &key{arn: "KEY", record: keyRecord{State: state}}
	if err := k.permits(action); err != nil {
		return err.Error()
	}
	return ""
}

// States are all that the API knows and a key here may have one day.
var States = []string{kmsapi.StateEnabled, kmsapi.StateDisabled, kmsapi.StatePendingDeletion, kmsapi.StatePendingImport,
	kmsapi.StateUnavailable, kmsapi.StateCreating, kmsapi.StateUpdating}

// AddUser makes a user with one access key.
func AddUser(t *testing.T, s *Service, account, name, secret string) (accessKeyID, uniqueID string) {
	t.Helper()
	u := addUser(t, s, account, name, secret)
	return u.AccessKeys[0].ID, u.ID
}

// HandlerFor answers as a front that has found out who the caller is.
func (s *Service) HandlerFor(c Caller) http.Handler {
	return &handler{s: s, log: s.log, identify: func(*request) (Caller, error) { return c, nil }, maxBody: maxRemoteBody, json: kmsProtocol(actions())}
}

// HireUser makes an IAM user with inline policies, in the place of one that has its
// name.
func (s *Service) HireUser(account, path, name string, policies ...string) (Caller, error) {
	s.changing.Lock()
	defer s.changing.Unlock()
	if old := s.identities.Find(identity.User, account, name); old != nil {
		if err := s.db.Update(func(tx store.SealedTx) error { return tx.Delete(entityRecordName(old.ID)) }); err != nil {
			return Caller{}, err
		}
		s.identities.Delete(old.ID)
	}
	u := identity.NewEntity(identity.User, account, path, name, s.now())
	for i, text := range policies {
		u.Inline = append(u.Inline, identity.Inline{Name: fmt.Sprint("p", i), Text: text})
	}
	return Caller{Principal: u.Principal()}, s.putEntity(u, nil)
}

// RootOf is the root user of an account.
func RootOf(account string) Caller {
	return Caller{Principal: policy.Principal{Type: policy.Account, ARN: "arn:aws:iam::" + account + ":root", Account: account}}
}

// AddGrants stores n grants on a key, as many in a transaction as fit: the API's one at a time
// would take minutes.
func (s *Service) AddGrants(keyID string, n int, make func(i int) grant.Grant) error {
	s.changing.Lock()
	defer s.changing.Unlock()
	k := s.index.key(keyID)
	for from := 0; from < n; from += 500 {
		var made []*grant.Grant
		err := s.db.Update(func(tx store.SealedTx) error {
			made = nil
			for i := from; i < min(from+500, n); i++ {
				g := grant.New(make(i))
				if err := putRecord(tx, grantRecordName(keyID, g.ID), grantRecord{recordSchema, *g}); err != nil {
					return err
				}
				made = append(made, g)
			}
			return nil
		})
		if err != nil {
			return err
		}
		for _, g := range made {
			if err := k.life.grants.Add(g); err != nil {
				return err
			}
		}
	}
	return nil
}

// StoredGrants is how many grants the store has.
func (s *Service) StoredGrants() (n int, err error) {
	err = s.db.View(func(tx store.SealedTx) error {
		return tx.Scan(grantRecords, func(string, []byte) error { n++; return nil })
	})
	return n, err
}

// HireRole makes a role, with a permissions boundary unless that is "", and returns sessions
// of it.
func (s *Service) HireRole(account, name, boundary string, sessions ...string) ([]Caller, error) {
	s.changing.Lock()
	defer s.changing.Unlock()
	r := identity.NewEntity(identity.Role, account, "/", name, s.now())
	if boundary != "" {
		p, err := identity.NewPolicy(account, "/", name+"-boundary", boundary, s.now())
		if err != nil {
			return nil, err
		}
		if err := s.putPolicy(p); err != nil {
			return nil, err
		}
		r.Boundary = p.ARN()
	}
	if err := s.putEntity(r, nil); err != nil {
		return nil, err
	}
	var callers []Caller
	for _, session := range sessions {
		callers = append(callers, Caller{Principal: policy.Principal{
			Type: policy.AssumedRole, Account: account, RoleARN: r.ARN(), RoleID: r.ID,
			ARN: "arn:aws:sts::" + account + ":assumed-role/" + name + "/" + session, UniqueID: r.ID + ":" + session,
		}})
	}
	return callers, nil
}
