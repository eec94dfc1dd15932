// Package audit is the key service's tamper-evident log: one record for every
// call, in AWS CloudTrail's shape, each bound to the one before.
//
// [Open] returns a [Log]; [Log.Append] returns when the record is written, and,
// where asked for, durable. [Verify] checks a log against its signatures and says
// where the first fault is, [Tail] reads its end. Neither needs the service.
//
// # Format, version 1
//
// A log is a directory. It holds segments, audit-SEQUENCE.jsonl, named by the
// sequence number of their first line in 20 decimal digits; checkpoint.pub, the
// public key; and torn-SEQUENCE-N.bin, what [Open] once cut off after a crash.
// Other files are not looked at.
//
// A segment is lines of JSON. A line is a call's record ([Record]) or a
// checkpoint. Its last member chains it to the log:
//
//	"kmsfs":{"sequence":42,"previous":"<hash>"}
//
// Sequence numbers begin with 1 and have no gaps, checkpoints count. A hash is
// the SHA-256 of the whole line before, its newline included, in unpadded
// base64url. The first line has instead
//
//	SHA-256("kmsfs audit log v1" | 0x00 | public key)
//
// A checkpoint is
//
//	{"kmsfsCheckpoint":{"version":1,"reason":"periodic","time":"...","durable":41,
//	"keyId":"<SHA-256 of the public key>","signature":"<base64url>"},"kmsfs":{...}}
//
// on one line. The signature is Ed25519 over
//
//	"kmsfs audit checkpoint v1" | 0x00 | key id (32) | sequence (8) | previous (32) |
//	durable (8) | time in ns since 1970 (8) | reason (1)
//
// with numbers big-endian and the reason 1 open, 2 periodic, 3 rotate, 4 close.
// It covers every line before, through the hash. "durable" is a sequence number
// up to which the log was on the disk when the checkpoint was made: what is
// damaged up to there was not damaged by a crash.
//
// Each segment but the last ends with a checkpoint "rotate". A log's first line
// is a checkpoint "open", and a service that ends makes its last line a checkpoint
// "close". All others are "periodic".
//
// # What is detected
//
// Whoever can write to the directory but does not have the signing key:
//
//   - cannot edit, drop, add or reorder lines up to the last checkpoint, nor
//     remove, rename or exchange segments: [Verify] says which line, where;
//   - can do all that after the last checkpoint, and hash anew: those lines are
//     chained, not signed. While the service runs they are those of the last
//     second. A service that was killed signs them when it starts again, and
//     [Report.SignedLate] counts them;
//   - can cut off the end, back to any earlier line, so that it looks like a
//     service that was killed. The service keeps the last checkpoint ([Head]) where
//     the log's attacker cannot write, and gives it to [Open] and to Verify, which
//     then miss what was cut off. A service that was killed may not have kept those of
//     its last second ([Options].TellDelay);
//   - can put back an older copy of everything, the service's own state included.
//     Nothing inside can tell that. A checkpoint kept elsewhere
//     ([VerifyOptions].Anchor) does: it must be in the log.
//   - can replace the whole log and checkpoint.pub by ones of their own. Give
//     Verify the public key from elsewhere, or compare [Report.KeyID].
//
// Whoever has the signing key (the service, root on its machine while it runs)
// can write any log. An anchor keeps even them from changing what is before it.
//
// # What survives a crash
//
// A record is written (write(2)) before Append returns: it survives the death of
// the service. It is durable (fdatasync(2)) before Append returns where asked for,
// and otherwise soon after: a sync begins within [Options].SyncDelay, 5 ms if not
// set, and takes as long as the disk needs. A power cut loses no more than that.
package audit
