package keysvc_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"

	"kmsfs.dev/kmsfs/keysvc/internal/frame"
	"kmsfs.dev/kmsfs/keysvc/keysvctest"
	"kmsfs.dev/kmsfs/keysvc/kmsapi"
	"kmsfs.dev/kmsfs/keysvc/kmsclient"
)

func batch(t testing.TB, c *kmsclient.Client, items ...kmsapi.BatchItem) []kmsapi.BatchResult {
	t.Helper()
	out, err := c.Batch(t.Context(), items)
	if err != nil {
		t.Fatal(err)
	}
	if len(out) != len(items) {
		t.Fatalf("%d items have %d results", len(items), len(out))
	}
	return out
}

func clientKey(t testing.TB, c *kmsclient.Client) string {
	t.Helper()
	out, err := c.CreateKey(t.Context(), &kmsapi.CreateKeyInput{})
	if err != nil {
		t.Fatal(err)
	}
	return out.KeyMetadata.Arn
}

func pathContext(i int) map[string]string {
	return map[string]string{"kmsfs:volume": "vol-0123456789abcdef0", "kmsfs:path": fmt.Sprint("/dir/file", i)}
}

func TestBatchKeepsOrder(t *testing.T) {
	c := keysvctest.NewServer(t).Client()
	key := clientKey(t, c)
	const n = 5000 // more than fits into one request
	making := make([]kmsapi.BatchItem, n)
	for i := range making {
		making[i] = kmsapi.BatchItem{Op: kmsapi.OpGenerateDataKey, KeyID: key, EncryptionContext: pathContext(i), NumberOfBytes: 16 + i%32}
	}
	made := batch(t, c, making...)
	open := make([]kmsapi.BatchItem, n)
	for i, m := range made {
		if m.Err != nil || m.KeyID != key || len(m.Plaintext) != 16+i%32 || (len(m.Plaintext) == 32 && len(m.CiphertextBlob) != 145) {
			t.Fatalf("item %d: %+v", i, m)
		}
		open[i] = kmsapi.BatchItem{Op: kmsapi.OpDecrypt, KeyID: key, CiphertextBlob: m.CiphertextBlob, EncryptionContext: pathContext(i)}
	}
	for i, o := range batch(t, c, open...) {
		if o.Err != nil || !bytes.Equal(o.Plaintext, made[i].Plaintext) || o.KeyID != key {
			t.Fatalf("item %d: %v", i, o.Err)
		}
	}
	if out := batch(t, c); len(out) != 0 {
		t.Error("an empty batch has results")
	}
}

func TestBatchItemsFailAlone(t *testing.T) {
	srv := keysvctest.NewServer(t)
	c := srv.Client()
	one, two, off := clientKey(t, c), clientKey(t, c), clientKey(t, c)
	ctx := map[string]string{"ab": "c"}
	made := batch(t, c,
		kmsapi.BatchItem{Op: kmsapi.OpGenerateDataKey, KeyID: one, EncryptionContext: ctx, NumberOfBytes: 32},
		kmsapi.BatchItem{Op: kmsapi.OpGenerateDataKeyWithoutPlaintext, KeyID: off, EncryptionContext: ctx, NumberOfBytes: 64})
	blob, offBlob := made[0].CiphertextBlob, made[1].CiphertextBlob
	if made[1].Err != nil || made[1].Plaintext != nil {
		t.Errorf("without plaintext: %+v", made[1])
	}
	if err := c.DisableKey(t.Context(), off); err != nil {
		t.Fatal(err)
	}
	tampered := bytes.Clone(blob)
	tampered[100] ^= 1
	moved := map[string]string{"kmsfs:path": "/new"}
	items := []struct {
		code string
		it   kmsapi.BatchItem
	}{
		{"", kmsapi.BatchItem{Op: kmsapi.OpDecrypt, CiphertextBlob: blob, EncryptionContext: ctx}},
		{"InvalidCiphertextException", kmsapi.BatchItem{Op: kmsapi.OpDecrypt, CiphertextBlob: blob, EncryptionContext: map[string]string{"a": "bc"}}},
		{"InvalidCiphertextException", kmsapi.BatchItem{Op: kmsapi.OpDecrypt, CiphertextBlob: tampered, EncryptionContext: ctx}},
		{"InvalidCiphertextException", kmsapi.BatchItem{Op: kmsapi.OpDecrypt, CiphertextBlob: blob[:40], EncryptionContext: ctx}},
		{"ValidationException", kmsapi.BatchItem{Op: kmsapi.OpDecrypt, EncryptionContext: ctx}},
		{"ValidationException", kmsapi.BatchItem{Op: kmsapi.OpDecrypt, CiphertextBlob: make([]byte, 6145)}},
		{"IncorrectKeyException", kmsapi.BatchItem{Op: kmsapi.OpDecrypt, KeyID: two, CiphertextBlob: blob, EncryptionContext: ctx}},
		{"DisabledException", kmsapi.BatchItem{Op: kmsapi.OpDecrypt, CiphertextBlob: offBlob, EncryptionContext: ctx}},
		{"DisabledException", kmsapi.BatchItem{Op: kmsapi.OpGenerateDataKey, KeyID: off, NumberOfBytes: 32}},
		{"NotFoundException", kmsapi.BatchItem{Op: kmsapi.OpGenerateDataKey, KeyID: "alias/none", NumberOfBytes: 32}},
		{"ValidationException", kmsapi.BatchItem{Op: kmsapi.OpGenerateDataKey, KeyID: one, NumberOfBytes: 0}},
		{"", kmsapi.BatchItem{Op: kmsapi.OpGenerateDataKey, KeyID: one, NumberOfBytes: 1024}},
		{"ValidationException", kmsapi.BatchItem{Op: kmsapi.OpGenerateDataKey, KeyID: one, NumberOfBytes: 1025}},
		{"ValidationException", kmsapi.BatchItem{Op: kmsapi.OpGenerateDataKey, NumberOfBytes: 32}},
		{"", kmsapi.BatchItem{Op: kmsapi.OpReEncrypt, KeyID: two, SourceKeyID: one, CiphertextBlob: blob, EncryptionContext: ctx, DestinationEncryptionContext: moved}},
		{"IncorrectKeyException", kmsapi.BatchItem{Op: kmsapi.OpReEncrypt, KeyID: two, SourceKeyID: two, CiphertextBlob: blob, EncryptionContext: ctx}},
		{"DisabledException", kmsapi.BatchItem{Op: kmsapi.OpReEncrypt, KeyID: off, CiphertextBlob: blob, EncryptionContext: ctx}},
		{"InvalidCiphertextException", kmsapi.BatchItem{Op: kmsapi.OpReEncrypt, KeyID: two, CiphertextBlob: blob, EncryptionContext: moved}},
	}
	var list []kmsapi.BatchItem
	for _, i := range items {
		list = append(list, i.it)
	}
	out := batch(t, c, list...)
	for i, r := range out {
		switch {
		case items[i].code == "" && r.Err != nil:
			t.Errorf("item %d: %v", i, r.Err)
		case items[i].code != "" && (r.Err == nil || r.Err.Code != items[i].code || r.Plaintext != nil || r.CiphertextBlob != nil):
			t.Errorf("item %d is %+v, not %s", i, r, items[i].code)
		case items[i].code == "InvalidCiphertextException" && r.Err.Message != "":
			t.Errorf("item %d says %q", i, r.Err.Message)
		}
	}
	again := batch(t, c, kmsapi.BatchItem{Op: kmsapi.OpDecrypt, KeyID: two, CiphertextBlob: out[14].CiphertextBlob, EncryptionContext: moved})
	if again[0].Err != nil || !bytes.Equal(again[0].Plaintext, made[0].Plaintext) {
		t.Errorf("the re-encrypted key: %v", again[0].Err)
	}
}

// A Decrypt without a blob takes what the ReEncrypt right before it made, and
// nothing when that was refused.
func TestBatchOpensWhatItRewrapped(t *testing.T) {
	c := keysvctest.NewServer(t).Client()
	key := clientKey(t, c)
	from, to := pathContext(1), pathContext(2)
	made := batch(t, c, kmsapi.BatchItem{Op: kmsapi.OpGenerateDataKey, KeyID: key, EncryptionContext: from, NumberOfBytes: 32})[0]
	rewrap := kmsapi.BatchItem{Op: kmsapi.OpReEncrypt, KeyID: key, SourceKeyID: key, CiphertextBlob: made.CiphertextBlob, EncryptionContext: from, DestinationEncryptionContext: to}
	open := kmsapi.BatchItem{Op: kmsapi.OpDecrypt, KeyID: key, EncryptionContext: to}

	out := batch(t, c, rewrap, open, open)
	if out[0].Err != nil || out[1].Err != nil || !bytes.Equal(out[1].Plaintext, made.Plaintext) {
		t.Errorf("re-wrapped %v, opened %v", out[0].Err, out[1].Err)
	}
	if out[2].Err == nil || out[2].Err.Code != kmsapi.CodeValidation {
		t.Errorf("a Decrypt after a Decrypt: %v", out[2].Err)
	}
	rewrap.EncryptionContext = to // not what it was wrapped under
	out = batch(t, c, rewrap, open)
	if out[0].Err == nil || out[1].Err == nil || out[1].Plaintext != nil {
		t.Errorf("refused %v, then %v", out[0].Err, out[1].Err)
	}
	open.EncryptionContext = from
	rewrap.EncryptionContext = from
	if out = batch(t, c, rewrap, open); out[0].Err != nil || out[1].Err == nil || out[1].Err.Code != kmsapi.CodeInvalidCiphertext {
		t.Errorf("opened under the old path: %v", out[1].Err)
	}
}

func TestBatchRefusesUnknownOperation(t *testing.T) {
	c := keysvctest.NewServer(t).Client()
	if _, err := c.Batch(t.Context(), []kmsapi.BatchItem{{Op: "Encrypt"}}); err == nil {
		t.Error("Encrypt is no operation of a batch")
	}
	clientKey(t, c) // the client still works
	if out := batch(t, c, kmsapi.BatchItem{Op: kmsapi.OpDecrypt, CiphertextBlob: []byte("x")}); out[0].Err == nil {
		t.Error("one byte decrypts")
	}
}

// batchAs performs items on a connection of another user's.
func batchAs(t testing.TB, srv *keysvctest.Server, uid uint32, items ...kmsapi.BatchItem) []kmsapi.BatchResult {
	t.Helper()
	conn, err := srv.Dial(uid)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	req, err := http.NewRequest(http.MethodGet, "http://kmsfs"+kmsapi.BatchPath, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header = http.Header{"Connection": {"Upgrade"}, "Upgrade": {kmsapi.BatchUpgrade}}
	if err := req.Write(conn); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(conn)
	if res, err := http.ReadResponse(r, req); err != nil || res.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("upgrade: %v, %v", res, err)
	}
	const id = 7
	buf := frame.BeginRequest(nil, id, len(items))
	for i := range items {
		if buf, err = frame.AppendItem(buf, &items[i]); err != nil {
			t.Fatal(err)
		}
	}
	if err := frame.EndRequest(buf); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write(buf); err != nil {
		t.Fatal(err)
	}
	results, err := frame.NewReader(r)
	if err != nil {
		t.Fatal(err)
	}
	defer results.Close()
	out := make([]kmsapi.BatchResult, len(items))
	for range items {
		got, index, res, err := results.Read()
		if err != nil || got != id || index >= len(out) {
			t.Fatalf("result %d of request %d: %v", index, got, err)
		}
		out[index] = res
	}
	return out
}

// TestBatchIsAuthorizedAsTheCaller uses a connection of another user's.
func TestBatchIsAuthorizedAsTheCaller(t *testing.T) {
	srv := keysvctest.NewServer(t)
	key := clientKey(t, srv.Client())
	out := batchAs(t, srv, otherUID, kmsapi.BatchItem{Op: kmsapi.OpGenerateDataKey, KeyID: key, NumberOfBytes: 32})
	if out[0].Err == nil || out[0].Err.Code != kmsapi.CodeAccessDenied {
		t.Errorf("another user's: %+v", out[0])
	}
}

// TestBatchSurvivesGarbage sends what no client sends, and then asks again.
func TestBatchSurvivesGarbage(t *testing.T) {
	srv := keysvctest.NewServer(t)
	c := srv.Client()
	for _, garbage := range []string{
		"\xff\xff\xff\xff",
		"\x07\x00\x00\x00",
		"\x09\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x05",
		"\x0a\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x01\x09",
	} {
		conn, err := net.Dial("unix", srv.Socket)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(conn, "GET /kmsfs/batch HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: "+kmsapi.BatchUpgrade+"\r\n\r\n"+garbage); err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, conn); err != nil && !strings.Contains(err.Error(), "reset") {
			t.Error(err)
		}
		conn.Close()
	}
	clientKey(t, c)
}

func TestBatchConcurrently(t *testing.T) {
	srv := keysvctest.NewServer(t)
	c := srv.Client()
	key := clientKey(t, c)
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 20 {
				n := 1 + (g*37+i*53)%150
				items := make([]kmsapi.BatchItem, n)
				for j := range items {
					items[j] = kmsapi.BatchItem{Op: kmsapi.OpGenerateDataKey, KeyID: key, EncryptionContext: pathContext(j), NumberOfBytes: 32}
				}
				made, err := c.Batch(t.Context(), items)
				if err != nil {
					t.Error(err)
					return
				}
				for j := range items {
					items[j] = kmsapi.BatchItem{Op: kmsapi.OpDecrypt, CiphertextBlob: made[j].CiphertextBlob, EncryptionContext: pathContext(j)}
				}
				opened, err := c.Batch(t.Context(), items)
				if err != nil {
					t.Error(err)
					return
				}
				for j := range opened {
					if opened[j].Err != nil || !bytes.Equal(opened[j].Plaintext, made[j].Plaintext) {
						t.Errorf("goroutine %d, batch %d, item %d: %v", g, i, j, opened[j].Err)
					}
				}
			}
		})
	}
	// Keys are switched off and on and made meanwhile.
	wg.Go(func() {
		for range 20 {
			k := clientKey(t, c)
			if err := c.DisableKey(t.Context(), k); err != nil {
				t.Error(err)
			}
		}
	})
	wg.Wait()
}

func TestStatusCountsClients(t *testing.T) {
	srv := keysvctest.NewServer(t)
	a := srv.Client()
	srv.Client()
	clientKey(t, a)
	var st *kmsapi.Status
	// Two batch connections and the one that asks. One that has gone may still be counted.
	soon(t, "three clients", func() bool {
		var err error
		if st, err = a.Status(t.Context()); err != nil {
			t.Fatal(err)
		}
		return st.Clients == 3
	})
	if st.Keys != 1 || st.PID != os.Getpid() || st.StateDir != srv.StateDir || st.Principal != "arn:aws:iam::000000000000:root" {
		t.Errorf("status: %+v", st)
	}
}

func BenchmarkBatchUnwrap(b *testing.B) {
	srv := keysvctest.NewServer(b)
	c := srv.Client()
	key := clientKey(b, c)
	for _, n := range []int{1, 64, 1000} {
		b.Run(fmt.Sprint("items=", n), func(b *testing.B) {
			items := make([]kmsapi.BatchItem, n)
			for i := range items {
				items[i] = kmsapi.BatchItem{Op: kmsapi.OpGenerateDataKeyWithoutPlaintext, KeyID: key, EncryptionContext: pathContext(i), NumberOfBytes: 32}
			}
			for i, r := range batch(b, c, items...) {
				items[i] = kmsapi.BatchItem{Op: kmsapi.OpDecrypt, KeyID: key, CiphertextBlob: r.CiphertextBlob, EncryptionContext: pathContext(i)}
			}
			b.ReportAllocs()
			for b.Loop() {
				batch(b, c, items...)
			}
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*n), "us/key")
		})
	}
}

// TestWhatWasRewrappedIsOpenedByTheRules: the service still has the data key in hand
// when the Decrypt comes, and gives it to nobody who may not decrypt.
func TestWhatWasRewrappedIsOpenedByTheRules(t *testing.T) {
	srv := keysvctest.NewServer(t)
	c := srv.Client()
	key, other := clientKey(t, c), clientKey(t, c)
	from, to := pathContext(1), pathContext(2)
	made := batch(t, c, kmsapi.BatchItem{Op: kmsapi.OpGenerateDataKey, KeyID: key, EncryptionContext: from, NumberOfBytes: 32})[0]
	rewrap := kmsapi.BatchItem{Op: kmsapi.OpReEncrypt, KeyID: key, SourceKeyID: key, CiphertextBlob: made.CiphertextBlob, EncryptionContext: from, DestinationEncryptionContext: to}
	open := kmsapi.BatchItem{Op: kmsapi.OpDecrypt, KeyID: key, EncryptionContext: to}
	refused := func(what, code string, rewrap, open kmsapi.BatchItem) {
		t.Helper()
		out := batch(t, c, rewrap, open)
		if out[0].Err != nil || out[1].Err == nil || out[1].Err.Code != code || out[1].Plaintext != nil {
			t.Errorf("%s: re-wrapped %v, opened %v", what, out[0].Err, out[1].Err)
		}
	}
	wrong := open
	wrong.KeyID = other
	refused("as a key that it is not under", kmsapi.CodeIncorrectKey, rewrap, wrong)
	wrong = open
	wrong.EncryptionContext = map[string]string{"kmsfs:path": to["kmsfs:path"]}
	refused("under a part of the context", kmsapi.CodeInvalidCiphertext, rewrap, wrong)
	wrong.EncryptionContext = map[string]string{"kmsfs:path": to["kmsfs:path"], "kmsfs:volume": to["kmsfs:volume"], "more": ""}
	refused("under more than the context", kmsapi.CodeInvalidCiphertext, rewrap, wrong)

	elsewhere := rewrap
	elsewhere.KeyID = other
	if out := batch(t, c, elsewhere, kmsapi.BatchItem{Op: kmsapi.OpDecrypt, EncryptionContext: to}); out[0].Err != nil || out[1].Err != nil ||
		out[1].KeyID != other || !bytes.Equal(out[1].Plaintext, made.Plaintext) {
		t.Errorf("moved to another key: %v, %+v", out[0].Err, out[1])
	}
	policy := statements(toAccount, `{"Effect": "Deny", "Principal": "*", "Action": "kms:Decrypt", "Resource": "*",
		"Condition": {"StringEquals": {"kms:EncryptionContext:kmsfs:path": "/dir/file2"}}}`)
	if err := c.PutKeyPolicy(t.Context(), key, policy, false); err != nil {
		t.Fatal(err)
	}
	refused("by who may re-wrap only", kmsapi.CodeAccessDenied, rewrap, open)
}

// TestBatchItemsAreAuthorizedAlone: a statement about one path refuses one item.
func TestBatchItemsAreAuthorizedAlone(t *testing.T) {
	c := keysvctest.NewServer(t).Client()
	key := clientKey(t, c)
	var items []kmsapi.BatchItem
	for i, m := range batch(t, c, kmsapi.BatchItem{Op: kmsapi.OpGenerateDataKey, KeyID: key, EncryptionContext: pathContext(0), NumberOfBytes: 32},
		kmsapi.BatchItem{Op: kmsapi.OpGenerateDataKey, KeyID: key, EncryptionContext: pathContext(1), NumberOfBytes: 32}) {
		items = append(items,
			kmsapi.BatchItem{Op: kmsapi.OpDecrypt, CiphertextBlob: m.CiphertextBlob, EncryptionContext: pathContext(i)},
			kmsapi.BatchItem{Op: kmsapi.OpGenerateDataKey, KeyID: key, EncryptionContext: pathContext(i), NumberOfBytes: 32},
			kmsapi.BatchItem{Op: kmsapi.OpReEncrypt, KeyID: key, CiphertextBlob: m.CiphertextBlob, EncryptionContext: pathContext(i), DestinationEncryptionContext: pathContext(2)},
			kmsapi.BatchItem{Op: kmsapi.OpReEncrypt, KeyID: key, CiphertextBlob: m.CiphertextBlob, EncryptionContext: pathContext(i), DestinationEncryptionContext: pathContext(0)})
	}
	policy := statements(toAccount, `{"Effect": "Deny", "Principal": "*", "Action": ["kms:Decrypt", "kms:GenerateDataKey", "kms:ReEncrypt*"], "Resource": "*",
		"Condition": {"StringEquals": {"kms:EncryptionContext:kmsfs:path": "/dir/file0"}}}`)
	if err := c.PutKeyPolicy(t.Context(), key, policy, false); err != nil {
		t.Fatal(err)
	}
	allowed := []bool{false, false, false, false, true, true, true, false}
	for i, r := range batch(t, c, items...) {
		if r.Err == nil != allowed[i] {
			t.Errorf("item %d, %s: %v", i, items[i].Op, r.Err)
		}
		if !allowed[i] && (r.Err == nil || r.Err.Code != kmsapi.CodeAccessDenied || r.Plaintext != nil || r.CiphertextBlob != nil) {
			t.Errorf("item %d, %s: %+v", i, items[i].Op, r)
		}
	}
}
