package kmsapi

// BatchUpgrade is the HTTP Upgrade token of the private batch protocol.
const BatchUpgrade = "kmsfs-batch/2"

// BatchPath is where a client asks for the upgrade.
const BatchPath = "/kmsfs/batch"

// StatusPath answers a GET with the service's Status.
const StatusPath = "/kmsfs/status"

// BatchItem is one operation of a batch. Every item is authorized by itself,
// exactly as the action of the same name.
type BatchItem struct {
	// Op is GenerateDataKey, GenerateDataKeyWithoutPlaintext, Decrypt or
	// ReEncrypt.
	Op string
	// KeyID names the key of GenerateDataKey*, the key that Decrypt expects
	// ("" accepts any), or the destination key of ReEncrypt.
	KeyID string
	// SourceKeyID is the key that ReEncrypt expects ("" accepts any).
	SourceKeyID string
	// CiphertextBlob is the input of Decrypt and ReEncrypt. A Decrypt without
	// one takes the blob that the ReEncrypt before it, among the first 64 items,
	// has made: a file found under a new path is re-wrapped and opened in one
	// round trip, each step authorized by itself.
	CiphertextBlob []byte
	// EncryptionContext is that of the data key; for ReEncrypt, of the source.
	EncryptionContext map[string]string
	// DestinationEncryptionContext is ReEncrypt's new context.
	DestinationEncryptionContext map[string]string
	// NumberOfBytes is the length of a generated data key, 1 to 1024.
	NumberOfBytes int
	// ActAs is the user of this machine, by number, for whom the item is to be
	// decided; nil is whoever has the connection. The superuser, and whoever is
	// configured as a forwarder, may name others, with kmsfs:ActAs.
	ActAs *uint32
}

// BatchResult is the outcome of one item.
type BatchResult struct {
	CiphertextBlob []byte // GenerateDataKey*, ReEncrypt
	Plaintext      []byte // GenerateDataKey, Decrypt; the receiver wipes it
	KeyID          string // ARN of the key that was used
	Err            *Error // nil on success
}

// AuditStatus is the last checkpoint of a service's audit log, for who verifies
// it: the log must contain it.
type AuditStatus struct {
	Dir      string
	KeyID    string // of the public key
	Sequence uint64
	Hash     string
}

// Status describes a running service.
type Status struct {
	PID       int
	Version   string
	StateDir  string
	StartedAt float64 // seconds since the epoch
	Clients   int     // open connections, the asking one included
	Keys      int
	Aliases   int
	Auto      bool    // started by a client; leaves when idle
	IdleAfter float64 `json:",omitempty"` // seconds, when Auto
	Principal string  // who the service takes the asking process for

	Listeners []Listener `json:",omitempty"` // for the network
	// Audit says where the audit log is and how far it went.
	Audit AuditStatus

	// SimulatedTime is what a simulated clock shows, in seconds since the
	// epoch; 0 when the clock is real. ClockAhead is by how many seconds it has
	// been advanced.
	SimulatedTime float64 `json:",omitempty"`
	ClockAhead    float64 `json:",omitempty"`
}

// Listener is where callers from the network reach a service.
type Listener struct {
	URL string
	// Certificate is what it shows, in PEM; "" on plain HTTP. Of a certificate that
	// the service made for itself this is what clients must trust.
	Certificate string `json:",omitempty"`
	// Fingerprint is the SHA-256 of the certificate, in hexadecimal.
	Fingerprint string `json:",omitempty"`
}
