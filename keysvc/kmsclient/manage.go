package kmsclient

import (
	"context"
	"time"

	"kmsfs.dev/kmsfs/keysvc/kmsapi"
)

// UpdateKeyDescription replaces a key's description.
func (c *Client) UpdateKeyDescription(ctx context.Context, keyID, description string) error {
	_, err := call[kmsapi.Empty](ctx, c, kmsapi.OpUpdateKeyDescription, &kmsapi.UpdateKeyDescriptionInput{KeyID: keyID, Description: &description})
	return err
}

// TagResource adds tags to a key, or overwrites them.
func (c *Client) TagResource(ctx context.Context, keyID string, tags []kmsapi.Tag) error {
	_, err := call[kmsapi.Empty](ctx, c, kmsapi.OpTagResource, &kmsapi.TagResourceInput{KeyID: keyID, Tags: tags})
	return err
}

// UntagResource removes tags from a key.
func (c *Client) UntagResource(ctx context.Context, keyID string, names []string) error {
	_, err := call[kmsapi.Empty](ctx, c, kmsapi.OpUntagResource, &kmsapi.UntagResourceInput{KeyID: keyID, TagKeys: names})
	return err
}

// AllTags returns a key's tags.
func (c *Client) AllTags(ctx context.Context, keyID string) ([]kmsapi.Tag, error) {
	in := kmsapi.ListResourceTagsInput{KeyID: keyID}
	all := []kmsapi.Tag{}
	for {
		out, err := call[kmsapi.ListResourceTagsOutput](ctx, c, kmsapi.OpListResourceTags, &in)
		if err != nil {
			return nil, err
		}
		all = append(all, out.Tags...)
		if !out.Truncated {
			return all, nil
		}
		in.Marker = &out.NextMarker
	}
}

// ScheduleKeyDeletion destroys a key when days have passed.
func (c *Client) ScheduleKeyDeletion(ctx context.Context, keyID string, days int) (*kmsapi.ScheduleKeyDeletionOutput, error) {
	return call[kmsapi.ScheduleKeyDeletionOutput](ctx, c, kmsapi.OpScheduleKeyDeletion,
		&kmsapi.ScheduleKeyDeletionInput{KeyID: keyID, PendingWindowInDays: &days})
}

// CancelKeyDeletion saves a key from that.
func (c *Client) CancelKeyDeletion(ctx context.Context, keyID string) (*kmsapi.CancelKeyDeletionOutput, error) {
	return call[kmsapi.CancelKeyDeletionOutput](ctx, c, kmsapi.OpCancelKeyDeletion, &kmsapi.KeyIDInput{KeyID: keyID})
}

// EnableKeyRotation turns automatic rotation on. 0 days are the service's
// default, or leave the period as it is.
func (c *Client) EnableKeyRotation(ctx context.Context, keyID string, days int) error {
	in := kmsapi.EnableKeyRotationInput{KeyID: keyID}
	if days != 0 {
		in.RotationPeriodInDays = &days
	}
	_, err := call[kmsapi.Empty](ctx, c, kmsapi.OpEnableKeyRotation, &in)
	return err
}

// DisableKeyRotation turns automatic rotation off.
func (c *Client) DisableKeyRotation(ctx context.Context, keyID string) error {
	_, err := call[kmsapi.Empty](ctx, c, kmsapi.OpDisableKeyRotation, &kmsapi.KeyIDInput{KeyID: keyID})
	return err
}

// GetKeyRotationStatus returns the schedule of automatic rotation.
func (c *Client) GetKeyRotationStatus(ctx context.Context, keyID string) (*kmsapi.GetKeyRotationStatusOutput, error) {
	return call[kmsapi.GetKeyRotationStatusOutput](ctx, c, kmsapi.OpGetKeyRotationStatus, &kmsapi.KeyIDInput{KeyID: keyID})
}

// RotateKeyOnDemand gives a key new material now.
func (c *Client) RotateKeyOnDemand(ctx context.Context, keyID string) (*kmsapi.RotateKeyOnDemandOutput, error) {
	return call[kmsapi.RotateKeyOnDemandOutput](ctx, c, kmsapi.OpRotateKeyOnDemand, &kmsapi.KeyIDInput{KeyID: keyID})
}

// AllKeyMaterial returns a key's materials, the first one included, oldest
// first.
func (c *Client) AllKeyMaterial(ctx context.Context, keyID string) ([]kmsapi.RotationsListEntry, error) {
	limit, all := 1000, kmsapi.IncludeAllKeyMaterial
	in := kmsapi.ListKeyRotationsInput{KeyID: keyID, Limit: &limit, IncludeKeyMaterial: &all}
	list := []kmsapi.RotationsListEntry{}
	for {
		out, err := call[kmsapi.ListKeyRotationsOutput](ctx, c, kmsapi.OpListKeyRotations, &in)
		if err != nil {
			return nil, err
		}
		list = append(list, out.Rotations...)
		if !out.Truncated {
			return list, nil
		}
		in.Marker = &out.NextMarker
	}
}

// GetKeyLastUsage tells what a key was last used for.
func (c *Client) GetKeyLastUsage(ctx context.Context, keyID string) (*kmsapi.GetKeyLastUsageOutput, error) {
	return call[kmsapi.GetKeyLastUsageOutput](ctx, c, kmsapi.OpGetKeyLastUsage, &kmsapi.KeyIDInput{KeyID: keyID})
}

// Advance moves the service's simulated clock.
func (c *Client) Advance(ctx context.Context, by time.Duration) (*kmsapi.AdvanceOutput, error) {
	return callAt[kmsapi.AdvanceOutput](ctx, c, endpoint{path: kmsapi.AdvancePath, prefix: kmsapi.TargetPrefix}, kmsapi.OpAdvanceClock, &kmsapi.AdvanceInput{Seconds: int64(by / time.Second)})
}
