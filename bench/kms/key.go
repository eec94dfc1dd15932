package main

import (
	"encoding/json"
	"fmt"

	"kmsfs.dev/kmsfs/keysvc/kmsapi"
)

const (
	account = "000000000000"
	volume  = "vol-0123456789abcdef0"
)

func localUser(uid uint32) string {
	return fmt.Sprintf("arn:aws:iam::%s:user/local/%d", account, uid)
}

// statements is how many a policy has.
const statements = 20

// policyFor lets users have the files of one project each, and the clients'
// user those of the last. Each statement names him, so that its conditions have
// to be looked at. The account root is let in too.
func policyFor(client uint32) (string, error) {
	type object = map[string]any
	var all []object
	for i := range statements - 1 {
		all = append(all, object{
			"Sid":       fmt.Sprint("Project", i),
			"Effect":    "Allow",
			"Principal": object{"AWS": []string{localUser(uint32(70000 + i)), localUser(client)}},
			"Action":    []string{"kms:Decrypt", "kms:Encrypt", "kms:GenerateDataKey*", "kms:ReEncrypt*", "kms:DescribeKey"},
			"Resource":  "*",
			"Condition": object{
				"StringLike":   object{"kms:EncryptionContext:kmsfs:path": []string{fmt.Sprintf("/project-%d/*", i), fmt.Sprintf("/archive/%d/*.pdf", i)}},
				"StringEquals": object{"kms:EncryptionContext:kmsfs:volume": volume},
			},
		})
	}
	all = append(all, object{"Sid": "Account", "Effect": "Allow", "Principal": object{"AWS": account}, "Action": "kms:*", "Resource": "*"})
	text, err := json.Marshal(object{"Version": "2012-10-17", "Statement": all})
	return string(text), err
}

// caller performs an action for the account root: on a socket, or in process.
type caller func(op string, in, out any) error

// makeKey makes a key with a policy, or the default one for "".
func makeKey(do caller, policy string) (string, error) {
	in := kmsapi.CreateKeyInput{Description: "bench"}
	if policy != "" {
		in.Policy = &policy
	}
	var out kmsapi.CreateKeyOutput
	err := do(kmsapi.OpCreateKey, &in, &out)
	return out.KeyMetadata.KeyID, err
}

// grantTo gives one user a grant on a key, for the files of the volume.
func grantTo(do caller, key string, uid uint32) error {
	in := kmsapi.CreateGrantInput{
		KeyID: key, GranteePrincipal: localUser(uid), Operations: []string{"Decrypt", "GenerateDataKey", "ReEncryptFrom", "ReEncryptTo"},
		Constraints: &kmsapi.GrantConstraints{EncryptionContextSubset: map[string]string{"kmsfs:volume": volume}},
	}
	var out kmsapi.CreateGrantOutput
	if err := do(kmsapi.OpCreateGrant, &in, &out); err != nil {
		return fmt.Errorf("a grant for uid %d: %w", uid, err)
	}
	return nil
}

// grantToOthers makes n grants on a key, for as many other users.
func grantToOthers(do caller, key string, n int) error {
	for i := range n {
		if err := grantTo(do, key, uint32(100_000+i)); err != nil {
			return err
		}
	}
	return nil
}
