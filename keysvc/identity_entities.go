package keysvc

import (
	"context"
	"slices"
	"strings"
	"time"

	"kmsfs.dev/kmsfs/keysvc/internal/identity"
	"kmsfs.dev/kmsfs/keysvc/internal/policy"
	"kmsfs.dev/kmsfs/keysvc/internal/store"
	"kmsfs.dev/kmsfs/keysvc/kmsapi"
)

// newEntity is a user or a role to be made.
type newEntity struct {
	kind     identity.Kind
	name     string
	path     *string
	boundary *string
	tags     []kmsapi.EntityTag
}

func (n newEntity) check(v *violations) {
	v.entityName(n.kind, n.name)
	v.path(n.path)
	v.optionalPolicyARN(n.boundary, "permissionsBoundary")
	v.entityTags(n.tags)
}

// createEntity makes n, with what more gives it.
func (s *Service) createEntity(caller Caller, n newEntity, more func(*identity.Entity) (*identity.Entity, error)) (*kmsapi.EntityOutput, error) {
	tags, err := tagsOf(n.tags)
	if err != nil {
		return nil, err
	}
	s.changing.Lock()
	defer s.changing.Unlock()
	path := "/"
	if n.path != nil {
		path = *n.path
	}
	e := identity.NewEntity(n.kind, caller.Account, path, n.name, s.eventTime())
	conditions := func(c *policy.Context) {
		setEntityTags(c, n.tags)
		if n.boundary != nil {
			c.Set(boundaryCondition, *n.boundary)
		}
	}
	err = s.performIAM(caller, iamAction("Create"+n.kind.Title()), e.ARN(), conditions, func() error {
		if err := s.identities.Room(n.kind, caller.Account, n.name); err != nil {
			return err
		}
		if _, isUID := parseUID(n.name); isUID && n.kind == identity.User && caller.Account == Account {
			return errorf(kmsapi.CodeInvalidInput, "The name %s is the number of a user of this machine.", n.name)
		}
		if strings.HasPrefix(path, localPath) {
			return errorf(kmsapi.CodeInvalidInput, "The path %s is that of the users of this machine.", localPath)
		}
		if n.boundary != nil {
			if _, err := s.attachable(caller.Account, *n.boundary); err != nil {
				return err
			}
			e.Boundary = *n.boundary
		}
		e.Tags = tags
		if more != nil {
			if e, err = more(e); err != nil {
				return err
			}
		}
		if err := s.putEntity(e, nil); err != nil {
			return err
		}
		s.log.Info("created", "entity", e.ARN(), "principal", caller.ARN)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return showEntity(e), nil
}

// eventTime is the time of an event, to the second as IAM's are.
func (s *Service) eventTime() time.Time { return s.clock().UTC().Truncate(time.Second) }

// CreateUser makes a user, who may do nothing yet.
func (s *Service) CreateUser(_ context.Context, caller Caller, in *kmsapi.CreateUserInput) (*kmsapi.EntityOutput, error) {
	n := newEntity{kind: identity.User, name: in.UserName, path: in.Path, boundary: in.PermissionsBoundary, tags: in.Tags}
	var v violations
	n.check(&v)
	if err := v.err(); err != nil {
		return nil, err
	}
	return s.createEntity(caller, n, nil)
}

// CreateRole makes a role.
func (s *Service) CreateRole(_ context.Context, caller Caller, in *kmsapi.CreateRoleInput) (*kmsapi.EntityOutput, error) {
	n := newEntity{kind: identity.Role, name: in.RoleName, path: in.Path, boundary: in.PermissionsBoundary, tags: in.Tags}
	var v violations
	n.check(&v)
	v.text(in.AssumeRolePolicyDocument, "assumeRolePolicyDocument", maxPolicyText)
	v.roleSettings(&in.Description, in.MaxSessionDuration)
	if err := v.err(); err != nil {
		return nil, err
	}
	return s.createEntity(caller, n, func(e *identity.Entity) (*identity.Entity, error) {
		e.Description, e.MaxSession = in.Description, identity.MinSession
		if in.MaxSessionDuration != nil {
			e.MaxSession = *in.MaxSessionDuration
		}
		return s.withTrust(e, in.AssumeRolePolicyDocument)
	})
}

func (v *violations) roleSettings(description *string, session *int) {
	if description != nil {
		v.longText(*description, "description", identity.MaxRoleDescription)
	}
	v.number(session, "maxSessionDuration", identity.MinSession, identity.MaxSession)
}

// withTrust gives a role a trust policy, bound to the principals that exist now.
func (s *Service) withTrust(e *identity.Entity, text string) (*identity.Entity, error) {
	d, err := checkPolicy(policy.TrustPolicy, text)
	if err != nil {
		return nil, err
	}
	_, trust, err := identity.Bind(d, s.bindIDs())
	if err != nil {
		return nil, malformed("Invalid principal in policy", err)
	}
	return e.WithTrust(trust)
}

// UpdateAssumeRolePolicy replaces a role's trust policy.
func (s *Service) UpdateAssumeRolePolicy(_ context.Context, caller Caller, in *kmsapi.UpdateTrustInput) (*kmsapi.Empty, error) {
	var v violations
	v.entityName(identity.Role, in.RoleName)
	v.text(in.PolicyDocument, "policyDocument", maxPolicyText)
	if err := v.err(); err != nil {
		return nil, err
	}
	sub := subject{caller: caller, kind: identity.Role, name: in.RoleName, action: iamAction(kmsapi.OpUpdateTrust)}
	return s.changeEntity(sub, func(e *identity.Entity) (*identity.Entity, error) { return s.withTrust(e, in.PolicyDocument) })
}

// UpdateRole changes a role's description and how long its sessions may last.
func (s *Service) UpdateRole(_ context.Context, caller Caller, in *kmsapi.UpdateRoleInput) (*kmsapi.Empty, error) {
	var v violations
	v.entityName(identity.Role, in.RoleName)
	v.roleSettings(in.Description, in.MaxSessionDuration)
	if err := v.err(); err != nil {
		return nil, err
	}
	sub := subject{caller: caller, kind: identity.Role, name: in.RoleName, action: iamAction(kmsapi.OpUpdateRole)}
	return s.changeEntity(sub, func(e *identity.Entity) (*identity.Entity, error) {
		c := *e
		if in.Description != nil {
			c.Description = *in.Description
		}
		if in.MaxSessionDuration != nil {
			c.MaxSession = *in.MaxSessionDuration
		}
		return &c, nil
	})
}

func (s *Service) getEntity(sub subject, _ *kmsapi.EntityInput) (*kmsapi.EntityOutput, error) {
	var out *kmsapi.EntityOutput
	err := s.onEntity(sub, func(e *identity.Entity) error {
		out = showEntity(e)
		return nil
	})
	return out, err
}

// deleteEntity removes a user or a role that has nothing any more. Its unique id never
// comes back, and with it nothing that it had been allowed.
func (s *Service) deleteEntity(sub subject, _ *kmsapi.EntityInput) (*kmsapi.Empty, error) {
	s.changing.Lock()
	defer s.changing.Unlock()
	err := s.onEntity(sub, func(e *identity.Entity) error {
		if isLocalUser(e) {
			return errorf(kmsapi.CodeInvalidInput, "%s is a user of this machine, and as such not in IAM's hands.", e.ARN())
		}
		if err := e.Deletable(); err != nil {
			return err
		}
		if err := s.db.Update(func(tx store.SealedTx) error { return tx.Delete(entityRecordName(e.ID)) }); err != nil {
			return err
		}
		s.identities.Delete(e.ID)
		s.log.Info("deleted", "entity", e.ARN(), "principal", sub.caller.ARN)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &kmsapi.Empty{}, nil
}

// ListUsers returns a page of the users of the caller's account.
func (s *Service) ListUsers(_ context.Context, caller Caller, in *kmsapi.ListEntitiesInput) (*kmsapi.ListUsersOutput, error) {
	out := &kmsapi.ListUsersOutput{Users: []kmsapi.User{}}
	var err error
	out.Marker, err = s.listEntities(caller, identity.User, in, func(e *identity.Entity) { out.Users = append(out.Users, *showEntity(e).User) })
	out.IsTruncated = out.Marker != ""
	return out, err
}

// ListRoles returns a page of the roles of the caller's account.
func (s *Service) ListRoles(_ context.Context, caller Caller, in *kmsapi.ListEntitiesInput) (*kmsapi.ListRolesOutput, error) {
	out := &kmsapi.ListRolesOutput{Roles: []kmsapi.Role{}}
	var err error
	out.Marker, err = s.listEntities(caller, identity.Role, in, func(e *identity.Entity) { out.Roles = append(out.Roles, *showEntity(e).Role) })
	out.IsTruncated = out.Marker != ""
	return out, err
}

func (s *Service) listEntities(caller Caller, kind identity.Kind, in *kmsapi.ListEntitiesInput, show func(*identity.Entity)) (next string, err error) {
	var v violations
	v.paging(in.Marker, in.MaxItems)
	v.pathPrefix(in.PathPrefix)
	if err := v.err(); err != nil {
		return "", err
	}
	prefix := "/"
	if in.PathPrefix != nil {
		prefix = *in.PathPrefix
	}
	err = s.performIAM(caller, iamAction("List"+kind.Title()+"s"), identity.ARN(caller.Account, string(kind)+prefix), nil, func() error {
		all := slices.DeleteFunc(s.identities.Entities(kind, caller.Account), func(e *identity.Entity) bool { return !strings.HasPrefix(e.Path, prefix) })
		var list []*identity.Entity
		list, next, err = page(all, func(e *identity.Entity) string { return e.Name }, in.MaxItems, iamItems, in.Marker)
		for _, e := range list {
			show(e)
		}
		return err
	})
	return next, err
}

// showEntity is what IAM tells about e. As IAM does not, lists have all of it.
func showEntity(e *identity.Entity) *kmsapi.EntityOutput {
	var boundary *kmsapi.AttachedPermissionsBoundary
	if e.Boundary != "" {
		boundary = &kmsapi.AttachedPermissionsBoundary{PermissionsBoundaryType: "PermissionsBoundaryPolicy", PermissionsBoundaryArn: e.Boundary}
	}
	if e.Kind == identity.User {
		return &kmsapi.EntityOutput{User: &kmsapi.User{
			Path: e.Path, UserName: e.Name, UserID: e.ID, Arn: e.ARN(), CreateDate: e.CreatedAt,
			PermissionsBoundary: boundary, Tags: showTags(e.Tags),
		}}
	}
	return &kmsapi.EntityOutput{Role: &kmsapi.Role{
		Path: e.Path, RoleName: e.Name, RoleID: e.ID, Arn: e.ARN(), CreateDate: e.CreatedAt,
		AssumeRolePolicyDocument: e.Trust.Text, Description: e.Description, MaxSessionDuration: e.MaxSession,
		PermissionsBoundary: boundary, Tags: showTags(e.Tags),
	}}
}
