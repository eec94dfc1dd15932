package keysvc

import (
	"slices"
	"strings"

	"kmsfs.dev/kmsfs/keysvc/internal/identity"
	"kmsfs.dev/kmsfs/keysvc/internal/policy"
	"kmsfs.dev/kmsfs/keysvc/kmsapi"
)

// What users and roles have: managed and inline policies, a permissions boundary, tags.

// attachable finds a managed policy that entities of account may have: one of their own.
func (s *Service) attachable(account, arn string) (*identity.Policy, error) {
	p := s.identities.Policy(arn)
	if p == nil || p.Account != account {
		return nil, errorf(kmsapi.CodeNoSuchEntity, "Policy %s does not exist or is not attachable.", arn)
	}
	return p, nil
}

func (s *Service) attachPolicy(sub subject, in *kmsapi.AttachInput) (*kmsapi.Empty, error) {
	var v violations
	v.policyARN(in.PolicyArn, "policyArn")
	if err := v.err(); err != nil {
		return nil, err
	}
	return s.changeEntity(sub.given(policyCondition, in.PolicyArn), func(e *identity.Entity) (*identity.Entity, error) {
		if _, err := s.attachable(e.Account, in.PolicyArn); err != nil {
			return nil, err
		}
		return e.WithAttached(in.PolicyArn)
	})
}

func (s *Service) detachPolicy(sub subject, in *kmsapi.AttachInput) (*kmsapi.Empty, error) {
	var v violations
	v.policyARN(in.PolicyArn, "policyArn")
	if err := v.err(); err != nil {
		return nil, err
	}
	return s.changeEntity(sub.given(policyCondition, in.PolicyArn), func(e *identity.Entity) (*identity.Entity, error) { return e.WithoutAttached(in.PolicyArn) })
}

// listOf performs an action that lists something of a user or a role, and cuts the
// page out of it.
func listOf[T any](s *Service, sub subject, in *kmsapi.ListOfEntityInput, of func(*identity.Entity) []T, name func(T) string) (list []T, next string, err error) {
	var v violations
	v.paging(in.Marker, in.MaxItems)
	if err := v.err(); err != nil {
		return nil, "", err
	}
	err = s.onEntity(sub, func(e *identity.Entity) (err error) {
		list, next, err = page(of(e), name, in.MaxItems, iamItems, in.Marker)
		return err
	})
	return list, next, err
}

func (s *Service) listAttached(sub subject, in *kmsapi.ListOfEntityInput) (*kmsapi.ListAttachedOutput, error) {
	list, next, err := listOf(s, sub, in, func(e *identity.Entity) []string { return e.Attached }, func(arn string) string { return arn })
	if err != nil {
		return nil, err
	}
	out := &kmsapi.ListAttachedOutput{AttachedPolicies: []kmsapi.AttachedPolicy{}, Marker: next, IsTruncated: next != ""}
	for _, arn := range list {
		out.AttachedPolicies = append(out.AttachedPolicies, kmsapi.AttachedPolicy{PolicyArn: arn, PolicyName: identity.NameIn(arn)})
	}
	return out, nil
}

func (s *Service) putInline(sub subject, in *kmsapi.PutInlineInput) (*kmsapi.Empty, error) {
	var v violations
	v.iamPolicyName(in.PolicyName)
	v.text(in.PolicyDocument, "policyDocument", maxPolicyText)
	if err := v.err(); err != nil {
		return nil, err
	}
	return s.changeEntity(sub, func(e *identity.Entity) (*identity.Entity, error) {
		if _, err := checkPolicy(policy.IdentityPolicy, in.PolicyDocument); err != nil {
			return nil, err
		}
		return e.WithInline(in.PolicyName, in.PolicyDocument)
	})
}

func (s *Service) getInline(sub subject, in *kmsapi.InlineInput) (*kmsapi.GetInlineOutput, error) {
	var v violations
	v.iamPolicyName(in.PolicyName)
	if err := v.err(); err != nil {
		return nil, err
	}
	out := &kmsapi.GetInlineOutput{EntityName: in.EntityName, PolicyName: in.PolicyName}
	err := s.onEntity(sub, func(e *identity.Entity) error {
		p, err := e.InlineNamed(in.PolicyName)
		out.PolicyDocument = p.Text
		return err
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

func (s *Service) deleteInline(sub subject, in *kmsapi.InlineInput) (*kmsapi.Empty, error) {
	var v violations
	v.iamPolicyName(in.PolicyName)
	if err := v.err(); err != nil {
		return nil, err
	}
	return s.changeEntity(sub, func(e *identity.Entity) (*identity.Entity, error) { return e.WithoutInline(in.PolicyName) })
}

func (s *Service) listInline(sub subject, in *kmsapi.ListOfEntityInput) (*kmsapi.ListInlineOutput, error) {
	list, next, err := listOf(s, sub, in, func(e *identity.Entity) []identity.Inline { return e.Inline }, func(p identity.Inline) string { return p.Name })
	if err != nil {
		return nil, err
	}
	out := &kmsapi.ListInlineOutput{PolicyNames: []string{}, Marker: next, IsTruncated: next != ""}
	for _, p := range list {
		out.PolicyNames = append(out.PolicyNames, p.Name)
	}
	return out, nil
}

func (s *Service) putBoundary(sub subject, in *kmsapi.BoundaryInput) (*kmsapi.Empty, error) {
	var v violations
	v.policyARN(in.PermissionsBoundary, "permissionsBoundary")
	if err := v.err(); err != nil {
		return nil, err
	}
	sub = sub.given(boundaryCondition, in.PermissionsBoundary)
	return s.changeEntity(sub, func(e *identity.Entity) (*identity.Entity, error) {
		if _, err := s.attachable(e.Account, in.PermissionsBoundary); err != nil {
			return nil, err
		}
		return e.WithBoundary(in.PermissionsBoundary)
	})
}

func (s *Service) deleteBoundary(sub subject, _ *kmsapi.EntityInput) (*kmsapi.Empty, error) {
	return s.changeEntity(sub, func(e *identity.Entity) (*identity.Entity, error) { return e.WithBoundary("") })
}

func (s *Service) tagEntity(sub subject, in *kmsapi.TagEntityInput) (*kmsapi.Empty, error) {
	var v violations
	if in.Tags == nil {
		v.add("null", "tags", "Member must not be null")
	}
	v.entityTags(in.Tags)
	if err := v.err(); err != nil {
		return nil, err
	}
	tags, err := tagsOf(in.Tags)
	if err != nil {
		return nil, err
	}
	sub.conditions = func(c *policy.Context) { setEntityTags(c, in.Tags) }
	return s.changeEntity(sub, func(e *identity.Entity) (*identity.Entity, error) { return e.WithTags(tags) })
}

// setEntityTags sets the condition keys for tags that a request gives.
func setEntityTags(c *policy.Context, tags []kmsapi.EntityTag) {
	list := make([]kmsapi.Tag, 0, len(tags))
	for _, t := range tags {
		list = append(list, kmsapi.Tag(t))
	}
	setRequestTags(c, list)
}

func (s *Service) untagEntity(sub subject, in *kmsapi.UntagEntityInput) (*kmsapi.Empty, error) {
	var v violations
	if in.TagKeys == nil {
		v.add("null", "tagKeys", "Member must not be null")
	}
	for _, key := range in.TagKeys {
		v.text(key, "tagKeys", 128)
	}
	if err := v.err(); err != nil {
		return nil, err
	}
	sub.conditions = func(c *policy.Context) { c.SetList("aws:TagKeys", in.TagKeys) }
	return s.changeEntity(sub, func(e *identity.Entity) (*identity.Entity, error) { return e.WithoutTags(in.TagKeys) })
}

func (s *Service) listEntityTags(sub subject, in *kmsapi.ListOfEntityInput) (*kmsapi.ListEntityTagsOutput, error) {
	byKey := func(e *identity.Entity) []identity.Tag {
		return slices.SortedFunc(slices.Values(e.Tags), func(a, b identity.Tag) int { return strings.Compare(a.Key, b.Key) })
	}
	list, next, err := listOf(s, sub, in, byKey, func(t identity.Tag) string { return t.Key })
	if err != nil {
		return nil, err
	}
	return &kmsapi.ListEntityTagsOutput{Tags: showTags(list), Marker: next, IsTruncated: next != ""}, nil
}
