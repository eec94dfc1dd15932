package format

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"time"
)

// ErrUnknownSchema is a volume of a later format: it must not be touched.
var ErrUnknownSchema = errors.New("unknown schema")

// Schema is the version of the whole on-disk format.
const Schema = 1

// KeyMode is who wraps the data keys of files.
type KeyMode string

const (
	KeysPath   KeyMode = "path"   // the KMS wraps every file's key under its path
	KeysVolume KeyMode = "volume" // the KMS wraps the volume key, which wraps file keys
)

// ContextMode is what the KMS is told of a file.
type ContextMode string

const (
	ContextPath   ContextMode = "path"   // paths stand in the encryption context
	ContextOpaque ContextMode = "opaque" // keyed hashes of their components do
	ContextVolume ContextMode = "volume" // only the volume's ID does
)

// The values of the other fields of a Config.
const (
	AlgorithmAES256GCM         = "AES-256-GCM"
	AlgorithmXChaCha20Poly1305 = "XChaCha20-Poly1305"

	GeometryFile  = "file"
	GeometryBlock = "block"
)

const (
	maxConfig     = 64 << 10
	maxWrappedVol = 6144 // the longest CiphertextBlob of the KMS API
	maxKeyARN     = 2048
)

// Config is the volume's configuration, the file kmsfs.conf in its root. It is
// constant from init on and authenticated under the volume key, which is found
// in it: so it is used to ask the KMS for that key, verified, and only then
// believed.
type Config struct {
	Schema           int         `json:"schema"`
	Volume           string      `json:"volume"`
	Created          time.Time   `json:"created"` // UTC, whole seconds
	KMSKey           string      `json:"kmsKey"`  // ARN
	Keys             KeyMode     `json:"keys"`
	Context          ContextMode `json:"context"`
	Algorithm        string      `json:"algorithm"`
	Geometry         string      `json:"geometry"`
	WrappedVolumeKey []byte      `json:"wrappedVolumeKey"`
	MAC              []byte      `json:"mac"`
}

var (
	volumeID = regexp.MustCompile(`^vol-[0-9a-f]{17}$`)
	keyARN   = regexp.MustCompile(`^arn:[a-z0-9-]+:kms:[a-z0-9-]+:[0-9]{12}:key/[A-Za-z0-9-]+$`)
)

// NewVolumeID returns a random ID in the form of EBS: vol-0123456789abcdef0.
func NewVolumeID() string {
	var b [8]byte
	rand.Read(b[:])
	return "vol-0" + hex.EncodeToString(b[:])
}

// NewConfig returns the configuration of a new volume of files. Its wrapped
// volume key is still to be set, and KMSKey may be until Seal.
func NewConfig(kmsKey string, keys KeyMode, context ContextMode, algorithm string, now time.Time) *Config {
	return &Config{
		Schema: Schema, Volume: NewVolumeID(), Created: now.UTC().Truncate(time.Second),
		KMSKey: kmsKey, Keys: keys, Context: context, Algorithm: algorithm, Geometry: GeometryFile,
	}
}

// AlgorithmID returns the algorithm as headers and package content name it.
func (c *Config) AlgorithmID() uint8 {
	return uint8(1 + slices.Index([]string{AlgorithmAES256GCM, AlgorithmXChaCha20Poly1305}, c.Algorithm))
}

// GeometryID returns the geometry as headers and package content name it.
func (c *Config) GeometryID() uint8 {
	return uint8(1 + slices.Index([]string{GeometryFile, GeometryBlock}, c.Geometry))
}

func (c *Config) check() error {
	switch {
	case c.Schema != Schema:
		return fmt.Errorf("configuration: schema %d", c.Schema)
	case !volumeID.MatchString(c.Volume):
		return fmt.Errorf("configuration: volume ID %q", c.Volume)
	case c.Created.Location() != time.UTC, c.Created.Nanosecond() != 0, c.Created.Year() < 1 || c.Created.Year() > 9999:
		return fmt.Errorf("configuration: created %v is not in UTC and whole seconds", c.Created)
	case len(c.KMSKey) > maxKeyARN || !keyARN.MatchString(c.KMSKey):
		return fmt.Errorf("configuration: KMS key %q is no ARN of a key", c.KMSKey)
	case c.Keys != KeysPath && c.Keys != KeysVolume:
		return fmt.Errorf("configuration: keys %q", c.Keys)
	case c.Context != ContextPath && c.Context != ContextOpaque && c.Context != ContextVolume:
		return fmt.Errorf("configuration: context %q", c.Context)
	case c.AlgorithmID() == 0:
		return fmt.Errorf("configuration: algorithm %q", c.Algorithm)
	case c.GeometryID() == 0:
		return fmt.Errorf("configuration: geometry %q", c.Geometry)
	case len(c.WrappedVolumeKey) < 1 || len(c.WrappedVolumeKey) > maxWrappedVol:
		return fmt.Errorf("configuration: wrapped volume key of %d bytes", len(c.WrappedVolumeKey))
	}
	return nil
}

// marshal returns the canonical JSON with a MAC (nil for the form it covers).
func (c Config) marshal(mac []byte) ([]byte, error) {
	c.MAC = append([]byte{}, mac...) // "" rather than null
	b, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	return append(b, '\n'), nil
}

func (c *Config) mac(volumeKey []byte) ([]byte, error) {
	covered, err := c.marshal(nil)
	if err != nil {
		return nil, err
	}
	key, err := subkey(volumeKey, infoConfig, sha256.Size)
	if err != nil {
		return nil, err
	}
	defer key.Free()
	return mac(key.Bytes(), adConfig, covered), nil
}

// Seal sets Schema and MAC, cuts Created to seconds in UTC, and returns the bytes
// of kmsfs.conf.
func (c *Config) Seal(volumeKey []byte) ([]byte, error) {
	c.Schema = Schema
	c.Created = c.Created.UTC().Truncate(time.Second)
	if err := c.check(); err != nil {
		return nil, err
	}
	sum, err := c.mac(volumeKey)
	if err != nil {
		return nil, err
	}
	c.MAC = sum
	return c.marshal(sum)
}

// Verify tells whether c was sealed under volumeKey; ErrCorrupt if not.
func (c *Config) Verify(volumeKey []byte) error {
	sum, err := c.mac(volumeKey)
	if err != nil {
		return err
	}
	if !hmac.Equal(sum, c.MAC) {
		return fmt.Errorf("configuration does not authenticate: %w", ErrCorrupt)
	}
	return nil
}

// ParseConfig parses the bytes that Seal returns, and no others: ErrUnknownSchema
// for those of a later version, else ErrCorrupt. The result is not authenticated
// before Verify.
func ParseConfig(b []byte) (*Config, error) {
	if len(b) > maxConfig {
		return nil, fmt.Errorf("configuration of %d bytes: %w", len(b), ErrCorrupt)
	}
	var version struct {
		Schema int `json:"schema"`
	}
	if err := json.Unmarshal(b, &version); err != nil {
		return nil, fmt.Errorf("configuration: %w: %w", ErrCorrupt, err)
	}
	if version.Schema > Schema {
		return nil, fmt.Errorf("configuration: %w %d, this version knows %d", ErrUnknownSchema, version.Schema, Schema)
	}
	c := &Config{}
	if err := json.Unmarshal(b, c); err != nil {
		return nil, fmt.Errorf("configuration: %w: %w", ErrCorrupt, err)
	}
	if err := c.check(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	if len(c.MAC) != sha256.Size {
		return nil, fmt.Errorf("configuration: MAC of %d bytes: %w", len(c.MAC), ErrCorrupt)
	}
	again, err := c.marshal(c.MAC)
	if err != nil || !bytes.Equal(again, b) {
		return nil, fmt.Errorf("configuration is not in canonical form: %w", ErrCorrupt)
	}
	return c, nil
}
