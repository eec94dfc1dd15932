package fs

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"kmsfs.dev/kmsfs/fs/internal/backing"
	"kmsfs.dev/kmsfs/fs/internal/content"
	"kmsfs.dev/kmsfs/fs/internal/format"
	"kmsfs.dev/kmsfs/fs/internal/fusedev"
	"kmsfs.dev/kmsfs/fs/internal/names"
	"kmsfs.dev/kmsfs/internal/secret"
	"kmsfs.dev/kmsfs/keysvc/kmsapi"
)

// The reserved names of the volume's root directory.
const (
	configName  = "kmsfs.conf"
	settledName = "kmsfs.settled"
	dirName     = "kmsfs.dir"
	tmpPrefix   = "kmsfs.new." // half-made objects, swept away
	delPrefix   = "kmsfs.del." // half-removed directories, swept away
	asidePrefix = "kmsfs.old." // directories being replaced by a rename, and the name they had
)

// Errors that callers branch on.
var (
	ErrNotVolume    = errors.New("not a kmsfs ciphertext directory")
	ErrInUse        = errors.New("volume is mounted already")
	ErrNotEmpty     = errors.New("directory is not empty")
	errMisplaced    = errors.New("object does not belong here")
	errNoSettled    = errors.New("the record " + settledName + " is missing or does not verify; somebody removed or changed it behind the filesystem (kmsfs fsck --repair rebuilds it after checking every file)")
	errNoCallerKeys = errors.New("the volume has one key for all its files (--keys volume), so that no caller can be decided on by itself: mount it without --authorize caller, or copy the files into a volume made with --keys path")
	errBadRootDir   = errors.New("the root directory's record does not verify")
)

// Options of an open volume.
type Options struct {
	Keys     KeyService   // required
	ReadOnly bool         // no byte of the ciphertext directory changes
	Logger   *slog.Logger // nil: slog.Default()

	// KeyCacheTTL bounds how long a yes of the key service counts: a later open
	// of the same file asks it again. 0 asks on every open.
	KeyCacheTTL time.Duration

	// KeyCacheSize bounds how many keys of files that are not open are kept for
	// that long; 0 keeps none.
	KeyCacheSize int

	// Authorize says for whom the key service is asked.
	Authorize Authorize

	// BarrierInterval is the time between barriers while there are changes;
	// 0 means 30 seconds.
	BarrierInterval time.Duration

	// IdleUnmount unmounts after this time without a request and without an
	// open file or directory; 0 never does.
	IdleUnmount time.Duration
}

// Root is one open volume: the implementation of fuse.RawFileSystem.
type Root struct {
	fuse.RawFileSystem // answers ENOSYS to what is not implemented

	opts   Options
	log    *slog.Logger
	path   string // of the ciphertext directory, for messages
	conf   *format.Config
	lock   *os.File // kmsfs.conf, flocked
	rootfd int      // O_PATH handle of the ciphertext directory
	dev    uint64

	names  *names.Cipher
	sealer *format.Sealer
	keys   *keyring
	volKey *secret.Buffer

	alg  content.Algorithm
	geom content.Geometry

	// tree guards every node's names, lookups and refs and the two maps. It is
	// held, shared, while a *at call uses a directory handle and stored name
	// together, so that a rename cannot slip between.
	tree   sync.RWMutex
	seq    uint64 // counts changes of names; guarded by tree
	byID   map[uint64]*node
	byIno  map[uint64]*node
	nextID uint64
	root   *node

	fds     fdCache
	handles handleTable

	settle  settler
	lenient struct { // generations that a crash may have left unsettled
		from, to uint64 // [from, to); empty after a clean unmount

		// since is when the crashed session last settled, in seconds, with
		// some room: sizes of files whose inode changed after may be off,
		// settled or not.
		since int64
	}

	ahead     openAhead
	reclaimer reclaimer

	sweeps struct { // directories whose files' keys wait for a new wrapping
		mu      sync.Mutex
		dirs    []*node
		running bool
		opened  atomic.Int64 // when an open last re-wrapped a key and left it to the sweep, in nanoseconds since 1970
	}
	rewrap struct {
		running  sync.Mutex   // held by the one Rewrap
		wrapped  []byte       // the volume key, if it is not as when it was opened; guarded by running
		unwalked atomic.Int64 // counts what may take a key past Rewrap's walk, see noteUnwalked
	}

	recovered atomic.Bool // the files of a crashed session have been checked

	session  string // part of every temporary name of this session
	conn     *fusedev.Conn
	control  string       // MountOptions.Control
	activity atomic.Int64 // unix nanoseconds of the last request
	stop     chan struct{}
	stopped  sync.WaitGroup
	closed   sync.Once
}

// CreateOptions of a new volume.
type CreateOptions struct {
	Keys      KeyService
	KMSKey    string // key ARN
	KeyMode   KeyMode
	Context   ContextMode
	Algorithm string // format.AlgorithmAES256GCM or AlgorithmXChaCha20Poly1305
}

// The choices of a volume; their values are what its configuration says.
type (
	KeyMode     = format.KeyMode
	ContextMode = format.ContextMode
)

// Create makes a volume of the empty directory dir.
func Create(ctx context.Context, dir string, o CreateOptions) (*Config, error) {
	if ents, err := os.ReadDir(dir); err != nil {
		return nil, err
	} else if len(ents) > 0 {
		return nil, fmt.Errorf("%s: %w", dir, ErrNotEmpty)
	}
	conf := format.NewConfig(o.KMSKey, o.KeyMode, o.Context, o.Algorithm, time.Now())
	volKey, err := makeVolumeKey(ctx, o.Keys, conf)
	if err != nil {
		return nil, err
	}
	defer volKey.Free()
	sealer, err := format.NewSealer(volKey.Bytes())
	if err != nil {
		return nil, err
	}
	defer sealer.Wipe()
	data, err := conf.Seal(volKey.Bytes())
	if err != nil {
		return nil, err
	}

	fd, err := backing.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer backing.Close(fd)
	id := names.NewDirID()
	if err := backing.Symlink(fd, dirName, sealer.SealDir(&format.DirRecord{ID: id, Plain: true})); err != nil {
		return nil, err
	}
	if err := backing.Symlink(fd, settledName, sealer.SealSettled(id, &format.SettledRecord{Settled: 1, Next: 1})); err != nil {
		return nil, err
	}
	// The configuration comes last and whole: without it this is no volume.
	f, err := writeConfig(fd, data)
	if err != nil {
		return nil, err
	}
	return conf, f.Close()
}

func makeVolumeKey(ctx context.Context, svc KeyService, conf *format.Config) (*secret.Buffer, error) {
	res, err := one(ctx, svc, kmsapi.BatchItem{
		Op: kmsapi.OpGenerateDataKey, KeyID: conf.KMSKey, NumberOfBytes: volumeKeySize,
		EncryptionContext: volumeContext(conf),
	})
	if err != nil {
		return nil, fmt.Errorf("make volume key under %s: %w", conf.KMSKey, err)
	}
	defer secret.Wipe(res.Plaintext)
	if len(res.Plaintext) != volumeKeySize {
		return nil, fmt.Errorf("key service returned a volume key of %d bytes, want %d", len(res.Plaintext), volumeKeySize)
	}
	conf.WrappedVolumeKey = res.CiphertextBlob
	conf.KMSKey = res.KeyID // the ARN, however the key was named
	return secret.From(res.Plaintext)
}

// Open unlocks the volume in dir. It holds a lock on it until Close: one
// worker per volume, since node caches and the settling generations assume it.
func Open(ctx context.Context, dir string, o Options) (*Root, error) {
	r, err := openVolume(ctx, dir, o)
	if err != nil {
		return nil, err
	}
	if err := r.startSession(); err != nil {
		r.release()
		return nil, err
	}
	return r, nil
}

// openVolume is Open up to the session, of which a check has none.
func openVolume(ctx context.Context, dir string, o Options) (_ *Root, err error) {
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.BarrierInterval == 0 {
		o.BarrierInterval = 30 * time.Second
	}
	lock, conf, err := lockConfig(dir, o.ReadOnly)
	if err != nil {
		return nil, err
	}
	r := &Root{
		RawFileSystem: fuse.NewDefaultRawFileSystem(),
		opts:          o, log: o.Logger.With("volume", conf.Volume), path: dir, conf: conf, lock: lock,
		byID: map[uint64]*node{}, byIno: map[uint64]*node{}, nextID: fuse.FUSE_ROOT_ID,
		rootfd: -1, stop: make(chan struct{}), session: rand.Text(),
	}
	defer func() {
		if err != nil {
			r.release()
		}
	}()
	if o.Authorize == AuthorizeCaller && conf.Keys != format.KeysPath {
		return nil, errNoCallerKeys
	}
	if r.volKey, err = openVolumeKey(ctx, o.Keys, conf); err != nil {
		return nil, err
	}
	if err = conf.Verify(r.volKey.Bytes()); err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Join(dir, configName), err)
	}
	if err = r.unlock(); err != nil {
		return nil, err
	}
	if r.rootfd, err = backing.OpenRoot(dir); err != nil {
		return nil, err
	}
	if err = r.openRootDir(); err != nil {
		return nil, err
	}
	return r, nil
}

// unlock derives everything that hangs from the volume key.
func (r *Root) unlock() (err error) {
	if r.sealer, err = format.NewSealer(r.volKey.Bytes()); err != nil {
		return err
	}
	if r.names, err = r.sealer.Names(); err != nil {
		return err
	}
	if r.keys, err = newKeyring(r.opts.Keys, r.conf, r.sealer, r.volKey.Bytes(), newKeyCache(r.opts.KeyCacheTTL, r.opts.KeyCacheSize)); err != nil {
		return err
	}
	r.alg = content.Algorithm(r.conf.AlgorithmID())
	r.geom, err = content.GeometryFor(r.alg, content.GeometryKind(r.conf.GeometryID()))
	return err
}

// openRootDir verifies the root directory and makes its node.
func (r *Root) openRootDir() error {
	var st unix.Stat_t
	if err := backing.Stat(r.rootfd, ".", &st); err != nil {
		return err
	}
	r.dev = st.Dev
	target, err := backing.Readlink(r.rootfd, dirName)
	if err != nil {
		return fmt.Errorf("%w: %v", errBadRootDir, err)
	}
	rec, err := r.sealer.OpenDir(target)
	if err != nil {
		return fmt.Errorf("%w: %w", errBadRootDir, err)
	}
	if !rec.At(names.Tag{}) {
		return fmt.Errorf("%w: it belongs to another directory", errBadRootDir)
	}
	r.fds.init()
	r.reclaimer.init()
	r.root = r.newNode(&st)
	r.root.lookups = 1 // the kernel never forgets the root
	r.root.dir.fd = r.rootfd
	r.root.dir.adopt(rec)
	return nil
}

// Volume is the volume's id.
func (r *Root) Volume() string { return r.conf.Volume }

// Config is the volume's configuration.
func (r *Root) Config() *Config { return r.conf }

// Close ends the session: everything written is made durable, the volume is
// marked settled, keys are wiped, the lock is released. Call it after the
// mount is gone.
func (r *Root) Close() error {
	var err error
	r.closed.Do(func() {
		close(r.stop)
		r.rewrap.running.Lock() // for ever: no Rewrap is under way, and none begins
		r.ahead.close()
		r.stopped.Wait()
		r.closeFiles()
		err = r.endSession()
		r.release()
	})
	return err
}

// closeFiles puts on disk and closes what an aborted connection left open.
func (r *Root) closeFiles() {
	r.tree.RLock()
	var open []*node
	for _, n := range r.byID {
		if n.file.Load() != nil {
			open = append(open, n)
		}
	}
	r.tree.RUnlock()
	for _, n := range open {
		n.mu.Lock()
		if f := n.file.Load(); f != nil {
			f.refs = 1
			r.letGoLocked(n, f)
		}
		n.mu.Unlock()
	}
}

func (r *Root) release() {
	r.fds.closeAll()
	if r.keys != nil {
		r.keys.opaque.Free()
		r.keys.cache.close()
	}
	if r.rootfd >= 0 {
		backing.Close(r.rootfd)
		r.rootfd = -1
	}
	if r.names != nil {
		r.names.Wipe()
	}
	if r.sealer != nil {
		r.sealer.Wipe()
	}
	r.volKey.Free()
	if r.lock != nil {
		r.lock.Close()
	}
}

// tempName is a name that no two objects share, and that tells whether it is
// this session's.
func (r *Root) tempName(prefix string) string { return prefix + r.session + rand.Text() }
