package keysvc

import (
	"context"
	"slices"
	"strings"

	"kmsfs.dev/kmsfs/keysvc/internal/identity"
	"kmsfs.dev/kmsfs/keysvc/internal/policy"
	"kmsfs.dev/kmsfs/keysvc/internal/store"
	"kmsfs.dev/kmsfs/keysvc/kmsapi"
)

// CreatePolicy makes a managed policy, which nobody has yet.
func (s *Service) CreatePolicy(_ context.Context, caller Caller, in *kmsapi.CreatePolicyInput) (*kmsapi.PolicyOutput, error) {
	var v violations
	v.iamPolicyName(in.PolicyName)
	v.path(in.Path)
	v.text(in.PolicyDocument, "policyDocument", maxPolicyText)
	v.longText(in.Description, "description", identity.MaxPolicyDescription)
	v.entityTags(in.Tags)
	if err := v.err(); err != nil {
		return nil, err
	}
	tags, err := tagsOf(in.Tags)
	if err != nil {
		return nil, err
	}
	path := "/"
	if in.Path != nil {
		path = *in.Path
	}
	s.changing.Lock()
	defer s.changing.Unlock()
	out := new(kmsapi.PolicyOutput)
	arn := identity.PolicyARN(caller.Account, path, in.PolicyName)
	conditions := func(c *policy.Context) { setEntityTags(c, in.Tags) }
	err = s.performIAM(caller, iamAction(kmsapi.OpCreatePolicy), arn, conditions, func() error {
		if _, err := checkPolicy(policy.IdentityPolicy, in.PolicyDocument); err != nil {
			return err
		}
		if err := s.identities.RoomForPolicy(caller.Account, in.PolicyName); err != nil {
			return err
		}
		p, err := identity.NewPolicy(caller.Account, path, in.PolicyName, in.PolicyDocument, s.eventTime())
		if err != nil {
			return err
		}
		p.Description, p.Tags = in.Description, tags
		if err := s.putPolicy(p); err != nil {
			return err
		}
		s.log.Info("created", "policy", arn, "principal", caller.ARN)
		out.Policy = s.showPolicy(p)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// onPolicy performs an action on a managed policy of the caller's account. As with
// entities, that there is none is told only to those who may do it.
func (s *Service) onPolicy(caller Caller, op, arn string, do func(*identity.Policy) error) error {
	var v violations
	v.policyARN(arn, "policyArn")
	if err := v.err(); err != nil {
		return err
	}
	if !strings.HasPrefix(arn, identity.ARN(caller.Account, "policy/")) {
		return errorf(kmsapi.CodeInvalidInput, "ARN %s is not valid.", arn)
	}
	p := s.identities.Policy(arn)
	conditions := func(c *policy.Context) {
		if p == nil {
			return
		}
		for _, t := range p.Tags {
			c.Set("aws:ResourceTag/"+t.Key, t.Value)
		}
	}
	return s.performIAM(caller, iamAction(op), arn, conditions, func() error {
		if p == nil {
			return identity.NoSuchPolicy(arn)
		}
		return do(p)
	})
}

// changePolicy is onPolicy for an action that changes it.
func (s *Service) changePolicy(caller Caller, op, arn string, change func(*identity.Policy) (*identity.Policy, error)) error {
	s.changing.Lock()
	defer s.changing.Unlock()
	return s.onPolicy(caller, op, arn, func(p *identity.Policy) error {
		changed, err := change(p)
		if err != nil {
			return err
		}
		return s.putPolicy(changed)
	})
}

// GetPolicy returns what is known of a managed policy, without its text.
func (s *Service) GetPolicy(_ context.Context, caller Caller, in *kmsapi.PolicyArnInput) (*kmsapi.PolicyOutput, error) {
	out := new(kmsapi.PolicyOutput)
	err := s.onPolicy(caller, kmsapi.OpGetPolicy, in.PolicyArn, func(p *identity.Policy) error {
		out.Policy = s.showPolicy(p)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// ListPolicies returns a page of the managed policies of the caller's account.
func (s *Service) ListPolicies(_ context.Context, caller Caller, in *kmsapi.ListPoliciesInput) (*kmsapi.ListPoliciesOutput, error) {
	var v violations
	v.paging(in.Marker, in.MaxItems)
	v.pathPrefix(in.PathPrefix)
	if err := v.err(); err != nil {
		return nil, err
	}
	prefix := "/"
	if in.PathPrefix != nil {
		prefix = *in.PathPrefix
	}
	out := &kmsapi.ListPoliciesOutput{Policies: []kmsapi.ManagedPolicy{}}
	err := s.performIAM(caller, iamAction(kmsapi.OpListPolicies), identity.ARN(caller.Account, "policy"+prefix), nil, func() error {
		all := slices.DeleteFunc(s.identities.Policies(caller.Account), func(p *identity.Policy) bool {
			if !strings.HasPrefix(p.Path, prefix) {
				return true
			}
			attached, _ := s.identities.Usage(p.ARN())
			return in.OnlyAttached && attached == 0
		})
		list, next, err := page(all, func(p *identity.Policy) string { return p.Name }, in.MaxItems, iamItems, in.Marker)
		for _, p := range list {
			out.Policies = append(out.Policies, s.showPolicy(p))
		}
		out.Marker, out.IsTruncated = next, next != ""
		return err
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// DeletePolicy removes a managed policy that nobody has any more.
func (s *Service) DeletePolicy(_ context.Context, caller Caller, in *kmsapi.PolicyArnInput) (*kmsapi.Empty, error) {
	s.changing.Lock()
	defer s.changing.Unlock()
	err := s.onPolicy(caller, kmsapi.OpDeletePolicy, in.PolicyArn, func(p *identity.Policy) error {
		if attached, boundaries := s.identities.Usage(in.PolicyArn); attached+boundaries > 0 {
			return errorf(kmsapi.CodeDeleteConflict, "Cannot delete a policy attached to entities.")
		}
		if err := p.Deletable(); err != nil {
			return err
		}
		if err := s.db.Update(func(tx store.SealedTx) error { return tx.Delete(policyRecordName(p.ID)) }); err != nil {
			return err
		}
		s.identities.DeletePolicy(in.PolicyArn)
		s.log.Info("deleted", "policy", in.PolicyArn, "principal", caller.ARN)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &kmsapi.Empty{}, nil
}

// CreatePolicyVersion adds a version to a managed policy.
func (s *Service) CreatePolicyVersion(_ context.Context, caller Caller, in *kmsapi.CreateVersionInput) (*kmsapi.PolicyVersionOutput, error) {
	var v violations
	v.text(in.PolicyDocument, "policyDocument", maxPolicyText)
	if err := v.err(); err != nil {
		return nil, err
	}
	out := new(kmsapi.PolicyVersionOutput)
	err := s.changePolicy(caller, kmsapi.OpCreateVersion, in.PolicyArn, func(p *identity.Policy) (*identity.Policy, error) {
		if _, err := checkPolicy(policy.IdentityPolicy, in.PolicyDocument); err != nil {
			return nil, err
		}
		changed, err := p.WithVersion(in.PolicyDocument, in.SetAsDefault, s.eventTime())
		if err != nil {
			return nil, err
		}
		out.PolicyVersion = showVersion(changed, changed.Versions[len(changed.Versions)-1])
		out.PolicyVersion.Document = "" // the caller has it
		return changed, nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// GetPolicyVersion returns the text of a version.
func (s *Service) GetPolicyVersion(_ context.Context, caller Caller, in *kmsapi.PolicyVersionInput) (*kmsapi.PolicyVersionOutput, error) {
	var v violations
	v.text(in.VersionID, "versionId", identity.MaxName)
	if err := v.err(); err != nil {
		return nil, err
	}
	out := new(kmsapi.PolicyVersionOutput)
	err := s.onPolicy(caller, kmsapi.OpGetVersion, in.PolicyArn, func(p *identity.Policy) error {
		version, err := p.NamedVersion(in.VersionID)
		out.PolicyVersion = showVersion(p, version)
		return err
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// ListPolicyVersions returns the versions of a managed policy, as a page.
func (s *Service) ListPolicyVersions(_ context.Context, caller Caller, in *kmsapi.ListVersionsInput) (*kmsapi.ListVersionsOutput, error) {
	var v violations
	v.paging(in.Marker, in.MaxItems)
	if err := v.err(); err != nil {
		return nil, err
	}
	out := &kmsapi.ListVersionsOutput{Versions: []kmsapi.PolicyVersion{}}
	err := s.onPolicy(caller, kmsapi.OpListVersions, in.PolicyArn, func(p *identity.Policy) error {
		byID := slices.SortedFunc(slices.Values(p.Versions), func(a, b identity.Version) int { return strings.Compare(a.ID, b.ID) })
		list, next, err := page(byID, func(v identity.Version) string { return v.ID }, in.MaxItems, iamItems, in.Marker)
		for _, version := range list {
			shown := showVersion(p, version)
			shown.Document = ""
			out.Versions = append(out.Versions, shown)
		}
		out.Marker, out.IsTruncated = next, next != ""
		return err
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// SetDefaultPolicyVersion chooses the version that counts.
func (s *Service) SetDefaultPolicyVersion(_ context.Context, caller Caller, in *kmsapi.PolicyVersionInput) (*kmsapi.Empty, error) {
	return s.changeVersion(caller, kmsapi.OpDefaultVersion, in, func(p *identity.Policy) (*identity.Policy, error) {
		return p.WithDefault(in.VersionID, s.eventTime())
	})
}

// DeletePolicyVersion removes a version that does not count.
func (s *Service) DeletePolicyVersion(_ context.Context, caller Caller, in *kmsapi.PolicyVersionInput) (*kmsapi.Empty, error) {
	return s.changeVersion(caller, kmsapi.OpDeleteVersion, in, func(p *identity.Policy) (*identity.Policy, error) {
		return p.WithoutVersion(in.VersionID, s.eventTime())
	})
}

func (s *Service) changeVersion(caller Caller, op string, in *kmsapi.PolicyVersionInput, change func(*identity.Policy) (*identity.Policy, error)) (*kmsapi.Empty, error) {
	var v violations
	v.text(in.VersionID, "versionId", identity.MaxName)
	if err := v.err(); err != nil {
		return nil, err
	}
	if err := s.changePolicy(caller, op, in.PolicyArn, change); err != nil {
		return nil, err
	}
	return &kmsapi.Empty{}, nil
}

func (s *Service) showPolicy(p *identity.Policy) kmsapi.ManagedPolicy {
	attached, boundaries := s.identities.Usage(p.ARN())
	return kmsapi.ManagedPolicy{
		PolicyName: p.Name, PolicyID: p.ID, Arn: p.ARN(), Path: p.Path, DefaultVersionID: p.Default,
		AttachmentCount: attached, PermissionsBoundaryUsageCount: boundaries, IsAttachable: true,
		Description: p.Description, CreateDate: p.CreatedAt, UpdateDate: p.UpdatedAt, Tags: showTags(p.Tags),
	}
}

func showVersion(p *identity.Policy, v identity.Version) kmsapi.PolicyVersion {
	return kmsapi.PolicyVersion{Document: v.Text, VersionID: v.ID, IsDefaultVersion: v.ID == p.Default, CreateDate: v.CreatedAt}
}
