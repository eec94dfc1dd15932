package audit

import (
	"crypto/ed25519"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func decryptRecord() *Record {
	return &Record{
		UserIdentity: UserIdentity{
			Type: IdentityIAMUser, PrincipalID: "AIDA2EXAMPLE7LOCAL1000", ARN: "arn:aws:iam::000000000000:user/local/1000",
			AccountID: "000000000000", UserName: "1000",
		},
		EventName: "Decrypt", SourceIPAddress: "127.0.0.1", UserAgent: "kmsfs/1.0",
		RequestParameters: &RequestParameters{
			KeyID:               "arn:aws:kms:us-east-1:000000000000:key/1234abcd-12ab-34cd-56ef-1234567890ab",
			EncryptionAlgorithm: "SYMMETRIC_DEFAULT",
			EncryptionContext:   map[string]string{"kmsfs:volume": "vol-0123456789abcdef0", "kmsfs:path": "/home/alice/documents/letter.txt"},
		},
		AdditionalEventData: &AdditionalEventData{
			KeyMaterialID: "123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0",
			Peer:          &Peer{UID: 1000, PID: 4711},
		},
		RequestID: "12345126-30d5-4b28-98b9-9153da559963",
		ReadOnly:  true,
		Resources: []Resource{{AccountID: "000000000000", Type: TypeKey, ARN: "arn:aws:kms:us-east-1:000000000000:key/1234abcd-12ab-34cd-56ef-1234567890ab"}},
	}
}

func benchLog(b *testing.B) *Log {
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		b.Fatal(err)
	}
	l, err := Open(Options{Dir: b.TempDir(), Signer: key, Region: "us-east-1", Account: "000000000000"})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := l.Close(); err != nil {
			b.Error(err)
		}
	})
	return l
}

// BenchmarkAppend is the hot path: calls from some goroutines at once.
func BenchmarkAppend(b *testing.B) {
	for _, clients := range []int{1, 8, 64} {
		for _, durable := range []bool{false, true} {
			b.Run(fmt.Sprintf("clients=%d/durable=%v", clients, durable), func(b *testing.B) {
				l := benchLog(b)
				b.ReportAllocs()
				b.ResetTimer()
				cpu := cpuTime(b)
				var left atomic.Int64
				left.Store(int64(b.N))
				var wg sync.WaitGroup
				for range clients {
					wg.Go(func() {
						r := decryptRecord()
						for left.Add(-1) >= 0 {
							if _, err := l.Append(r, durable); err != nil {
								b.Error(err)
								return
							}
						}
					})
				}
				wg.Wait()
				b.ReportMetric(float64(cpuTime(b)-cpu)/1000/float64(b.N), "cpu-us/record")
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
			})
		}
	}
}

// BenchmarkAppendAll is a batch of 128, per record.
func BenchmarkAppendAll(b *testing.B) {
	const n = 128
	l := benchLog(b)
	var rs []*Record
	for range n {
		rs = append(rs, decryptRecord())
	}
	b.ReportAllocs()
	b.ResetTimer()
	cpu := cpuTime(b)
	for i := 0; i < b.N; i += n {
		if _, err := l.AppendAll(rs, false); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(cpuTime(b)-cpu)/1000/float64(b.N), "cpu-us/record")
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
}

// cpuTime is what this process has used, kernel included.
func cpuTime(b *testing.B) time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func BenchmarkEncode(b *testing.B) {
	l := &Log{opts: Options{Region: "us-east-1", Account: "000000000000", Clock: time.Now, newID: NewID}}
	r := decryptRecord()
	e := new(entry)
	b.ReportAllocs()
	for b.Loop() {
		e.bytes, e.ends = e.bytes[:0], e.ends[:0]
		if err := l.add(e, r); err != nil {
			b.Fatal(err)
		}
	}
	b.SetBytes(int64(len(e.bytes)))
}

func BenchmarkVerify(b *testing.B) {
	const n = 20000
	l := benchLog(b)
	for range n / 100 {
		var rs []*Record
		for range 100 {
			rs = append(rs, decryptRecord())
		}
		if _, err := l.AppendAll(rs, false); err != nil {
			b.Fatal(err)
		}
	}
	b.ResetTimer()
	for b.Loop() {
		if r, err := Verify(l.opts.Dir, VerifyOptions{}); err != nil || r.Fault != nil {
			b.Fatal(err, r)
		}
	}
	b.ReportMetric(float64(b.N)*n/b.Elapsed().Seconds(), "records/s")
}
