package fs

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"kmsfs.dev/kmsfs/fs/internal/format"
	"kmsfs.dev/kmsfs/internal/secret"
	"kmsfs.dev/kmsfs/keysvc/kmsapi"
)

// KeyService makes, opens and re-wraps data keys. It is asked on create, open,
// rename and link, never on read or write. Batch returns one result per item
// in the same order; an error of the whole call means that no answer was had.
// The receiver wipes every Plaintext it is given.
//
// Begin is Batch in two halves: what lies between them is done while the
// service works. The function it returns must be called, once. Either half may
// wait, for a service that hangs: no lock but a node's own may be held.
type KeyService interface {
	Batch(ctx context.Context, items []kmsapi.BatchItem) ([]kmsapi.BatchResult, error)
	Begin(deadline time.Time, items []kmsapi.BatchItem) (wait func() ([]kmsapi.BatchResult, error))
}

// keyTimeout bounds one conversation with the key service. It is not tied to
// the caller's request: a signal to a Go program cancels FUSE requests all the
// time, and must not turn an open into EINTR.
const keyTimeout = 30 * time.Second

// errKeyService says that the key service gave no answer at all.
var errKeyService = errors.New("key service did not answer")

// dataKeySize is the size of a file's data key in bytes.
const dataKeySize = 32

// The encryption context's names, as policies spell them.
const (
	contextVolume = "kmsfs:volume"
	contextPath   = "kmsfs:path"
	contextEBS    = "aws:ebs:id"
)

// keyring wraps and unwraps the data keys of one volume, by the key service
// (keys=path) or under the volume key (keys=volume).
type keyring struct {
	svc    KeyService
	conf   *format.Config
	sealer *format.Sealer
	opaque *secret.Buffer // HMAC key for --context opaque
	cache  *keyCache      // of keys=path

	wrappedLen atomic.Int64 // of the last new key; 0: none was made

	// renewing says that Root.Rewrap walks the tree: what is renamed or linked comes
	// under the newest key material, wherever the walk is.
	renewing atomic.Bool
}

// volumeKeySize is the size of a volume key in bytes, as EBS asks for.
const volumeKeySize = 64

// volumeContext is the encryption context of the volume key.
func volumeContext(conf *format.Config) map[string]string {
	if conf.Keys == format.KeysVolume {
		return map[string]string{contextEBS: conf.Volume}
	}
	return map[string]string{contextVolume: conf.Volume}
}

// openVolumeKey has the key service unwrap the volume key.
func openVolumeKey(ctx context.Context, svc KeyService, conf *format.Config) (*secret.Buffer, error) {
	res, err := one(ctx, svc, kmsapi.BatchItem{
		Op: kmsapi.OpDecrypt, KeyID: conf.KMSKey,
		CiphertextBlob:    conf.WrappedVolumeKey,
		EncryptionContext: volumeContext(conf),
	})
	if err != nil {
		return nil, fmt.Errorf("unwrap volume key under %s: %w", conf.KMSKey, err)
	}
	defer secret.Wipe(res.Plaintext)
	if len(res.Plaintext) != volumeKeySize {
		return nil, fmt.Errorf("key service returned a volume key of %d bytes, want %d", len(res.Plaintext), volumeKeySize)
	}
	return secret.From(res.Plaintext)
}

func newKeyring(svc KeyService, conf *format.Config, sealer *format.Sealer, volumeKey []byte, cache *keyCache) (*keyring, error) {
	k := &keyring{svc: svc, conf: conf, sealer: sealer, cache: cache}
	if conf.Context == format.ContextOpaque {
		key, err := secret.HKDF(volumeKey, nil, []byte("kmsfs v1 opaque"), sha256.Size)
		if err != nil {
			return nil, err
		}
		k.opaque = key
	}
	return k, nil
}

// bindsPath reports whether a file's key is wrapped under its path, so that a
// rename must re-wrap it.
func (k *keyring) bindsPath() bool {
	return k.conf.Keys == format.KeysPath && k.conf.Context != format.ContextVolume
}

// perFile reports whether the key service decides on each file's key.
func (k *keyring) perFile() bool { return k.conf.Keys == format.KeysPath }

// likelyFits reports whether the wrapped key of a new file at a context path
// will fit the file's header, as far as the last one tells.
func (k *keyring) likelyFits(path string) bool {
	if !k.perFile() {
		return true
	}
	if !k.bindsPath() {
		path = ""
	}
	n := k.wrappedLen.Load()
	return n > 0 && format.PathFits(int(n), path)
}

// maxContextPath bounds the path in an encryption context, in bytes before
// escaping. A longer path is told as its beginning and its SHA-256, so that
// prefix patterns still match; see fs/FORMAT.md.
const maxContextPath = 1024

// contextOf is the path as the file's key is bound to it: what the header
// stores and what KMS is told, before escaping.
func contextOf(path string) string {
	if len(path) <= maxContextPath {
		return path
	}
	sum := sha256.Sum256([]byte(path))
	return path[:maxContextPath-70] + "…#" + hex.EncodeToString(sum[:])
}

// fileContext is the encryption context of a file at the given context path.
func (k *keyring) fileContext(path string) map[string]string {
	c := map[string]string{contextVolume: k.conf.Volume}
	switch k.conf.Context {
	case format.ContextPath:
		c[contextPath] = escapePath(path)
	case format.ContextOpaque:
		c[contextPath] = k.opaquePath(path)
	}
	return c
}

// escapePath makes a path valid UTF-8 without losing a byte: invalid bytes and
// "%" become %XX. It is injective, so two paths never share a context.
func escapePath(path string) string {
	if utf8.ValidString(path) && !strings.Contains(path, "%") {
		return path
	}
	var b strings.Builder
	for len(path) > 0 {
		r, n := utf8.DecodeRuneInString(path)
		if r == '%' || (r == utf8.RuneError && n == 1) {
			fmt.Fprintf(&b, "%%%02X", path[0])
		} else {
			b.WriteString(path[:n])
		}
		path = path[n:]
	}
	return b.String()
}

// opaquePath hides each component behind a keyed hash of the path up to it:
// policies can still name a subtree by its hashed prefix, an audit log shows
// no name.
func (k *keyring) opaquePath(path string) string {
	var b strings.Builder
	for i := 1; i <= len(path); i++ {
		if i == len(path) || path[i] == '/' {
			mac := hmac.New(sha256.New, k.opaque.Bytes())
			mac.Write([]byte(path[:i]))
			b.WriteByte('/')
			b.WriteString(base64.RawURLEncoding.EncodeToString(mac.Sum(nil)[:15]))
		}
	}
	return b.String()
}

// pendingKey waits for a data key that is being made. It must be called, once;
// a key that comes too late is wiped by it.
type pendingKey func() (key *secret.Buffer, wrapped []byte, err error)

// create begins to make the data key of a new file. path is a context path.
func (k *keyring) create(fileID [16]byte, path string, who principal) pendingKey {
	if k.conf.Keys == format.KeysVolume {
		return func() (*secret.Buffer, []byte, error) { return k.createByVolume(fileID) }
	}
	wait := k.svc.Begin(time.Now().Add(keyTimeout), []kmsapi.BatchItem{{
		Op: kmsapi.OpGenerateDataKey, KeyID: k.conf.KMSKey, NumberOfBytes: dataKeySize,
		EncryptionContext: k.fileContext(path), ActAs: who.actAs(),
	}})
	return func() (*secret.Buffer, []byte, error) {
		res, err := single(answers(1, wait))
		if err != nil {
			return nil, nil, fmt.Errorf("make data key: %w", err)
		}
		key, err := dataKey(res.Plaintext)
		return key, res.CiphertextBlob, err
	}
}

// createByVolume makes a data key and wraps it under the volume key.
func (k *keyring) createByVolume(fileID [16]byte) (*secret.Buffer, []byte, error) {
	key, err := secret.New(dataKeySize)
	if err != nil {
		return nil, nil, err
	}
	rand.Read(key.Bytes())
	wrapped, err := k.sealer.WrapKey(fileID, key.Bytes())
	if err != nil {
		key.Free()
		return nil, nil, err
	}
	return key, wrapped, nil
}

// open unwraps the data key of a file that was wrapped under the path from. If
// to is another it re-wraps it first, in the same round trip; that also needs
// kms:ReEncryptFrom on the old path and ReEncryptTo on the new. A key that was
// unwrapped lately is not asked for again; asked says when it was.
func (k *keyring) open(fileID [16]byte, wrapped []byte, from, to string, who principal) (newer []byte, key *secret.Buffer, asked time.Time, err error) {
	asked = time.Now()
	if k.conf.Keys == format.KeysVolume {
		plain, err := k.sealer.UnwrapKey(fileID, wrapped)
		if err != nil {
			return nil, nil, asked, err
		}
		key, err := dataKey(plain)
		return wrapped, key, asked, err
	}
	if key, asked := k.cached(fileID, wrapped, from, to, who); key != nil {
		return wrapped, key, asked, nil
	}
	res, err := ask(context.Background(), k.svc, k.opening(wrapped, from, to, who))
	if err != nil {
		return nil, nil, asked, err
	}
	newer, key, err = k.opened(res, fileID, wrapped, to, who, asked)
	return newer, key, asked, err
}

// cached is the key of a file that was unwrapped lately, and when that was, or nil.
func (k *keyring) cached(fileID [16]byte, wrapped []byte, from, to string, who principal) (*secret.Buffer, time.Time) {
	if from != to {
		return nil, time.Time{}
	}
	return k.cache.get(fileID, wrapped, to, who)
}

// opening is the request for it.
func (k *keyring) opening(wrapped []byte, from, to string, who principal) []kmsapi.BatchItem {
	if from == to {
		return []kmsapi.BatchItem{k.decrypt(wrapped, to, who)}
	}
	return []kmsapi.BatchItem{k.reEncrypt(wrapped, from, to, who), k.decrypt(nil, to, who)} // of what the first makes
}

// opened is the answer to it: the data key, which the cache keeps, too, and its wrapping,
// which is a new one if it was re-wrapped.
func (k *keyring) opened(res []kmsapi.BatchResult, fileID [16]byte, wrapped []byte, to string, who principal, asked time.Time) ([]byte, *secret.Buffer, error) {
	last := &res[len(res)-1]
	defer secret.Wipe(last.Plaintext)
	if len(res) > 1 {
		if res[0].Err != nil {
			return nil, nil, fmt.Errorf("re-wrap data key: %w", res[0].Err)
		}
		if blob := res[0].CiphertextBlob; blob != nil {
			wrapped = blob
		}
	}
	if last.Err != nil {
		return nil, nil, fmt.Errorf("unwrap data key: %w", last.Err)
	}
	key, err := dataKey(last.Plaintext)
	if err == nil {
		k.cache.put(fileID, wrapped, to, who, key, asked)
	}
	return wrapped, key, err
}

// decrypt is the request for it.
func (k *keyring) decrypt(wrapped []byte, path string, who principal) kmsapi.BatchItem {
	return kmsapi.BatchItem{
		Op: kmsapi.OpDecrypt, KeyID: k.conf.KMSKey, CiphertextBlob: wrapped,
		EncryptionContext: k.fileContext(path), ActAs: who.actAs(),
	}
}

// rewrap moves a wrapped data key from one path to another without seeing it.
// The caller needs kms:ReEncryptFrom on the old path and ReEncryptTo on the new.
// Where that changes nothing the key service is asked only if all keys of the volume
// are being re-wrapped, see renewing.
func (k *keyring) rewrap(wrapped []byte, from, to string, who principal) ([]byte, error) {
	if !k.perFile() || from == to && !k.renewing.Load() {
		return wrapped, nil
	}
	if from == to {
		who = theMount // it is nothing that the caller wants
	}
	res, err := one(context.Background(), k.svc, k.reEncrypt(wrapped, from, to, who))
	if err != nil {
		return nil, fmt.Errorf("re-wrap data key: %w", err)
	}
	return res.CiphertextBlob, nil
}

// reEncrypt is the request for it.
func (k *keyring) reEncrypt(wrapped []byte, from, to string, who principal) kmsapi.BatchItem {
	return kmsapi.BatchItem{
		Op: kmsapi.OpReEncrypt, KeyID: k.conf.KMSKey, SourceKeyID: k.conf.KMSKey, CiphertextBlob: wrapped,
		EncryptionContext: k.fileContext(from), DestinationEncryptionContext: k.fileContext(to),
		ActAs: who.actAs(),
	}
}

func dataKey(plain []byte) (*secret.Buffer, error) {
	defer secret.Wipe(plain)
	if len(plain) != dataKeySize {
		return nil, fmt.Errorf("data key has %d bytes, want %d", len(plain), dataKeySize)
	}
	return secret.From(plain)
}

// ask sends a batch. There are as many results as items, or an error.
func ask(ctx context.Context, svc KeyService, items []kmsapi.BatchItem) ([]kmsapi.BatchResult, error) {
	ctx, cancel := context.WithTimeout(ctx, keyTimeout)
	defer cancel()
	return answers(len(items), func() ([]kmsapi.BatchResult, error) { return svc.Batch(ctx, items) })
}

// answers waits for the results of n items.
func answers(n int, wait func() ([]kmsapi.BatchResult, error)) ([]kmsapi.BatchResult, error) {
	res, err := wait()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errKeyService, err)
	}
	if len(res) != n {
		for i := range res {
			secret.Wipe(res[i].Plaintext)
		}
		return nil, errors.New("key service: wrong number of results")
	}
	return res, nil
}

// one sends a batch of one.
func one(ctx context.Context, svc KeyService, item kmsapi.BatchItem) (*kmsapi.BatchResult, error) {
	return single(ask(ctx, svc, []kmsapi.BatchItem{item}))
}

// single is the result of a batch of one.
func single(res []kmsapi.BatchResult, err error) (*kmsapi.BatchResult, error) {
	if err != nil {
		return nil, err
	}
	if res[0].Err != nil {
		return nil, res[0].Err
	}
	return &res[0], nil
}
