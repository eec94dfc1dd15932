package policy

import (
	"fmt"
	"strings"
	"testing"
)

// benchPolicy has n statements of the kind a volume has: users, paths, and a
// default statement at the end.
func benchPolicy(n int) string {
	var s []string
	for i := range n - 1 {
		effect := "Allow"
		if i%10 == 9 {
			effect = "Deny"
		}
		s = append(s, fmt.Sprintf(`{"Sid": "Path%[1]d", "Effect": %[2]q,
			"Principal": {"AWS": ["arn:aws:iam::111122223333:user/local/%[1]d", "arn:aws:iam::111122223333:user/local/1000"]},
			"Action": ["kms:Decrypt", "kms:Encrypt", "kms:GenerateDataKey*", "kms:ReEncrypt*", "kms:DescribeKey"],
			"Resource": "*",
			"Condition": {"StringLike": {"kms:EncryptionContext:kmsfs:path": ["/project-%[1]d/*", "/archive/%[1]d/*.pdf"]},
				"StringEquals": {"kms:EncryptionContext:kmsfs:volume": "vol-0123456789abcdef0"}}}`, i, effect))
	}
	s = append(s, `{"Sid": "IAM", "Effect": "Allow", "Principal": {"AWS": "111122223333"}, "Action": "kms:*", "Resource": "*"}`)
	return `{"Version": "2012-10-17", "Statement": [` + strings.Join(s, ",\n") + `]}`
}

func benchRequest(c *Context, p *Principal) Request {
	c.Reset()
	c.SetPrincipal(p)
	c.Set("kms:CallerAccount", "111122223333")
	c.Set("kms:KeySpec", "SYMMETRIC_DEFAULT")
	c.Set("kms:KeyUsage", "ENCRYPT_DECRYPT")
	c.Set("kms:KeyOrigin", "AWS_KMS")
	c.Set("kms:MultiRegion", "false")
	c.Set("kms:EncryptionAlgorithm", "SYMMETRIC_DEFAULT")
	c.Set("aws:SecureTransport", "true")
	c.Set("aws:SourceIp", "127.0.0.1")
	c.Set("aws:CurrentTime", "2026-10-17T03:04:05Z")
	c.Set("aws:EpochTime", "1792206245")
	c.Set("kms:EncryptionContext:kmsfs:volume", "vol-0123456789abcdef0")
	c.Set("kms:EncryptionContext:kmsfs:path", "/project-18/src/main.go")
	c.SetList("kms:EncryptionContextKeys", []string{"kmsfs:path", "kmsfs:volume"})
	return Request{
		Principal: *p, Action: "kms:GenerateDataKey", ResourceAccount: "111122223333", Context: *c,
		Resource: "arn:aws:kms:us-east-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab",
	}
}

var benchUser = Principal{
	Type: User, ARN: "arn:aws:iam::111122223333:user/local/1000", Account: "111122223333", UniqueID: "AIDAEXAMPLE000000001", Username: "1000",
}

// BenchmarkEvaluate is the hot path: 20 statements, the caller is named in all of
// them, the last path but one matches.
func BenchmarkEvaluate(b *testing.B) {
	d, err := Parse(KeyPolicy, []byte(benchPolicy(20)))
	if err != nil {
		b.Fatal(err)
	}
	if d, err = d.Bind(func(p NamedPrincipal) (string, bool) {
		if p.Value == benchUser.ARN {
			return benchUser.UniqueID, true
		}
		return "", true
	}); err != nil {
		b.Fatal(err)
	}
	var c Context
	r := benchRequest(&c, &benchUser)
	p := &Policies{Resource: d}
	b.Run("evaluate", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if !Evaluate(&r, p).Allowed() {
				b.Fatal("denied")
			}
		}
	})
	b.Run("context and evaluate", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			r := benchRequest(&c, &benchUser)
			if !Evaluate(&r, p).Allowed() {
				b.Fatal("denied")
			}
		}
	})
}
