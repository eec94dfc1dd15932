package kmsclient

import (
	"context"

	"kmsfs.dev/kmsfs/keysvc/kmsapi"
)

// Attach gives a managed policy to a user or a role.
func (i Identity) Attach(ctx context.Context, kind, name, policyARN string) error {
	return i.do(ctx, kmsapi.OpAttach(kind), kmsapi.AttachInput{EntityName: kmsapi.NameOf(kind, name), PolicyArn: policyARN})
}

// Detach takes it away.
func (i Identity) Detach(ctx context.Context, kind, name, policyARN string) error {
	return i.do(ctx, kmsapi.OpDetach(kind), kmsapi.AttachInput{EntityName: kmsapi.NameOf(kind, name), PolicyArn: policyARN})
}

// AllAttached returns the managed policies of a user or a role.
func (i Identity) AllAttached(ctx context.Context, kind, name string) ([]kmsapi.AttachedPolicy, error) {
	return all(func(marker *string) ([]kmsapi.AttachedPolicy, string, error) {
		out, err := iam[kmsapi.ListAttachedOutput](ctx, i, kmsapi.OpListAttached(kind), kmsapi.ListOfEntityInput{EntityName: kmsapi.NameOf(kind, name), Marker: marker})
		if err != nil {
			return nil, "", err
		}
		return out.AttachedPolicies, out.Marker, nil
	})
}

// PutInline gives a user or a role a policy of its own.
func (i Identity) PutInline(ctx context.Context, kind, name, policyName, document string) error {
	return i.do(ctx, kmsapi.OpPutInline(kind), kmsapi.PutInlineInput{EntityName: kmsapi.NameOf(kind, name), PolicyName: policyName, PolicyDocument: document})
}

// GetInline returns it.
func (i Identity) GetInline(ctx context.Context, kind, name, policyName string) (*kmsapi.GetInlineOutput, error) {
	return iam[kmsapi.GetInlineOutput](ctx, i, kmsapi.OpGetInline(kind), kmsapi.InlineInput{EntityName: kmsapi.NameOf(kind, name), PolicyName: policyName})
}

// DeleteInline removes it.
func (i Identity) DeleteInline(ctx context.Context, kind, name, policyName string) error {
	return i.do(ctx, kmsapi.OpDeleteInline(kind), kmsapi.InlineInput{EntityName: kmsapi.NameOf(kind, name), PolicyName: policyName})
}

// AllInline returns the names of such policies of a user or a role.
func (i Identity) AllInline(ctx context.Context, kind, name string) ([]string, error) {
	return all(func(marker *string) ([]string, string, error) {
		out, err := iam[kmsapi.ListInlineOutput](ctx, i, kmsapi.OpListInline(kind), kmsapi.ListOfEntityInput{EntityName: kmsapi.NameOf(kind, name), Marker: marker})
		if err != nil {
			return nil, "", err
		}
		return out.PolicyNames, out.Marker, nil
	})
}

// CreatePolicy makes a managed policy.
func (i Identity) CreatePolicy(ctx context.Context, in *kmsapi.CreatePolicyInput) (*kmsapi.PolicyOutput, error) {
	return iam[kmsapi.PolicyOutput](ctx, i, kmsapi.OpCreatePolicy, in)
}

// GetPolicy describes a managed policy.
func (i Identity) GetPolicy(ctx context.Context, arn string) (*kmsapi.PolicyOutput, error) {
	return iam[kmsapi.PolicyOutput](ctx, i, kmsapi.OpGetPolicy, kmsapi.PolicyArnInput{PolicyArn: arn})
}

// DeletePolicy removes a managed policy that nobody has.
func (i Identity) DeletePolicy(ctx context.Context, arn string) error {
	return i.do(ctx, kmsapi.OpDeletePolicy, kmsapi.PolicyArnInput{PolicyArn: arn})
}

// AllPolicies returns all managed policies.
func (i Identity) AllPolicies(ctx context.Context) ([]kmsapi.ManagedPolicy, error) {
	return all(func(marker *string) ([]kmsapi.ManagedPolicy, string, error) {
		out, err := iam[kmsapi.ListPoliciesOutput](ctx, i, kmsapi.OpListPolicies, kmsapi.ListPoliciesInput{Marker: marker})
		if err != nil {
			return nil, "", err
		}
		return out.Policies, out.Marker, nil
	})
}

// CreatePolicyVersion changes a managed policy: the new version counts at once.
func (i Identity) CreatePolicyVersion(ctx context.Context, arn, document string) (*kmsapi.PolicyVersionOutput, error) {
	return iam[kmsapi.PolicyVersionOutput](ctx, i, kmsapi.OpCreateVersion, kmsapi.CreateVersionInput{PolicyArn: arn, PolicyDocument: document, SetAsDefault: true})
}

// GetPolicyVersion returns a version with its text.
func (i Identity) GetPolicyVersion(ctx context.Context, arn, id string) (*kmsapi.PolicyVersionOutput, error) {
	return iam[kmsapi.PolicyVersionOutput](ctx, i, kmsapi.OpGetVersion, kmsapi.PolicyVersionInput{PolicyArn: arn, VersionID: id})
}

// AllPolicyVersions returns the versions of a managed policy, without their texts.
func (i Identity) AllPolicyVersions(ctx context.Context, arn string) ([]kmsapi.PolicyVersion, error) {
	return all(func(marker *string) ([]kmsapi.PolicyVersion, string, error) {
		out, err := iam[kmsapi.ListVersionsOutput](ctx, i, kmsapi.OpListVersions, kmsapi.ListVersionsInput{PolicyArn: arn, Marker: marker})
		if err != nil {
			return nil, "", err
		}
		return out.Versions, out.Marker, nil
	})
}

// SetDefaultPolicyVersion chooses the version that counts.
func (i Identity) SetDefaultPolicyVersion(ctx context.Context, arn, id string) error {
	return i.do(ctx, kmsapi.OpDefaultVersion, kmsapi.PolicyVersionInput{PolicyArn: arn, VersionID: id})
}

// DeletePolicyVersion removes one that does not count.
func (i Identity) DeletePolicyVersion(ctx context.Context, arn, id string) error {
	return i.do(ctx, kmsapi.OpDeleteVersion, kmsapi.PolicyVersionInput{PolicyArn: arn, VersionID: id})
}
