package keysvc_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"

	"kmsfs.dev/kmsfs/keysvc/keysvctest"
)

func createAlias(t *testing.T, c *kms.Client, name, id string) error {
	t.Helper()
	_, err := c.CreateAlias(t.Context(), &kms.CreateAliasInput{AliasName: &name, TargetKeyId: &id})
	return err
}

func TestAliasNames(t *testing.T) {
	c := sdk(keysvctest.NewServer(t))
	id := newKey(t, c)
	for name, code := range map[string]string{
		"alias/a":                           "",
		"alias/A-b_c/d9":                    "",
		"alias/awsome":                      "",
		"alias/" + strings.Repeat("n", 250): "",
		"alias/" + strings.Repeat("n", 251): "ValidationException",
		"alias/":                            "InvalidAliasNameException",
		"name":                              "ValidationException",
		"Alias/x":                           "ValidationException",
		"alias/a b":                         "ValidationException",
		"alias/é":                           "ValidationException",
		"alias/a:b":                         "InvalidAliasNameException",
		"alias/aws/ebs":                     "NotAuthorizedException",
	} {
		err := createAlias(t, c, name, id)
		if code == "" && err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if code != "" {
			refused(t, err, code)
		}
	}
	says(t, createAlias(t, c, "alias/a", id), "AlreadyExistsException", "An alias with the name "+arnPrefix+"alias/a already exists")
	refused(t, createAlias(t, c, "alias/b", unknownID), "NotFoundException")
	refused(t, createAlias(t, c, "alias/b", "alias/a"), "ValidationException")
	refused(t, createAlias(t, c, "alias/b", arnPrefix+"alias/a"), "ValidationException")
	_, err := c.DeleteAlias(t.Context(), &kms.DeleteAliasInput{AliasName: aws.String("alias/none")})
	says(t, err, "NotFoundException", "Alias "+arnPrefix+"alias/none is not found.")
	_, err = c.UpdateAlias(t.Context(), &kms.UpdateAliasInput{AliasName: aws.String("alias/none"), TargetKeyId: &id})
	refused(t, err, "NotFoundException")
	_, err = c.DeleteAlias(t.Context(), &kms.DeleteAliasInput{AliasName: aws.String("alias/aws/s3")})
	refused(t, err, "NotAuthorizedException")
}

func TestAliasLifeAndDates(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	srv := keysvctest.NewServer(t, keysvctest.WithClock(func() time.Time { return now }))
	c := sdk(srv)
	one, two := newKey(t, c), newKey(t, c)
	if err := createAlias(t, c, "alias/a", arnPrefix+"key/"+one); err != nil {
		t.Fatal(err)
	}
	enc, err := c.Encrypt(t.Context(), &kms.EncryptInput{KeyId: aws.String("alias/a"), Plaintext: []byte("p")})
	if err != nil || *enc.KeyId != arnPrefix+"key/"+one {
		t.Fatalf("Encrypt under the alias: %v, %v", enc, err)
	}
	created := now
	now = now.Add(time.Hour)
	if _, err := c.UpdateAlias(t.Context(), &kms.UpdateAliasInput{AliasName: aws.String("alias/a"), TargetKeyId: &two}); err != nil {
		t.Fatal(err)
	}
	out, err := c.ListAliases(t.Context(), &kms.ListAliasesInput{KeyId: &two})
	if err != nil || len(out.Aliases) != 1 || out.Truncated {
		t.Fatalf("ListAliases: %v, %v", out, err)
	}
	if a := out.Aliases[0]; *a.AliasName != "alias/a" || *a.AliasArn != arnPrefix+"alias/a" || *a.TargetKeyId != two ||
		!a.CreationDate.Equal(created) || !a.LastUpdatedDate.Equal(now) {
		t.Errorf("the alias is %+v", a)
	}
	if out, err := c.ListAliases(t.Context(), &kms.ListAliasesInput{KeyId: &one}); err != nil || len(out.Aliases) != 0 {
		t.Errorf("the alias left its key behind: %v, %v", out, err)
	}
	// A blob names the key, not the alias; the alias as expected key is another one now.
	if _, err := c.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: enc.CiphertextBlob}); err != nil {
		t.Error(err)
	}
	_, err = c.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: enc.CiphertextBlob, KeyId: aws.String("alias/a")})
	refused(t, err, "IncorrectKeyException")
	if _, err := c.DeleteAlias(t.Context(), &kms.DeleteAliasInput{AliasName: aws.String("alias/a")}); err != nil {
		t.Fatal(err)
	}
	srv.Stop() // deleted stays deleted
	srv.Start()
	_, err = c.DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: aws.String("alias/a")})
	refused(t, err, "NotFoundException")
}

func TestAliasLimitsAndPages(t *testing.T) {
	c := sdk(keysvctest.NewServer(t))
	one, two := newKey(t, c), newKey(t, c)
	for i := range 50 {
		if err := createAlias(t, c, fmt.Sprintf("alias/a%02d", i), one); err != nil {
			t.Fatal(err)
		}
	}
	refused(t, createAlias(t, c, "alias/a50", one), "LimitExceededException")
	if err := createAlias(t, c, "alias/a50", two); err != nil {
		t.Fatal(err)
	}
	_, err := c.UpdateAlias(t.Context(), &kms.UpdateAliasInput{AliasName: aws.String("alias/a50"), TargetKeyId: &one})
	refused(t, err, "LimitExceededException")
	// An alias may be pointed at the key it points at, full or not.
	if _, err := c.UpdateAlias(t.Context(), &kms.UpdateAliasInput{AliasName: aws.String("alias/a00"), TargetKeyId: &one}); err != nil {
		t.Error(err)
	}

	out, err := c.ListAliases(t.Context(), &kms.ListAliasesInput{})
	if err != nil || len(out.Aliases) != 50 || !out.Truncated {
		t.Fatalf("the normal page: %d, %v", len(out.Aliases), err)
	}
	// A marker survives the alias that it names.
	if _, err := c.DeleteAlias(t.Context(), &kms.DeleteAliasInput{AliasName: out.Aliases[49].AliasName}); err != nil {
		t.Fatal(err)
	}
	rest, err := c.ListAliases(t.Context(), &kms.ListAliasesInput{Marker: out.NextMarker})
	if err != nil || len(rest.Aliases) != 1 || *rest.Aliases[0].AliasName != "alias/a50" || rest.Truncated || rest.NextMarker != nil {
		t.Errorf("the next page: %+v, %v", rest, err)
	}
	if out, err := c.ListAliases(t.Context(), &kms.ListAliasesInput{Limit: aws.Int32(100)}); err != nil || len(out.Aliases) != 50 {
		t.Errorf("limit 100: %v", err)
	}
	for _, limit := range []int32{0, 101} {
		_, err := c.ListAliases(t.Context(), &kms.ListAliasesInput{Limit: &limit})
		refused(t, err, "ValidationException")
	}
}
