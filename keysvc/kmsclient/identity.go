package kmsclient

import (
	"context"

	"kmsfs.dev/kmsfs/keysvc/kmsapi"
)

// Identity manages the users, roles and policies of an account. Where a method takes a
// kind, it is kmsapi.KindUser or kmsapi.KindRole.
type Identity struct {
	c  *Client
	at endpoint
}

// Identity returns the one of an account, which the superuser and the service's owner
// may name; "" is the caller's own.
func (c *Client) Identity(account string) Identity {
	return Identity{c, endpoint{path: kmsapi.IdentityPath, prefix: kmsapi.IdentityTargetPrefix, account: account}}
}

func iam[Out any](ctx context.Context, i Identity, action string, in any) (*Out, error) {
	return callAt[Out](ctx, i.c, i.at, action, in)
}

func (i Identity) do(ctx context.Context, action string, in any) error {
	_, err := iam[kmsapi.Empty](ctx, i, action, in)
	return err
}

// CreateUser makes a user.
func (i Identity) CreateUser(ctx context.Context, in *kmsapi.CreateUserInput) (*kmsapi.EntityOutput, error) {
	return iam[kmsapi.EntityOutput](ctx, i, kmsapi.OpCreateUser, in)
}

// CreateRole makes a role.
func (i Identity) CreateRole(ctx context.Context, in *kmsapi.CreateRoleInput) (*kmsapi.EntityOutput, error) {
	return iam[kmsapi.EntityOutput](ctx, i, kmsapi.OpCreateRole, in)
}

// Get describes a user or a role.
func (i Identity) Get(ctx context.Context, kind, name string) (*kmsapi.EntityOutput, error) {
	return iam[kmsapi.EntityOutput](ctx, i, kmsapi.OpGet(kind), entity(kind, name))
}

// Delete removes a user or a role that has nothing any more.
func (i Identity) Delete(ctx context.Context, kind, name string) error {
	return i.do(ctx, kmsapi.OpDelete(kind), entity(kind, name))
}

func entity(kind, name string) kmsapi.EntityInput {
	return kmsapi.EntityInput{EntityName: kmsapi.NameOf(kind, name)}
}

// AllUsers returns all users.
func (i Identity) AllUsers(ctx context.Context) ([]kmsapi.User, error) {
	return all(func(marker *string) ([]kmsapi.User, string, error) {
		out, err := iam[kmsapi.ListUsersOutput](ctx, i, kmsapi.OpListUsers, kmsapi.ListEntitiesInput{Marker: marker})
		if err != nil {
			return nil, "", err
		}
		return out.Users, out.Marker, nil
	})
}

// AllRoles returns all roles.
func (i Identity) AllRoles(ctx context.Context) ([]kmsapi.Role, error) {
	return all(func(marker *string) ([]kmsapi.Role, string, error) {
		out, err := iam[kmsapi.ListRolesOutput](ctx, i, kmsapi.OpListRoles, kmsapi.ListEntitiesInput{Marker: marker})
		if err != nil {
			return nil, "", err
		}
		return out.Roles, out.Marker, nil
	})
}

// all collects pages, until one has no marker of a next.
func all[T any](page func(marker *string) (items []T, next string, err error)) ([]T, error) {
	list := []T{}
	for marker := (*string)(nil); ; {
		items, next, err := page(marker)
		if err != nil {
			return nil, err
		}
		if list = append(list, items...); next == "" {
			return list, nil
		}
		marker = &next
	}
}

// UpdateTrust replaces a role's trust policy.
func (i Identity) UpdateTrust(ctx context.Context, role, document string) error {
	return i.do(ctx, kmsapi.OpUpdateTrust, kmsapi.UpdateTrustInput{RoleName: role, PolicyDocument: document})
}

// UpdateRole changes a role's description and the length of its sessions.
func (i Identity) UpdateRole(ctx context.Context, in *kmsapi.UpdateRoleInput) error {
	return i.do(ctx, kmsapi.OpUpdateRole, in)
}

// Tag adds tags to a user or a role, or overwrites them.
func (i Identity) Tag(ctx context.Context, kind, name string, tags []kmsapi.EntityTag) error {
	return i.do(ctx, kmsapi.OpTag(kind), kmsapi.TagEntityInput{EntityName: kmsapi.NameOf(kind, name), Tags: tags})
}

// Untag removes tags from a user or a role.
func (i Identity) Untag(ctx context.Context, kind, name string, keys []string) error {
	return i.do(ctx, kmsapi.OpUntag(kind), kmsapi.UntagEntityInput{EntityName: kmsapi.NameOf(kind, name), TagKeys: keys})
}

// SetBoundary sets the permissions boundary of a user or a role; "" removes it.
func (i Identity) SetBoundary(ctx context.Context, kind, name, policyARN string) error {
	if policyARN == "" {
		return i.do(ctx, kmsapi.OpDeleteBoundary(kind), entity(kind, name))
	}
	return i.do(ctx, kmsapi.OpPutBoundary(kind), kmsapi.BoundaryInput{EntityName: kmsapi.NameOf(kind, name), PermissionsBoundary: policyARN})
}

// CreateAccessKey gives a user an access key. The caller wipes its secret, which
// nobody is told again.
func (i Identity) CreateAccessKey(ctx context.Context, user string) (*kmsapi.CreateAccessKeyOutput, error) {
	return iam[kmsapi.CreateAccessKeyOutput](ctx, i, kmsapi.OpCreateAccess, kmsapi.AccessKeyInput{UserName: user})
}

// ListAccessKeys returns a user's access keys, of which there are two at most.
func (i Identity) ListAccessKeys(ctx context.Context, user string) ([]kmsapi.AccessKeyMetadata, error) {
	out, err := iam[kmsapi.ListAccessKeysOutput](ctx, i, kmsapi.OpListAccess, kmsapi.ListAccessKeysInput{UserName: user})
	if err != nil {
		return nil, err
	}
	return out.AccessKeyMetadata, nil
}

// UpdateAccessKey switches an access key on or off.
func (i Identity) UpdateAccessKey(ctx context.Context, user, id, status string) error {
	return i.do(ctx, kmsapi.OpUpdateAccess, kmsapi.UpdateAccessKeyInput{UserName: user, AccessKeyID: id, Status: status})
}

// DeleteAccessKey destroys an access key.
func (i Identity) DeleteAccessKey(ctx context.Context, user, id string) error {
	return i.do(ctx, kmsapi.OpDeleteAccess, kmsapi.AccessKeyInput{UserName: user, AccessKeyID: id})
}
