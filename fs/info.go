package fs

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"kmsfs.dev/kmsfs/keysvc/kmsapi"
)

// InfoXattr is a virtual extended attribute of everything in a mount: an Info
// in JSON. It is not listed and cannot be set.
const InfoXattr = "kmsfs.info"

// Info describes an object in a mounted volume, and the mount itself.
type Info struct {
	Volume     string
	CipherDir  string
	WorkerPid  int
	Control    string `json:",omitempty"` // the socket of the worker's door, see package daemon/worker
	KMSKey     string
	Keys       string
	Context    string
	Algorithm  string
	ReadOnly   bool
	Recovering bool `json:",omitempty"` // files of a crashed session are still being checked

	Path              string // inside the volume
	StoredPath        string // below the ciphertext directory
	Type              string
	FileID            string            `json:",omitempty"`
	EncryptionContext map[string]string `json:",omitempty"` // what the key service is told on open
	WrappedUnder      string            `json:",omitempty"` // the path the key is wrapped under, when another than Path
	KeyMaterial       string            `json:",omitempty"` // what the key is wrapped under: half of the key material's id, in hex
	KeyEpoch          uint16            `json:",omitempty"`
	Settled           *bool             `json:",omitempty"`
	Holes             int               `json:",omitempty"`
}

// ReadInfo asks the worker that serves path.
func ReadInfo(path string) (*Info, error) {
	buf := make([]byte, 64<<10)
	n, err := unix.Lgetxattr(path, InfoXattr, buf)
	if err != nil {
		return nil, err
	}
	var info Info
	if err := json.Unmarshal(buf[:n], &info); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return &info, nil
}

// info makes the Info of n. Holds: n.mu.
func (r *Root) info(n *node) ([]byte, error) {
	i := &Info{
		Volume: r.conf.Volume, CipherDir: r.path, WorkerPid: os.Getpid(), Control: r.control, KMSKey: r.conf.KMSKey,
		Keys: string(r.conf.Keys), Context: string(r.conf.Context), Algorithm: r.conf.Algorithm,
		ReadOnly: r.opts.ReadOnly, Recovering: r.recovering(), Type: typeName(n.kind),
	}
	if abs, err := filepath.Abs(r.path); err == nil {
		i.CipherDir = abs
	}
	r.tree.RLock()
	i.Path, i.StoredPath = n.pathLocked(), n.storedPathLocked()
	r.tree.RUnlock()
	if n.isRegular() {
		f, err := r.holdLocked(n, accessHeader, theMount)
		if err != nil {
			return nil, err
		}
		defer r.letGoLocked(n, f)
		f.mu.RLock()
		i.FileID = fmt.Sprintf("%x", f.hdr.FileID)
		i.KeyEpoch, i.Holes = f.hdr.Epoch, len(f.hdr.Holes)
		settled := f.hdr.Generation < r.settle.settled.Load()
		i.Settled = &settled
		f.mu.RUnlock()
		if r.keys.perFile() {
			i.EncryptionContext = r.keys.fileContext(contextOf(i.Path))
			if under, ok := kmsapi.ParseBlob(f.wrapped); ok {
				i.KeyMaterial = hex.EncodeToString(under.MaterialID[:])
			}
			if r.keys.bindsPath() && f.path != contextOf(i.Path) {
				i.WrappedUnder = f.path
			}
		} else {
			i.EncryptionContext = volumeContext(r.conf)
		}
	}
	return json.Marshal(i)
}

func typeName(kind uint32) string {
	switch kind {
	case unix.S_IFDIR:
		return "directory"
	case unix.S_IFREG:
		return "file"
	case unix.S_IFLNK:
		return "symlink"
	case unix.S_IFIFO:
		return "fifo"
	case unix.S_IFSOCK:
		return "socket"
	}
	return "device"
}

// storedPathLocked is the path of n's ciphertext below the ciphertext directory.
func (n *node) storedPathLocked() string {
	var parts []string
	for n != nil && len(n.names) > 0 {
		parts = append([]string{n.names[0].stored.Name}, parts...)
		n = n.names[0].parent
	}
	if len(parts) == 0 {
		return "."
	}
	return strings.Join(parts, "/")
}
