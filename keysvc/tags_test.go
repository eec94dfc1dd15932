package keysvc_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"kmsfs.dev/kmsfs/keysvc/keysvctest"
)

func makeTags(from, n int, value string) (list []types.Tag) {
	for i := range n {
		list = append(list, types.Tag{TagKey: aws.String(fmt.Sprintf("k%03d", from+i)), TagValue: &value})
	}
	return list
}

// tagsOf lists a key's tags as key=value, in pages of 7.
func tagsOf(t *testing.T, c *kms.Client, id string) (list []string) {
	t.Helper()
	p := kms.NewListResourceTagsPaginator(c, &kms.ListResourceTagsInput{KeyId: &id, Limit: aws.Int32(7)})
	for p.HasMorePages() {
		out, err := p.NextPage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, tag := range out.Tags {
			list = append(list, *tag.TagKey+"="+*tag.TagValue)
		}
	}
	return list
}

func TestTags(t *testing.T) {
	srv := keysvctest.NewServer(t)
	c := sdk(srv)
	made, err := c.CreateKey(t.Context(), &kms.CreateKeyInput{Tags: makeTags(1, 2, "made")})
	if err != nil {
		t.Fatal(err)
	}
	id := made.KeyMetadata.KeyId
	add := func(tags ...types.Tag) error {
		_, err := c.TagResource(t.Context(), &kms.TagResourceInput{KeyId: made.KeyMetadata.Arn, Tags: tags})
		return err
	}
	for range 2 { // the second time changes nothing
		if err := add(types.Tag{TagKey: aws.String("k002"), TagValue: aws.String("")}, types.Tag{TagKey: aws.String("K001"), TagValue: aws.String("case")}); err != nil {
			t.Fatal(err)
		}
	}
	srv.Stop()
	srv.Start()
	if got := tagsOf(t, c, *id); !slices.Equal(got, []string{"K001=case", "k001=made", "k002="}) {
		t.Errorf("the tags are %q", got)
	}
	for range 2 {
		if _, err := c.UntagResource(t.Context(), &kms.UntagResourceInput{KeyId: id, TagKeys: []string{"k001", "unknown", "k001"}}); err != nil {
			t.Fatal(err)
		}
	}
	if got := tagsOf(t, c, *id); !slices.Equal(got, []string{"K001=case", "k002="}) {
		t.Errorf("without k001 the tags are %q", got)
	}
	refused(t, add(types.Tag{TagKey: aws.String("Aws:x"), TagValue: aws.String("")}), "TagException")
	refused(t, add(append(makeTags(5, 1, "a"), makeTags(5, 1, "b")...)...), "TagException")
	refused(t, add(types.Tag{TagKey: aws.String(strings.Repeat("k", 129)), TagValue: aws.String("")}), "ValidationException")
	refused(t, add(types.Tag{TagKey: aws.String("k"), TagValue: aws.String(strings.Repeat("v", 257))}), "ValidationException")
	_, err = c.UntagResource(t.Context(), &kms.UntagResourceInput{KeyId: id, TagKeys: []string{"aws:x"}})
	refused(t, err, "TagException")
	_, err = c.UntagResource(t.Context(), &kms.UntagResourceInput{KeyId: id, TagKeys: []string{""}})
	refused(t, err, "ValidationException")
	_, err = c.UntagResource(t.Context(), &kms.UntagResourceInput{KeyId: id, TagKeys: []string{strings.Repeat("k", 129)}})
	refused(t, err, "ValidationException")
	if got := tagsOf(t, c, *id); len(got) != 2 {
		t.Errorf("refused changes left %q", got)
	}
	if err := add(types.Tag{TagKey: aws.String(strings.Repeat("é", 128)), TagValue: aws.String(strings.Repeat("é", 256))}); err != nil {
		t.Error(err)
	}
}

func TestTagLimits(t *testing.T) {
	c := sdk(keysvctest.NewServer(t))
	id := newKey(t, c)
	add := func(tags []types.Tag) error {
		_, err := c.TagResource(t.Context(), &kms.TagResourceInput{KeyId: &id, Tags: tags})
		return err
	}
	refused(t, add(makeTags(0, 51, "")), "TagException")
	if err := add(makeTags(0, 50, "first")); err != nil {
		t.Fatal(err)
	}
	refused(t, add(makeTags(50, 1, "")), "LimitExceededException")
	refused(t, add(makeTags(49, 2, "")), "LimitExceededException")
	if err := add(makeTags(0, 50, "second")); err != nil { // all overwritten
		t.Error(err)
	}
	all := tagsOf(t, c, id)
	if len(all) != 50 || all[0] != "k000=second" || all[49] != "k049=second" || !slices.IsSorted(all) {
		t.Errorf("the tags are %q", all)
	}
	for _, limit := range []int32{1, 49, 50} {
		out, err := c.ListResourceTags(t.Context(), &kms.ListResourceTagsInput{KeyId: &id, Limit: &limit})
		if err != nil || len(out.Tags) != int(limit) || out.Truncated != (limit < 50) || (out.NextMarker != nil) != out.Truncated {
			t.Errorf("limit %d: %+v, %v", limit, out, err)
		}
	}
	out, err := c.ListResourceTags(t.Context(), &kms.ListResourceTagsInput{KeyId: &id})
	if err != nil || len(out.Tags) != 50 || out.Truncated {
		t.Errorf("the normal page: %v", err)
	}
	for _, limit := range []int32{0, 51} {
		_, err := c.ListResourceTags(t.Context(), &kms.ListResourceTagsInput{KeyId: &id, Limit: &limit})
		refused(t, err, "ValidationException")
	}
	_, err = c.ListResourceTags(t.Context(), &kms.ListResourceTagsInput{KeyId: &id, Marker: aws.String("made up")})
	refused(t, err, "InvalidMarkerException")
	untagged, err := c.ListResourceTags(t.Context(), &kms.ListResourceTagsInput{KeyId: aws.String(newKey(t, c))})
	if err != nil || len(untagged.Tags) != 0 {
		t.Errorf("an untagged key: %v, %v", untagged, err)
	}
}

func TestUpdateKeyDescription(t *testing.T) {
	srv := keysvctest.NewServer(t)
	c := sdk(srv)
	id := newKey(t, c)
	for _, text := range []string{"new", strings.Repeat("é", 8192), ""} {
		if _, err := c.UpdateKeyDescription(t.Context(), &kms.UpdateKeyDescriptionInput{KeyId: &id, Description: &text}); err != nil {
			t.Fatal(err)
		}
		srv.Stop()
		srv.Start()
		if got := describe(t, c, id); *got.Description != text {
			t.Errorf("the description is %q", *got.Description)
		}
	}
	_, err := c.UpdateKeyDescription(t.Context(), &kms.UpdateKeyDescriptionInput{KeyId: &id, Description: aws.String(strings.Repeat("d", 8193))})
	refused(t, err, "ValidationException")
}

func describe(t *testing.T, c *kms.Client, id string) *types.KeyMetadata {
	t.Helper()
	out, err := c.DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: &id})
	if err != nil {
		t.Fatal(err)
	}
	return out.KeyMetadata
}
