package keysvc

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"kmsfs.dev/kmsfs/internal/secret"
	"kmsfs.dev/kmsfs/keysvc/internal/audit"
	"kmsfs.dev/kmsfs/keysvc/internal/identity"
	"kmsfs.dev/kmsfs/keysvc/internal/seal"
	"kmsfs.dev/kmsfs/keysvc/internal/sigv4"
	"kmsfs.dev/kmsfs/keysvc/internal/store"
	"kmsfs.dev/kmsfs/keysvc/kmsapi"
)

// The account and region of every ARN that the service makes.
const (
	Account = "000000000000"
	Region  = "us-east-1"
)

// Options say where a service keeps its keys and how it unlocks them.
type Options struct {
	// Dir is the service's directory, STATE/keysvc. It is created.
	Dir string

	// RootKeyFile is the file that unlocks the root key. For a service that
	// has been started before, "" means the file it was made with.
	RootKeyFile string
	// DefaultRootKeyFile is where the first start puts a key file when
	// RootKeyFile is "".
	DefaultRootKeyFile string
	// UsePassphrase makes the first start protect the root key by a passphrase.
	UsePassphrase bool
	// Passphrase asks for it; confirm is set when it is a new one. Nil when
	// there is nobody to ask. The service wipes what it returns.
	Passphrase func(confirm bool) ([]byte, error)
	// PassphraseMemoryKiB lowers or raises Argon2id's memory for a new
	// passphrase from the default of 64 MiB.
	PassphraseMemoryKiB uint32

	// OwnerUID is the user whose keys these are: with the superuser, the one
	// whom the default key policy lets in. Nil means this process's user.
	OwnerUID *uint32
	// Forwarders are users who, as the superuser may, act for other users of the
	// machine, each request needing kmsfs:ActAs.
	Forwarders []uint32
	// Clock is time.Now unless a test says otherwise.
	Clock func() time.Time
	// SimulatedClock makes a new service one whose clock can be advanced, for
	// rehearsals. Such a service stays one: see clock.go.
	SimulatedClock bool
	// AuditDir is the audit log's directory. "" means the directory audit
	// beside Dir.
	AuditDir string
	// AcceptAuditLoss opens a service whose audit log was cut off, put back or
	// removed, and records that.
	AcceptAuditLoss bool
	// AcceptChanged starts on a store that lost records or was put back to an older
	// state, with what is there: see docs/threat-model.md.
	AcceptChanged bool
	// Log is slog.Default() if nil.
	Log *slog.Logger
}

// Service keeps KMS keys and performs the actions of the KMS API. Its methods
// may be called at once from many goroutines.
type Service struct {
	owner      uint32
	forwarders []uint32
	clock      func() time.Time // the time of events; a key's dates are of now
	log        *slog.Logger

	simulated bool         // the store's clock is a simulated one
	ahead     atomic.Int64 // by how many nanoseconds; changes with changing held

	lock    *os.File // flock on the directory: one service per state
	badger  *store.Badger
	records *seal.Records
	mark    *seal.Watermark
	db      *store.Sealed

	index      index
	identities *identity.Directory

	auditDir string
	audit    *audit.Log // nil before it is open
	signer   ed25519.PrivateKey
	owing    sync.Mutex // guards owed
	owed     []*audit.Record
	owes     atomic.Bool // there may be something owed

	signingKeys *sigv4.Cache // of access keys that signed lately

	// changing serializes actions that change records, from the check of what
	// is there to the commit.
	changing sync.Mutex

	// running counts the actions that use key material, which Close must not
	// free under them. It is no RWMutex because actions nest (ReEncrypt).
	running   sync.WaitGroup
	closingMu sync.Mutex // guards closed, and running's additions against it
	closed    bool

	lookAgain     time.Duration
	rescheduled   chan struct{} // wakes lifecycle
	used          chan struct{} // wakes it once a key was used
	usageDirty    atomic.Bool   // and was not since
	stopLifecycle chan struct{}
	lifecycleDone chan struct{} // nil before it runs
}

// ErrInUse says that another service has the directory.
var ErrInUse = errors.New("another key service is running on this state directory")

// lockPatience is how long Open waits for a service that is on its way out.
const lockPatience = 5 * time.Second

// Open starts a service on its directory, or makes a new one there.
func Open(o Options) (_ *Service, err error) {
	s := &Service{owner: uint32(os.Geteuid()), forwarders: o.Forwarders, clock: o.Clock, log: o.Log, lookAgain: lookAgain, signingKeys: sigv4.NewCache(maxSigningKeys),
		rescheduled: make(chan struct{}, 1), used: make(chan struct{}, 1), stopLifecycle: make(chan struct{})}
	if o.OwnerUID != nil {
		s.owner = *o.OwnerUID
	}
	s.identities = identity.NewDirectory(localUsers{s.owner})
	if s.clock == nil {
		s.clock = time.Now
	} else {
		s.lookAgain = 5 * time.Millisecond // a test's clock jumps when it likes
	}
	if s.log == nil {
		s.log = slog.Default()
	}
	if err := makePrivateDir(o.Dir); err != nil {
		return nil, err
	}
	if s.lock, err = lockDir(o.Dir); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()

	dbDir := filepath.Join(o.Dir, "db")
	_, statErr := os.Stat(dbDir)
	unlock := seal.Options{
		KeyFile:        o.RootKeyFile,
		DefaultKeyFile: o.DefaultRootKeyFile,
		Passphrase:     o.Passphrase,
		UsePassphrase:  o.UsePassphrase,
		MustExist:      !errors.Is(statErr, fs.ErrNotExist),
	}
	if o.PassphraseMemoryKiB != 0 {
		unlock.Cost = seal.DefaultCost
		unlock.Cost.MemoryKiB = o.PassphraseMemoryKiB
	}
	root, err := seal.RootKey(o.Dir, unlock)
	if err != nil {
		return nil, err
	}
	if s.records, err = seal.NewRecords(root); err != nil {
		return nil, err
	}
	if err := s.openStore(dbDir, o); err != nil {
		return nil, err
	}
	if err := s.openClock(o.SimulatedClock); err != nil {
		return nil, err
	}
	if err := s.load(); err != nil {
		return nil, fmt.Errorf("load the keys from %s: %w", dbDir, err)
	}
	if err := s.beginUsage(); err != nil {
		return nil, err
	}
	if err := s.openAudit(o); err != nil {
		return nil, err
	}
	if err := s.fireOnce(); err != nil {
		// The keys that are due must not keep the others from being used.
		s.log.Error("rotate or destroy keys that are due", "error", err)
	}
	s.lifecycleDone = make(chan struct{})
	go s.lifecycle()
	return s, nil
}

// openStore opens the records, and refuses a store that does not hold what was
// last written to it.
func (s *Service) openStore(dbDir string, o Options) (err error) {
	if s.badger, err = store.OpenBadger(dbDir, s.log); err != nil {
		return fmt.Errorf("%w: if its files are damaged, restore all of %s from one backup", err, o.Dir)
	}
	s.mark = seal.NewWatermark(filepath.Join(o.Dir, "watermark"), s.records)
	s.db, err = store.OpenSealed(store.SealedOptions{
		Store: s.badger, Sealer: s.records, Mark: s.mark, AcceptChanged: o.AcceptChanged, Log: s.log})
	var c *store.ChangedError
	if !errors.As(err, &c) {
		return err
	}
	what := fmt.Sprintf("%s was changed or restored in part: %s. Restore all of it from one backup", o.Dir, c.What)
	if c.Acceptable {
		what += ", or, to go on with what is left, start once with `kmsfs keysvc serve --accept-changed-store`"
	}
	return errors.New(what)
}

// Close waits for running actions, wipes all key material and closes the store.
func (s *Service) Close() error {
	s.closingMu.Lock()
	was := s.closed
	s.closed = true
	s.closingMu.Unlock()
	if was {
		return nil
	}
	s.running.Wait()
	var errs []error
	if s.lifecycleDone != nil {
		close(s.stopLifecycle)
		<-s.lifecycleDone
		errs = append(errs, s.storeUsage())
	}
	if s.audit != nil {
		errs = append(errs, s.settle(), s.audit.Close())
	}
	secret.Wipe(s.signer)
	s.index.wipe()
	s.signingKeys.Close()
	if s.badger != nil {
		errs = append(errs, s.badger.Close())
	}
	if s.mark != nil {
		errs = append(errs, s.mark.Close())
	}
	if s.records != nil {
		s.records.Close()
	}
	if s.lock != nil {
		errs = append(errs, s.lock.Close())
	}
	return errors.Join(errs...)
}

// begin registers an action that will use key material; s.running.Done ends it.
func (s *Service) begin() error {
	s.closingMu.Lock()
	defer s.closingMu.Unlock()
	if s.closed {
		return errClosing()
	}
	s.running.Add(1)
	return nil
}

func errClosing() error {
	return &kmsapi.Error{Code: kmsapi.CodeKeyUnavailable, Message: "The key service is shutting down."}
}

// makePrivateDir creates dir with mode 0700 and refuses one that another user
// owns or could write to.
func makePrivateDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make the key service's directory: %w", err)
	}
	st, err := os.Stat(dir)
	if err != nil {
		return fmt.Errorf("key service's directory: %w", err)
	}
	if uid := st.Sys().(*syscall.Stat_t).Uid; uid != uint32(os.Geteuid()) {
		return fmt.Errorf("%s belongs to uid %d, not to uid %d: start the key service as its owner", dir, uid, os.Geteuid())
	}
	if perm := st.Mode().Perm(); perm&0o077 != 0 {
		return fmt.Errorf("%s has mode %04o, others may reach it: run chmod 700 %s", dir, perm, dir)
	}
	return nil
}

func lockDir(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the key service's directory: %w", err)
	}
	for deadline := time.Now().Add(lockPatience); ; {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return f, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) || time.Now().After(deadline) {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	f.Close()
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil, fmt.Errorf("%s: %w", dir, ErrInUse)
	}
	return nil, fmt.Errorf("lock %s: %w", dir, err)
}
