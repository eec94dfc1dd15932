package keysvc

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"os"

	"kmsfs.dev/kmsfs/keysvc/internal/audit"
)

// Reading, verifying and archiving an audit log needs no service: the log is
// files. These are for command lines.

type (
	// AuditRecord is a call, or an event of the service's own, as AWS
	// CloudTrail shows it.
	AuditRecord = audit.Record
	// AuditReport is what VerifyAudit found.
	AuditReport = audit.Report
	// AuditVerifyOptions say what to hold an audit log against.
	AuditVerifyOptions = audit.VerifyOptions
)

// VerifyAudit checks every line of the audit log in dir.
func VerifyAudit(dir string, o AuditVerifyOptions) (*AuditReport, error) { return audit.Verify(dir, o) }

// ArchiveAudit moves the complete segments of the audit log in dir, but for the
// last one, to another directory, and returns their names. The service may be running.
func ArchiveAudit(dir, to string) ([]string, error) { return audit.Archive(dir, to) }

// AuditHead is a checkpoint of an audit log, by its text form.
func AuditHead(sequence uint64, hash string) (*audit.Head, error) {
	h := &audit.Head{Sequence: sequence}
	if err := h.Hash.UnmarshalText([]byte(hash)); err != nil {
		return nil, fmt.Errorf("checkpoint of the audit log: %w", err)
	}
	return h, nil
}

// TailAudit calls fn with each of the last n records of the audit log in dir, as
// it is stored and decoded, and with follow then with each new one, until fn fails
// or ctx is done. Nothing is verified.
func TailAudit(ctx context.Context, dir string, n int, follow bool, fn func(line []byte, r *AuditRecord) error) error {
	lines, skip, err := auditLines(ctx, dir, n)
	if err != nil {
		return err
	}
	return audit.Tail(ctx, dir, lines, follow, func(line []byte) error {
		if audit.IsCheckpoint(line) {
			return nil
		}
		if skip > 0 {
			skip--
			return nil
		}
		var r AuditRecord
		if err := json.Unmarshal(line, &r); err != nil {
			return fmt.Errorf("a record of the audit log: %w", err)
		}
		return fn(line, &r)
	})
}

// auditLines says in how many of the last lines the last n records are, and how
// many more are in these. The others are checkpoints.
func auditLines(ctx context.Context, dir string, n int) (lines, skip int, err error) {
	for lines = n; ; lines *= 2 {
		all, records := 0, 0
		err := audit.Tail(ctx, dir, lines, false, func(line []byte) error {
			all++
			if !audit.IsCheckpoint(line) {
				records++
			}
			return nil
		})
		if err != nil || records >= n || all < lines || ctx.Err() != nil {
			return lines, max(0, records-n), err
		}
	}
}

// ReadAuditKey reads a copy of an audit log's public key.
func ReadAuditKey(file string) (ed25519.PublicKey, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("public key of the audit log: %w", err)
	}
	key, err := audit.ParsePublicKey(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return key, nil
}
