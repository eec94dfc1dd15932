package keysvc

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"kmsfs.dev/kmsfs/keysvc/kmsapi"
)

// BenchmarkGenerateDataKey is a call in process, recorded and fully authorized by a key
// policy of 20 statements. It has to stay below 12.5 microseconds: 80,000 calls per second.
func BenchmarkGenerateDataKey(b *testing.B) {
	s := openService(b, b.TempDir())
	root, user := s.LocalCaller(0), s.LocalCaller(1000)
	var statements []string
	for i := range 19 {
		statements = append(statements, fmt.Sprintf(`{"Sid": "Path%[1]d", "Effect": "Allow",
			"Principal": {"AWS": ["arn:aws:iam::000000000000:user/local/%[2]d", "arn:aws:iam::000000000000:user/local/1000"]},
			"Action": ["kms:Decrypt", "kms:Encrypt", "kms:GenerateDataKey*", "kms:ReEncrypt*", "kms:DescribeKey"],
			"Resource": "*",
			"Condition": {"StringLike": {"kms:EncryptionContext:kmsfs:path": ["/project-%[1]d/*", "/archive/%[1]d/*.pdf"]},
				"StringEquals": {"kms:EncryptionContext:kmsfs:volume": "vol-0123456789abcdef0"}}}`, i, 2000+i))
	}
	statements = append(statements, `{"Effect": "Allow", "Principal": {"AWS": "000000000000"}, "Action": "kms:*", "Resource": "*"}`)
	text := `{"Version": "2012-10-17", "Statement": [` + strings.Join(statements, ",") + `]}`
	key, err := Call(b.Context(), s, root, kmsapi.OpCreateKey, (*Service).CreateKey, &kmsapi.CreateKeyInput{Policy: &text})
	if err != nil {
		b.Fatal(err)
	}
	in := &kmsapi.GenerateDataKeyInput{
		KeyID: key.KeyMetadata.KeyID, KeySpec: new(string),
		EncryptionContext: map[string]string{"kmsfs:volume": "vol-0123456789abcdef0", "kmsfs:path": "/project-18/src/main.go"},
	}
	*in.KeySpec = kmsapi.DataKeyAES256
	for name, caller := range map[string]Caller{"user": user, "root": root} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			defer reportCPU(b)()
			for b.Loop() {
				if _, err := Call(context.Background(), s, caller, kmsapi.OpGenerateDataKey, (*Service).GenerateDataKey, in); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("at once", func(b *testing.B) { // a caller for each processor
		b.ReportAllocs()
		defer reportCPU(b)()
		b.RunParallel(func(p *testing.PB) {
			for p.Next() {
				if _, err := Call(context.Background(), s, user, kmsapi.OpGenerateDataKey, (*Service).GenerateDataKey, in); err != nil {
					b.Error(err)
					return
				}
			}
		})
	})
	b.Run("authorize", func(b *testing.B) {
		b.ReportAllocs()
		a, err := s.accessNamed(user, kmsapi.OpGenerateDataKey, in.KeyID)
		if err != nil {
			b.Fatal(err)
		}
		a.context = in.EncryptionContext
		defer reportCPU(b)()
		for b.Loop() {
			if err := s.authorize(&a); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// reportCPU reports the processor time of an operation, which other programs on the
// machine do not change as much as they do the time that it takes.
func reportCPU(b *testing.B) func() {
	used := func() time.Duration {
		var r unix.Rusage
		if err := unix.Getrusage(unix.RUSAGE_SELF, &r); err != nil {
			b.Fatal(err)
		}
		return time.Duration(r.Utime.Nano() + r.Stime.Nano())
	}
	before := used()
	return func() { b.ReportMetric(float64(used()-before)/float64(b.N), "cpu-ns/op") }
}
