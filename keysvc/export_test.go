package keysvc

import (
	"maps"
	"slices"
	"testing"

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
