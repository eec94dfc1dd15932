package keysvc

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"testing"

	"kmsfs.dev/kmsfs/keysvc/internal/identity"
	"kmsfs.dev/kmsfs/keysvc/internal/policy"
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
