package keysvc

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"

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

// HandlerFor answers as a front that has found out who the caller is.
func (s *Service) HandlerFor(c Caller) http.Handler {
	h := &handler{s: s, log: s.log, actions: actions()}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), callerKey{}, c)))
	})
}

// AddUser makes an IAM user with inline policies, in the place of one that has its
// name.
func (s *Service) AddUser(account, path, name string, policies ...string) (Caller, error) {
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
