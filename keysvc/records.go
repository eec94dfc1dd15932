package keysvc

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"

	"kmsfs.dev/kmsfs/internal/secret"
	"kmsfs.dev/kmsfs/keysvc/internal/blob"
	"kmsfs.dev/kmsfs/keysvc/internal/identity"
	"kmsfs.dev/kmsfs/keysvc/internal/policy"
	"kmsfs.dev/kmsfs/keysvc/internal/store"
	"kmsfs.dev/kmsfs/keysvc/kmsapi"
)

// Names of records. Key material has records of its own, so that reading a key's
// description never brings its material near the heap.
func keyRecordName(id string) string             { return "key/" + id }
func materialRecordName(id, matID string) string { return "material/" + id + "/" + matID }

// An alias's record is called as the alias is: alias/....
const aliasRecords = "alias/"

// keyRecord is what is stored of a key.
type keyRecord struct {
	Schema      int
	ID          string
	Spec        string
	Usage       string
	Origin      string
	Region      string
	MultiRegion bool
	State       string
	Description string       `json:",omitempty"`
	Tags        []kmsapi.Tag `json:",omitempty"`
	CreatedAt   time.Time
	CreatedBy   string           // principal ARN
	Materials   []materialRecord // oldest first; the last one encrypts
	Account     string           // whose key it is
	Manager     string           `json:",omitempty"` // AWS of an AWS managed key
	Policy      *identity.Bound  `json:",omitempty"` // nil is the default key policy

	Deletion          *deletion `json:",omitempty"` // while PendingDeletion
	Rotation          *rotation `json:",omitempty"` // while automatic rotation is on
	OnDemandRotations int       `json:",omitempty"` // ever
	UsageSince        time.Time `json:",omitzero"`  // since when uses are noted
	Simulated         bool      `json:",omitempty"` // its dates are of a simulated clock
}

type materialRecord struct {
	ID        string // 64 hexadecimal digits
	CreatedAt time.Time
	Rotation  string `json:",omitempty"` // AUTOMATIC, ON_DEMAND; none made the first
}

// alias is what is stored of an alias.
type alias struct {
	Schema      int
	Account     string
	Name        string // alias/...
	TargetKeyID string
	CreatedAt   time.Time
	UpdatedAt   time.Time
}

// key is the alias's place in the index.
func (a *alias) key() keyName { return keyName{a.Account, a.Name} }

// recordName is the alias's, except that one of another account than this
// machine's has it in front of its name: no name of an alias has a colon.
func (a *alias) recordName() string {
	if a.Account == Account {
		return a.Name
	}
	return aliasRecords + a.Account + ":" + strings.TrimPrefix(a.Name, aliasPrefix)
}

// recordSchema is the version of all records that are written, and oldestSchema the
// first that is read. An unknown one is refused: 2 has accounts and key policies, which a
// service that knows only 1 would not enforce.
const (
	recordSchema = 2
	oldestSchema = 1
)

// key is a key in memory.
type key struct {
	record    keyRecord
	arn       string
	bytes     [16]byte // the id as a CiphertextBlob has it
	policy    *policy.Document
	materials []material
	life      *life // shared by all versions of this key
}

func newKey(r keyRecord) (*key, error) {
	id, err := uuid.Parse(r.ID)
	if err != nil || id.String() != r.ID {
		return nil, fmt.Errorf("key id %q is not a UUID", r.ID)
	}
	d, err := r.keyPolicy()
	if err != nil {
		return nil, err
	}
	return &key{record: r, arn: keyARN(r.Account, r.ID), bytes: id, policy: d, life: new(life)}, nil
}

// withRecord is k with another record; the material is shared.
func (k *key) withRecord(r keyRecord) (*key, error) {
	c := *k
	c.record = r
	if r.Policy != k.record.Policy {
		var err error
		if c.policy, err = r.keyPolicy(); err != nil {
			return nil, err
		}
	}
	return &c, nil
}

func keyARN(account, id string) string     { return arn(account, "key/"+id) }
func aliasARN(account, name string) string { return arn(account, name) }
func arn(account, resource string) string {
	return "arn:aws:kms:" + Region + ":" + account + ":" + resource
}

// newMaterial describes material, which it takes over.
func newMaterial(id string, bytes *secret.Buffer) (material, error) {
	m := material{id: id, bytes: bytes}
	raw, err := hex.DecodeString(id)
	if err != nil || len(raw) != 32 {
		return m, fmt.Errorf("key material id %q is not 64 hexadecimal digits", id)
	}
	copy(m.short[:], raw)
	return m, nil
}

// load fills the index from the store.
func (s *Service) load() error {
	return s.db.View(func(tx store.SealedTx) error {
		err := tx.Scan(keyRecordName(""), func(name string, value []byte) error {
			var r keyRecord
			if err := parseRecord(name, value, &r, &r.Schema); err != nil {
				return err
			}
			r.Schema, r.Account = recordSchema, accountOr(r.Account) // as it will be written next
			k, err := newKey(r)
			if err != nil {
				return fmt.Errorf("record %s: %w", name, err)
			}
			if r.Simulated != s.simulated {
				return fmt.Errorf("record %s: the record %s does not fit it, or is missing: the store was changed, restore it from a backup", name, clockRecordName)
			}
			s.index.setKey(k) // before its material, so that wipe finds it
			if err := k.loadMaterials(tx); err != nil {
				return err
			}
			return nil
		})
		if err != nil {
			return err
		}
		if err := s.loadUsage(tx); err != nil {
			return err
		}
		if err := s.loadIdentities(tx); err != nil {
			return err
		}
		if err := s.loadGrants(tx); err != nil {
			return err
		}
		return tx.Scan(aliasRecords, func(name string, value []byte) error {
			a := new(alias)
			if err := parseRecord(name, value, a, &a.Schema); err != nil {
				return err
			}
			a.Schema, a.Account = recordSchema, accountOr(a.Account)
			if k := s.index.key(a.TargetKeyID); k == nil || k.record.Account != a.Account {
				return fmt.Errorf("record %s: its key %s is missing: the store was changed, restore it from a backup", name, a.TargetKeyID)
			}
			s.index.setAlias(a)
			return nil
		})
	})
}

func parseRecord(name string, value []byte, into any, schema *int) error {
	if err := json.Unmarshal(value, into); err != nil {
		return fmt.Errorf("record %s: %w", name, err)
	}
	if *schema < oldestSchema || *schema > recordSchema {
		return fmt.Errorf("record %s has schema %d, this version knows %d: use a newer kmsfs", name, *schema, recordSchema)
	}
	return nil
}

// accountOr is the account in a record. In those of the first schema there is
// none.
func accountOr(account string) string {
	if account == "" {
		return Account
	}
	return account
}

// loadMaterials opens k's material into locked memory.
func (k *key) loadMaterials(tx store.SealedTx) error {
	if len(k.record.Materials) == 0 {
		return fmt.Errorf("key %s has no key material", k.record.ID)
	}
	for _, r := range k.record.Materials {
		name := materialRecordName(k.record.ID, r.ID)
		buf, err := secret.New(blob.MaterialLen)
		if err != nil {
			return err
		}
		got, err := tx.Get(buf.Bytes()[:0], name)
		if err != nil || len(got) != blob.MaterialLen {
			buf.Free()
			if errors.Is(err, store.ErrNotFound) {
				err = errors.New("it is missing: the store was changed, restore it from a backup")
			}
			if err == nil {
				err = fmt.Errorf("it has %d bytes", len(got))
			}
			return fmt.Errorf("record %s: %w", name, err)
		}
		m, err := newMaterial(r.ID, buf)
		if err != nil {
			buf.Free()
			return fmt.Errorf("record %s: %w", name, err)
		}
		k.materials = append(k.materials, m)
	}
	return nil
}

// putRecord stores r, which is no key material.
func putRecord(tx store.SealedTx, name string, r any) error {
	value, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("record %s: %w", name, err)
	}
	return tx.Set(name, value)
}
