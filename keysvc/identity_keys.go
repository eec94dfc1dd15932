package keysvc

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"slices"
	"strings"

	"kmsfs.dev/kmsfs/internal/secret"
	"kmsfs.dev/kmsfs/keysvc/internal/identity"
	"kmsfs.dev/kmsfs/keysvc/internal/store"
	"kmsfs.dev/kmsfs/keysvc/kmsapi"
)

// keyOwner is the user whose access keys an action is on: the one it names, or the
// caller.
func keyOwner(caller Caller, userName, op string) (subject, error) {
	if userName == "" {
		userName = caller.Username
	}
	var v violations
	v.entityName(identity.User, userName)
	return subject{caller: caller, kind: identity.User, name: userName, action: iamAction(op)}, v.err()
}

// CreateAccessKey gives a user an access key. Its secret is told this once.
func (s *Service) CreateAccessKey(_ context.Context, caller Caller, in *kmsapi.AccessKeyInput) (*kmsapi.CreateAccessKeyOutput, error) {
	sub, err := keyOwner(caller, in.UserName, kmsapi.OpCreateAccess)
	if err != nil {
		return nil, err
	}
	s.changing.Lock()
	defer s.changing.Unlock()
	out := new(kmsapi.CreateAccessKeyOutput)
	err = s.onEntity(sub, func(e *identity.Entity) error {
		changed, key, err := e.WithAccessKey(s.eventTime())
		if err != nil {
			return err
		}
		text, err := newAccessKeySecret()
		if err != nil {
			return err
		}
		defer text.Free()
		err = s.putEntity(changed, func(tx store.SealedTx) error { return tx.Set(secretRecordName(key.ID), text.Bytes()) })
		if err != nil {
			return err
		}
		s.log.Info("created an access key", "id", key.ID, "user", e.ARN(), "principal", caller.ARN)
		out.AccessKey = kmsapi.AccessKey{
			UserName: e.Name, AccessKeyID: key.ID, Status: keyStatus(key), CreateDate: key.CreatedAt,
			SecretAccessKey: bytes.Clone(text.Bytes()), // the front wipes it
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// newAccessKeySecret makes a secret of 240 random bits, written as AWS's are.
func newAccessKeySecret() (*secret.Buffer, error) {
	raw, err := secret.New(base64.StdEncoding.DecodedLen(accessKeySecretLen))
	if err != nil {
		return nil, err
	}
	defer raw.Free()
	rand.Read(raw.Bytes())
	text, err := secret.New(accessKeySecretLen)
	if err != nil {
		return nil, err
	}
	base64.StdEncoding.Encode(text.Bytes(), raw.Bytes())
	return text, nil
}

func keyStatus(k identity.AccessKey) string {
	if k.Active {
		return kmsapi.AccessKeyActive
	}
	return kmsapi.AccessKeyInactive
}

// ListAccessKeys returns a user's access keys, without their secrets.
func (s *Service) ListAccessKeys(_ context.Context, caller Caller, in *kmsapi.ListAccessKeysInput) (*kmsapi.ListAccessKeysOutput, error) {
	sub, err := keyOwner(caller, in.UserName, kmsapi.OpListAccess)
	if err != nil {
		return nil, err
	}
	byID := func(e *identity.Entity) []identity.AccessKey {
		return slices.SortedFunc(slices.Values(e.AccessKeys), func(a, b identity.AccessKey) int { return strings.Compare(a.ID, b.ID) })
	}
	list, next, err := listOf(s, sub, &kmsapi.ListOfEntityInput{Marker: in.Marker, MaxItems: in.MaxItems}, byID,
		func(k identity.AccessKey) string { return k.ID })
	if err != nil {
		return nil, err
	}
	out := &kmsapi.ListAccessKeysOutput{AccessKeyMetadata: []kmsapi.AccessKeyMetadata{}, Marker: next, IsTruncated: next != ""}
	for _, k := range list {
		out.AccessKeyMetadata = append(out.AccessKeyMetadata, kmsapi.AccessKeyMetadata{
			UserName: sub.name, AccessKeyID: k.ID, Status: keyStatus(k), CreateDate: k.CreatedAt,
		})
	}
	return out, nil
}

// UpdateAccessKey switches an access key on or off.
func (s *Service) UpdateAccessKey(_ context.Context, caller Caller, in *kmsapi.UpdateAccessKeyInput) (*kmsapi.Empty, error) {
	sub, err := keyOwner(caller, in.UserName, kmsapi.OpUpdateAccess)
	if err != nil {
		return nil, err
	}
	var v violations
	v.accessKeyID(in.AccessKeyID)
	v.text(in.Status, "status", identity.MaxName)
	if in.Status != "" {
		v.oneOf(&in.Status, "status", []string{kmsapi.AccessKeyActive, kmsapi.AccessKeyInactive})
	}
	if err := v.err(); err != nil {
		return nil, err
	}
	out, err := s.changeEntity(sub, func(e *identity.Entity) (*identity.Entity, error) {
		return e.WithAccessKeyState(in.AccessKeyID, in.Status == kmsapi.AccessKeyActive)
	})
	if err == nil {
		s.signingKeys.Invalidate(in.AccessKeyID)
	}
	return out, err
}

// DeleteAccessKey destroys an access key with its secret.
func (s *Service) DeleteAccessKey(_ context.Context, caller Caller, in *kmsapi.AccessKeyInput) (*kmsapi.Empty, error) {
	sub, err := keyOwner(caller, in.UserName, kmsapi.OpDeleteAccess)
	if err != nil {
		return nil, err
	}
	var v violations
	v.accessKeyID(in.AccessKeyID)
	if err := v.err(); err != nil {
		return nil, err
	}
	s.changing.Lock()
	defer s.changing.Unlock()
	err = s.onEntity(sub, func(e *identity.Entity) error {
		changed, err := e.WithoutAccessKey(in.AccessKeyID)
		if err != nil {
			return err
		}
		err = s.putEntity(changed, func(tx store.SealedTx) error { return tx.Delete(secretRecordName(in.AccessKeyID)) })
		if err != nil {
			return err
		}
		s.signingKeys.Invalidate(in.AccessKeyID)
		s.log.Info("deleted an access key", "id", in.AccessKeyID, "user", e.ARN(), "principal", caller.ARN)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &kmsapi.Empty{}, nil
}
