package keysvc

import (
	"slices"

	"kmsfs.dev/kmsfs/keysvc/kmsapi"
)

// actionActAs is the permission to have requests decided for another user of
// this machine, who is the resource. A mount that serves many users needs it:
// see fs.AuthorizeCaller.
const actionActAs = "kmsfs:ActAs"

// actAs is the caller in whose place an item is decided. Everybody is who they
// are. The superuser, who can become anybody in any case, and whoever is configured as
// a forwarder, may name others if the policies let them.
func (s *Service) actAs(caller Caller, uid uint32) (Caller, error) {
	if caller.Peer != nil && caller.Peer.UID == uid {
		return caller, nil
	}
	other := s.LocalCaller(uid)
	if caller.Peer == nil || caller.Peer.UID != 0 && !slices.Contains(s.forwarders, caller.Peer.UID) {
		return Caller{}, errorf(kmsapi.CodeAccessDenied, "User: %s is not authorized to perform: %s on resource: %s because only the superuser and forwarders act for others",
			caller.ARN, actionActAs, other.ARN)
	}
	if err := s.perform(access{caller: caller, action: actionActAs, entity: other.ARN}, func(materials) error { return nil }); err != nil {
		return Caller{}, err
	}
	other.Peer, other.UserAgent, other.RequestID = caller.Peer, caller.UserAgent, caller.RequestID
	other.call = caller.call
	other.call.forwardedBy(caller.Principal)
	return other, nil
}
