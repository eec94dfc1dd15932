package keysvc_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"

	"kmsfs.dev/kmsfs/keysvc/keysvctest"
)

const otherUID = 54321

// TestOtherUsersAreRefused connects as a user who is neither the owner nor root.
func TestOtherUsersAreRefused(t *testing.T) {
	srv := keysvctest.NewServer(t)
	owner, other := sdk(srv), sdkAs(srv, otherUID)
	id := newKey(t, owner)
	enc, err := owner.Encrypt(t.Context(), &kms.EncryptInput{KeyId: &id, Plaintext: []byte("p")})
	if err != nil {
		t.Fatal(err)
	}
	if err := createAlias(t, owner, "alias/a", id); err != nil {
		t.Fatal(err)
	}
	denied := func(action, resource, why string, err error) {
		t.Helper()
		says(t, err, "AccessDeniedException", fmt.Sprintf(
			"User: arn:aws:iam::000000000000:user/local/54321 is not authorized to perform: kms:%s on resource: %s because no %s-based policy allows the kms:%[1]s action",
			action, resource, why))
	}
	key, ctx := arnPrefix+"key/"+id, t.Context()
	_, err = other.CreateKey(ctx, &kms.CreateKeyInput{})
	denied("CreateKey", "*", "identity", err)
	_, err = other.ListKeys(ctx, &kms.ListKeysInput{})
	denied("ListKeys", "*", "identity", err)
	_, err = other.ListAliases(ctx, &kms.ListAliasesInput{})
	denied("ListAliases", "*", "identity", err)
	_, err = other.GenerateRandom(ctx, &kms.GenerateRandomInput{NumberOfBytes: aws.Int32(1)})
	denied("GenerateRandom", "*", "identity", err)
	_, err = other.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: &id})
	denied("DescribeKey", key, "identity", err)
	_, err = other.DisableKey(ctx, &kms.DisableKeyInput{KeyId: &id})
	denied("DisableKey", key, "identity", err)
	_, err = other.EnableKey(ctx, &kms.EnableKeyInput{KeyId: &id})
	denied("EnableKey", key, "identity", err)
	_, err = other.Encrypt(ctx, &kms.EncryptInput{KeyId: aws.String("alias/a"), Plaintext: []byte("p")})
	denied("Encrypt", key, "identity", err)
	_, err = other.Decrypt(ctx, &kms.DecryptInput{CiphertextBlob: enc.CiphertextBlob})
	denied("Decrypt", key, "identity", err)
	_, err = other.ReEncrypt(ctx, &kms.ReEncryptInput{CiphertextBlob: enc.CiphertextBlob, DestinationKeyId: &id})
	denied("ReEncryptFrom", key, "identity", err)
	_, err = other.GenerateDataKey(ctx, &kms.GenerateDataKeyInput{KeyId: &id, NumberOfBytes: aws.Int32(1)})
	denied("GenerateDataKey", key, "identity", err)
	_, err = other.GenerateDataKeyWithoutPlaintext(ctx, &kms.GenerateDataKeyWithoutPlaintextInput{KeyId: &id, NumberOfBytes: aws.Int32(1)})
	denied("GenerateDataKeyWithoutPlaintext", key, "identity", err)
	_, err = other.CreateAlias(ctx, &kms.CreateAliasInput{AliasName: aws.String("alias/b"), TargetKeyId: &id})
	denied("CreateAlias", key, "identity", err)
	_, err = other.UpdateAlias(ctx, &kms.UpdateAliasInput{AliasName: aws.String("alias/a"), TargetKeyId: &id})
	denied("UpdateAlias", key, "identity", err)
	_, err = other.DeleteAlias(ctx, &kms.DeleteAliasInput{AliasName: aws.String("alias/a")})
	denied("DeleteAlias", key, "identity", err)

	// Authorization comes before the key's state and before the ciphertext.
	if _, err := owner.DisableKey(ctx, &kms.DisableKeyInput{KeyId: &id}); err != nil {
		t.Fatal(err)
	}
	bad := append([]byte(nil), enc.CiphertextBlob...)
	bad[len(bad)-1] ^= 1
	_, err = other.Decrypt(ctx, &kms.DecryptInput{CiphertextBlob: bad})
	denied("Decrypt", key, "identity", err)
}

func TestOwnerWhoIsNotRoot(t *testing.T) {
	srv := keysvctest.NewServer(t, keysvctest.WithOwner(otherUID))
	id := newKey(t, sdkAs(srv, otherUID))
	if _, err := sdk(srv).DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: &id}); err != nil {
		t.Errorf("root: %v", err)
	}
	_, err := sdkAs(srv, otherUID+1).DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: &id})
	refused(t, err, "AccessDeniedException")
}

// post sends a raw request.
func post(t *testing.T, c *http.Client, target, body string) (status int, header http.Header, answer string) {
	t.Helper()
	req, err := http.NewRequest(http.MethodPost, "http://kmsfs.test/", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if target != "" {
		req.Header.Set("X-Amz-Target", target)
	}
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, string(b)
}

func TestWire(t *testing.T) {
	srv := keysvctest.NewServer(t)
	id := newKey(t, sdk(srv))
	c := srv.HTTPClient(uint32(os.Geteuid()))
	deep := strings.Repeat(`[`, 40) + strings.Repeat(`]`, 40)
	for name, tt := range map[string]struct {
		target, body string
		code         string // "" is success
	}{
		"empty body":       {"TrentService.ListKeys", "", ""},
		"unknown member":   {"TrentService.ListKeys", `{"Nothing":{"a":1}}`, ""},
		"other case":       {"TrentService.ListKeys", `{"limit":0}`, ""},
		"null":             {"TrentService.ListKeys", `{"Limit":null}`, ""},
		"not JSON":         {"TrentService.ListKeys", `{`, "SerializationException"},
		"no object":        {"TrentService.ListKeys", `[]`, "SerializationException"},
		"two objects":      {"TrentService.ListKeys", `{}{}`, "SerializationException"},
		"wrong type":       {"TrentService.ListKeys", `{"Limit":"1"}`, "SerializationException"},
		"fraction":         {"TrentService.ListKeys", `{"Limit":1.5}`, "SerializationException"},
		"repeated member":  {"TrentService.DescribeKey", `{"KeyId":"` + id + `","KeyId":"` + id + `"}`, "SerializationException"},
		"escaped repeat":   {"TrentService.DescribeKey", `{"KeyId":"` + id + `","Key\u0049d":"` + id + `"}`, "SerializationException"},
		"repeated context": {"TrentService.GenerateDataKey", `{"KeyId":"` + id + `","KeySpec":"AES_256","EncryptionContext":{"a":"b","a":"c"}}`, "SerializationException"},
		"other case twice": {"TrentService.DescribeKey", `{"KeyId":"` + id + `","keyId":"` + id + `"}`, "SerializationException"},
		"half a surrogate": {"TrentService.UpdateKeyDescription", `{"KeyId":"` + id + `","Description":"\ud800"}`, "SerializationException"},
		"no UTF-8":         {"TrentService.UpdateKeyDescription", `{"KeyId":"` + id + `","Description":"` + "\xff" + `"}`, "SerializationException"},
		"members":          {"TrentService.ListKeys", `{"x":[0` + strings.Repeat(`,0`, 10_000) + `]}`, "SerializationException"},
		"nesting":          {"TrentService.ListKeys", `{"x":` + deep + `}`, "SerializationException"},
		"no base64":        {"TrentService.Decrypt", `{"CiphertextBlob":"%"}`, "SerializationException"},
		"short blob":       {"TrentService.Decrypt", `{"CiphertextBlob":"AQ=="}`, "InvalidCiphertextException"},
		"no blob":          {"TrentService.Decrypt", `{}`, "ValidationException"},
		"no key":           {"TrentService.DescribeKey", `{}`, "ValidationException"},
		"no description":   {"TrentService.UpdateKeyDescription", `{"KeyId":"x"}`, "ValidationException"},
		"no tags":          {"TrentService.TagResource", `{"KeyId":"x"}`, "ValidationException"},
		"no tag key":       {"TrentService.TagResource", `{"KeyId":"x","Tags":[{"TagValue":"v"}]}`, "ValidationException"},
		"no tag keys":      {"TrentService.UntagResource", `{"KeyId":"x"}`, "ValidationException"},
		"AWS has no such":  {"TrentService.AdvanceClock", `{"Seconds":1}`, "UnsupportedOperationException"},
		"two violations":   {"TrentService.GenerateDataKey", `{"NumberOfBytes":0}`, "ValidationException"},
		"later action":     {"TrentService.CreateCustomKeyStore", `{}`, "UnsupportedOperationException"},
		"no such action":   {"TrentService.Nothing", `{}`, "UnsupportedOperationException"},
		"another service":  {"DynamoDB_20120810.ListTables", `{}`, "UnknownOperationException"},
		"no target":        {"", `{}`, "UnknownOperationException"},
		"largest body":     {"TrentService.ListKeys", `{"x":"` + strings.Repeat("x", 1<<20-8) + `"}`, ""},
		"too large":        {"TrentService.ListKeys", `{"x":"` + strings.Repeat("x", 1<<20-7) + `"}`, "SerializationException"},
	} {
		t.Run(name, func(t *testing.T) {
			status, header, answer := post(t, c, tt.target, tt.body)
			if header.Get("Content-Type") != "application/x-amz-json-1.1" || len(header.Get("X-Amzn-Requestid")) != 36 {
				t.Errorf("headers: %v", header)
			}
			if tt.code == "" {
				if status != 200 {
					t.Errorf("%d %s", status, answer)
				}
				return
			}
			var members map[string]string
			if err := json.Unmarshal([]byte(answer), &members); err != nil || members["__type"] != tt.code || status != 400 {
				t.Errorf("%d %s", status, answer)
			}
			if _, ok := members["message"]; ok == (tt.code == "InvalidCiphertextException" || tt.code == "UnknownOperationException") {
				t.Errorf("the message member: %s", answer)
			}
			for name := range members {
				if name != "__type" && name != "message" {
					t.Errorf("the error has a member %q", name)
				}
			}
		})
	}
	_, _, answer := post(t, c, "TrentService.GenerateDataKey", `{"NumberOfBytes":0}`)
	if !strings.Contains(answer, "2 validation errors detected: Value null at 'keyId' failed to satisfy constraint: Member must not be null; Value '0' at 'numberOfBytes' failed") {
		t.Errorf("two violations: %s", answer)
	}
	// Outputs without members have no body; lists are there when empty.
	if status, _, answer := post(t, c, "TrentService.EnableKey", `{"KeyId":"`+id+`"}`); status != 200 || answer != "" {
		t.Errorf("EnableKey answers %d %q", status, answer)
	}
	if _, _, answer := post(t, c, "TrentService.ListAliases", `{}`); answer != `{"Aliases":[],"Truncated":false}` {
		t.Errorf("ListAliases answers %s", answer)
	}
	if _, _, answer := post(t, c, "TrentService.GenerateRandom", `{"NumberOfBytes":3}`); len(answer) != len(`{"Plaintext":"AAAA"}`) || !json.Valid([]byte(answer)) {
		t.Errorf("GenerateRandom answers %s", answer)
	}
	resp, err := c.Get("http://kmsfs.test/")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 400 {
		t.Errorf("GET answers %s", resp.Status)
	}
}

// TestOtherUsersCannotCrowdOut opens as many connections as one may.
func TestOtherUsersCannotCrowdOut(t *testing.T) {
	srv := keysvctest.NewServer(t)
	answers := func(c net.Conn) bool {
		t.Helper()
		if _, err := io.WriteString(c, "GET /kmsfs/status HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			return false
		}
		n, err := c.Read(make([]byte, 16))
		return err == nil && n > 0
	}
	for i := range 20 {
		c, err := srv.Dial(otherUID)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if got, want := answers(c), i < 16; got != want {
			t.Errorf("connection %d is answered: %t", i+1, got)
		}
	}
	clientKey(t, srv.Client())
	c, err := srv.Dial(otherUID + 1)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if !answers(c) {
		t.Error("another user is crowded out")
	}
}
