package seal

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/crypto/argon2"

	"kmsfs.dev/kmsfs/internal/secret"
)

// rootFile is the name of the wrapped root key in the service's directory.
const rootFile = "rootkey.json"

// How the root key is protected.
const (
	byKeyFile    = "key-file"
	byPassphrase = "passphrase"
)

// ErrPassphraseNeeded says that the root key is under a passphrase and there
// was no way to ask for it.
var ErrPassphraseNeeded = errors.New("the root key is protected by a passphrase and none was given: run `kmsfs keysvc serve` on a terminal, or give it --passphrase-file")

// Options say how to unlock the root key, or how to protect a new one.
type Options struct {
	// KeyFile is where the key file is. For an existing root key "" means
	// where it was when the root key was made.
	KeyFile string
	// DefaultKeyFile is where a new key file goes when KeyFile is "".
	DefaultKeyFile string
	// Passphrase asks for the passphrase; confirm is set for a new one. Nil
	// when there is nobody to ask. The caller of Passphrase wipes the result.
	Passphrase func(confirm bool) ([]byte, error)
	// UsePassphrase protects a new root key by a passphrase.
	UsePassphrase bool
	// Cost of Argon2id for a new passphrase; zero means DefaultCost.
	Cost Cost
	// MustExist refuses to make a new root key: there are records already.
	MustExist bool
}

// Cost holds Argon2id's parameters.
type Cost struct {
	Time      uint32 `json:"time"`
	MemoryKiB uint32 `json:"memoryKiB"`
	Threads   uint8  `json:"threads"`
}

// DefaultCost is RFC 9106's second recommended set.
var DefaultCost = Cost{Time: 3, MemoryKiB: 64 << 10, Threads: 4}

// wrapped is the content of rootFile. All of it but Wrapped itself is the
// associated data of Wrapped: a lowered cost makes it unreadable.
type wrapped struct {
	Schema     int    `json:"schema"`
	Protection string `json:"protection"`
	KeyFile    string `json:"keyFile,omitempty"`
	Argon2id   *Cost  `json:"argon2id,omitempty"`
	Salt       []byte `json:"salt,omitempty"`
	Wrapped    []byte `json:"wrapped,omitempty"`
}

// RootKey unlocks the root key of the service whose directory is dir, or makes
// a new one there.
func RootKey(dir string, o Options) (*secret.Buffer, error) {
	path := filepath.Join(dir, rootFile)
	raw, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist) && o.MustExist:
		return nil, fmt.Errorf("%s is missing but there are records sealed under its root key: restore it from a backup", path)
	case errors.Is(err, fs.ErrNotExist):
		return newRootKey(path, o)
	case err != nil:
		return nil, fmt.Errorf("read the wrapped root key: %w", err)
	}
	var w wrapped
	if err := json.Unmarshal(raw, &w); err != nil {
		return nil, fmt.Errorf("%s is damaged, restore it from a backup: %w", path, err)
	}
	if w.Schema != 1 {
		return nil, fmt.Errorf("%s has schema %d, this version knows 1: use a newer kmsfs", path, w.Schema)
	}
	return w.unlock(path, o)
}

func (w wrapped) unlock(path string, o Options) (*secret.Buffer, error) {
	kek, source, err := w.unlockKey(path, o)
	if err != nil {
		return nil, err
	}
	defer kek.Free()
	ad, err := w.associatedData()
	if err != nil {
		return nil, err
	}
	root, err := secret.New(KeyLen)
	if err != nil {
		return nil, err
	}
	got, err := openUnder(root.Bytes()[:0], kek.Bytes(), ad, w.Wrapped)
	if err != nil || len(got) != KeyLen {
		root.Free()
		return nil, fmt.Errorf("%s does not unlock %s: use the right one, or restore the file from a backup if it was changed", source, path)
	}
	return root, nil
}

// unlockKey returns the key that wraps the root key, and what it came from.
func (w wrapped) unlockKey(path string, o Options) (*secret.Buffer, string, error) {
	switch w.Protection {
	case byKeyFile:
		if o.UsePassphrase {
			return nil, "", fmt.Errorf("%s is protected by a key file (%s), not by a passphrase: start without a passphrase option", path, w.KeyFile)
		}
		file := o.KeyFile
		if file == "" {
			file = w.KeyFile
		}
		kek, err := readKeyFile(file)
		return kek, "root key file " + file, err
	case byPassphrase:
		if o.KeyFile != "" {
			return nil, "", fmt.Errorf("%s is protected by a passphrase, not by a key file: start without --root-key-file", path)
		}
		if w.Argon2id == nil || !w.Argon2id.valid() || len(w.Salt) < 16 {
			return nil, "", fmt.Errorf("%s is damaged (passphrase parameters): restore it from a backup", path)
		}
		kek, err := w.stretch(o, false)
		return kek, "the passphrase", err
	}
	return nil, "", fmt.Errorf("%s is damaged (unknown protection %q): restore it from a backup", path, w.Protection)
}

// valid bounds what a damaged file can make the service allocate.
func (c Cost) valid() bool {
	return c.Time >= 1 && c.Time <= 1000 && c.MemoryKiB >= 8 && c.MemoryKiB <= 4<<20 && c.Threads >= 1
}

func (w wrapped) stretch(o Options, confirm bool) (*secret.Buffer, error) {
	if o.Passphrase == nil {
		return nil, ErrPassphraseNeeded
	}
	pass, err := o.Passphrase(confirm)
	if err != nil {
		return nil, err
	}
	defer secret.Wipe(pass)
	if len(pass) == 0 {
		return nil, errors.New("the passphrase is empty")
	}
	c := *w.Argon2id
	return secret.From(argon2.IDKey(pass, w.Salt, c.Time, c.MemoryKiB, c.Threads, KeyLen))
}

func (w wrapped) associatedData() (string, error) {
	w.Wrapped = nil
	b, err := json.Marshal(w)
	if err != nil {
		return "", fmt.Errorf("seal: %w", err)
	}
	return "kmsfs keysvc root key v1\x00" + string(b), nil
}

func newRootKey(path string, o Options) (_ *secret.Buffer, err error) {
	w := wrapped{Schema: 1}
	var kek *secret.Buffer
	if o.UsePassphrase {
		w.Protection = byPassphrase
		w.Argon2id = &o.Cost
		if o.Cost == (Cost{}) {
			w.Argon2id = &DefaultCost
		}
		w.Salt = make([]byte, 16)
		rand.Read(w.Salt)
		kek, err = w.stretch(o, true)
	} else {
		w.Protection = byKeyFile
		w.KeyFile = o.KeyFile
		if w.KeyFile == "" {
			w.KeyFile = o.DefaultKeyFile
		}
		if w.KeyFile, err = filepath.Abs(w.KeyFile); err != nil {
			return nil, fmt.Errorf("root key file: %w", err)
		}
		kek, err = makeKeyFile(w.KeyFile)
	}
	if err != nil {
		return nil, err
	}
	defer kek.Free()

	root, err := secret.New(KeyLen)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			root.Free()
		}
	}()
	rand.Read(root.Bytes())
	ad, err := w.associatedData()
	if err != nil {
		return nil, err
	}
	if w.Wrapped, err = sealUnder(kek.Bytes(), ad, root.Bytes()); err != nil {
		return nil, err
	}
	raw, err := json.MarshalIndent(w, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	if err := writeNew(path, append(raw, '\n')); err != nil {
		return nil, fmt.Errorf("save the wrapped root key: %w", err)
	}
	return root, nil
}
