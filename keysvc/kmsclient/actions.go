package kmsclient

import (
	"context"
	"errors"
	"net/url"

	"kmsfs.dev/kmsfs/keysvc/kmsapi"
)

// plain strips the made-up URL that net/http puts before an error.
func plain(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

// CreateKey makes a KMS key.
func (c *Client) CreateKey(ctx context.Context, in *kmsapi.CreateKeyInput) (*kmsapi.CreateKeyOutput, error) {
	return call[kmsapi.CreateKeyOutput](ctx, c, kmsapi.OpCreateKey, in)
}

// DescribeKey returns a key's metadata. keyID is any of its names.
func (c *Client) DescribeKey(ctx context.Context, keyID string) (*kmsapi.KeyMetadata, error) {
	out, err := call[kmsapi.DescribeKeyOutput](ctx, c, kmsapi.OpDescribeKey, &kmsapi.DescribeKeyInput{KeyID: keyID})
	if err != nil {
		return nil, err
	}
	return &out.KeyMetadata, nil
}

// ListKeys returns one page.
func (c *Client) ListKeys(ctx context.Context, in *kmsapi.ListKeysInput) (*kmsapi.ListKeysOutput, error) {
	return call[kmsapi.ListKeysOutput](ctx, c, kmsapi.OpListKeys, in)
}

// AllKeys returns all pages.
func (c *Client) AllKeys(ctx context.Context) ([]kmsapi.KeyListEntry, error) {
	limit := 1000
	in := kmsapi.ListKeysInput{Limit: &limit}
	all := []kmsapi.KeyListEntry{}
	for {
		out, err := c.ListKeys(ctx, &in)
		if err != nil {
			return nil, err
		}
		all = append(all, out.Keys...)
		if !out.Truncated {
			return all, nil
		}
		in.Marker = &out.NextMarker
	}
}

// EnableKey makes a disabled key usable.
func (c *Client) EnableKey(ctx context.Context, keyID string) error {
	_, err := call[kmsapi.Empty](ctx, c, kmsapi.OpEnableKey, &kmsapi.KeyIDInput{KeyID: keyID})
	return err
}

// DisableKey makes a key unusable.
func (c *Client) DisableKey(ctx context.Context, keyID string) error {
	_, err := call[kmsapi.Empty](ctx, c, kmsapi.OpDisableKey, &kmsapi.KeyIDInput{KeyID: keyID})
	return err
}

// CreateAlias gives a key another name, alias/....
func (c *Client) CreateAlias(ctx context.Context, alias, keyID string) error {
	_, err := call[kmsapi.Empty](ctx, c, kmsapi.OpCreateAlias, &kmsapi.AliasInput{AliasName: alias, TargetKeyID: keyID})
	return err
}

// UpdateAlias points an alias at another key.
func (c *Client) UpdateAlias(ctx context.Context, alias, keyID string) error {
	_, err := call[kmsapi.Empty](ctx, c, kmsapi.OpUpdateAlias, &kmsapi.AliasInput{AliasName: alias, TargetKeyID: keyID})
	return err
}

// DeleteAlias removes an alias.
func (c *Client) DeleteAlias(ctx context.Context, alias string) error {
	_, err := call[kmsapi.Empty](ctx, c, kmsapi.OpDeleteAlias, &kmsapi.DeleteAliasInput{AliasName: alias})
	return err
}

// ListAliases returns one page.
func (c *Client) ListAliases(ctx context.Context, in *kmsapi.ListAliasesInput) (*kmsapi.ListAliasesOutput, error) {
	return call[kmsapi.ListAliasesOutput](ctx, c, kmsapi.OpListAliases, in)
}

// AllAliases returns all pages; with a keyID, of that key only.
func (c *Client) AllAliases(ctx context.Context, keyID string) ([]kmsapi.AliasListEntry, error) {
	limit := 100
	in := kmsapi.ListAliasesInput{Limit: &limit}
	if keyID != "" {
		in.KeyID = &keyID
	}
	all := []kmsapi.AliasListEntry{}
	for {
		out, err := c.ListAliases(ctx, &in)
		if err != nil {
			return nil, err
		}
		all = append(all, out.Aliases...)
		if !out.Truncated {
			return all, nil
		}
		in.Marker = &out.NextMarker
	}
}
