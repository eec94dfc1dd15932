package audit

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// publicKeyFile is the name of the public key in a log's directory.
const publicKeyFile = "checkpoint.pub"

// A public key file is one line: this prefix and 32 bytes in base64.
const publicKeyPrefix = "kmsfs-audit-key-1:"

// segment is one file of a log.
type segment struct {
	dir, name string
	first     uint64 // sequence number of its first line
}

func (s segment) path() string { return filepath.Join(s.dir, s.name) }

const (
	segmentPrefix = "audit-"
	segmentSuffix = ".jsonl"
	tornPrefix    = "torn-"
	tornSuffix    = ".bin"
	digits        = 20
)

func segmentName(first uint64) string {
	return fmt.Sprintf("%s%0*d%s", segmentPrefix, digits, first, segmentSuffix)
}

// sequenceIn reads the 20 digits of a name between prefix and suffix.
func sequenceIn(name, prefix, suffix string) (uint64, bool) {
	rest, ok := strings.CutPrefix(name, prefix)
	if !ok {
		return 0, false
	}
	text, ok := strings.CutSuffix(rest, suffix)
	if !ok || len(text) != digits {
		return 0, false
	}
	n, err := strconv.ParseUint(text, 10, 64)
	return n, err == nil && n > 0
}

// listSegments returns the segments in some directories, oldest first. Of those
// that are in two it returns the one in the directory named first.
func listSegments(dirs ...string) ([]segment, error) {
	var segs []segment
	for _, dir := range dirs {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return nil, fmt.Errorf("audit log: %w", err)
		}
		for _, e := range entries {
			if first, ok := sequenceIn(e.Name(), segmentPrefix, segmentSuffix); ok && e.Type().IsRegular() {
				segs = append(segs, segment{dir, e.Name(), first})
			}
		}
	}
	slices.SortStableFunc(segs, func(a, b segment) int { return strings.Compare(a.name, b.name) })
	return slices.CompactFunc(segs, func(a, b segment) bool { return a.name == b.name }), nil
}

// PublicKey reads the public key that lies beside a log. An error for which
// errors.Is(err, fs.ErrNotExist) holds means that there is none.
func PublicKey(dir string) (ed25519.PublicKey, error) {
	path := filepath.Join(dir, publicKeyFile)
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("public key of the audit log: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, 256))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	key, err := ParsePublicKey(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return key, nil
}

// ParsePublicKey reads the text of a public key file.
func ParsePublicKey(text []byte) (ed25519.PublicKey, error) {
	bad := errors.New("not a public key of an audit log of this version of kmsfs")
	rest, ok := bytes.CutPrefix(bytes.TrimSuffix(text, []byte("\n")), []byte(publicKeyPrefix))
	if !ok {
		return nil, bad
	}
	key, err := base64.StdEncoding.Strict().AppendDecode(nil, rest)
	if err != nil || len(key) != ed25519.PublicKeySize {
		return nil, bad
	}
	return key, nil
}

// publicKeyText is the content of a public key file.
func publicKeyText(key ed25519.PublicKey) []byte {
	return append(base64.StdEncoding.AppendEncode([]byte(publicKeyPrefix), key), '\n')
}

func missing(err error) bool { return errors.Is(err, fs.ErrNotExist) }
