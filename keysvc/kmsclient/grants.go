package kmsclient

import (
	"context"

	"kmsfs.dev/kmsfs/keysvc/kmsapi"
)

// CreateGrant lets a principal use a key.
func (c *Client) CreateGrant(ctx context.Context, in *kmsapi.CreateGrantInput) (*kmsapi.CreateGrantOutput, error) {
	return call[kmsapi.CreateGrantOutput](ctx, c, kmsapi.OpCreateGrant, in)
}

// AllGrants returns the grants on a key; with a grantee, that one's.
func (c *Client) AllGrants(ctx context.Context, keyID, grantee string) ([]kmsapi.GrantListEntry, error) {
	in := kmsapi.ListGrantsInput{KeyID: keyID}
	if grantee != "" {
		in.GranteePrincipal = &grantee
	}
	return allGrants(func(limit *int, marker *string) (*kmsapi.ListGrantsOutput, error) {
		in.Limit, in.Marker = limit, marker
		return call[kmsapi.ListGrantsOutput](ctx, c, kmsapi.OpListGrants, &in)
	})
}

// AllRetirableGrants returns the grants that have a principal as their retiring
// principal.
func (c *Client) AllRetirableGrants(ctx context.Context, principal string) ([]kmsapi.GrantListEntry, error) {
	in := kmsapi.ListRetirableGrantsInput{RetiringPrincipal: principal}
	return allGrants(func(limit *int, marker *string) (*kmsapi.ListGrantsOutput, error) {
		in.Limit, in.Marker = limit, marker
		return call[kmsapi.ListGrantsOutput](ctx, c, kmsapi.OpListRetirableGrants, &in)
	})
}

func allGrants(page func(limit *int, marker *string) (*kmsapi.ListGrantsOutput, error)) ([]kmsapi.GrantListEntry, error) {
	limit := 100
	all := []kmsapi.GrantListEntry{}
	for marker := (*string)(nil); ; {
		out, err := page(&limit, marker)
		if err != nil {
			return nil, err
		}
		all = append(all, out.Grants...)
		if !out.Truncated {
			return all, nil
		}
		marker = &out.NextMarker
	}
}

// RetireGrant deletes a grant by right of the grant.
func (c *Client) RetireGrant(ctx context.Context, in *kmsapi.RetireGrantInput) error {
	_, err := call[kmsapi.Empty](ctx, c, kmsapi.OpRetireGrant, in)
	return err
}

// RevokeGrant deletes a grant by right of the key's policy.
func (c *Client) RevokeGrant(ctx context.Context, in *kmsapi.RevokeGrantInput) error {
	_, err := call[kmsapi.Empty](ctx, c, kmsapi.OpRevokeGrant, in)
	return err
}
