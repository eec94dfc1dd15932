package fs_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"kmsfs.dev/kmsfs/fs/fstest"
)

const (
	alice = 61001
	bob   = 61002
)

// pathPolicy is a key policy under which root administers the key and mounts
// volumes, but opens no file, and each of readers, by ARN, opens what is below the
// paths.
func pathPolicy(readers map[string][]string) string {
	statements := []string{`{
  "Sid": "Administer", "Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::000000000000:root"},
  "NotAction": ["kms:Encrypt", "kms:Decrypt", "kms:ReEncrypt*", "kms:GenerateDataKey*", "kms:CreateGrant"], "Resource": "*"
}`, `{
  "Sid": "OpenTheVolume", "Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::000000000000:root"},
  "Action": "kms:Decrypt", "Resource": "*",
  "Condition": {"Null": {"kms:EncryptionContext:kmsfs:path": "true"}}
}`}
	for arn, paths := range readers {
		statements = append(statements, fmt.Sprintf(`{
  "Effect": "Allow", "Principal": {"AWS": %q},
  "Action": ["kms:Decrypt", "kms:ReEncrypt*", "kms:GenerateDataKey"], "Resource": "*",
  "Condition": {"StringLike": {"kms:EncryptionContext:kmsfs:path": ["%s"]}}
}`, arn, strings.Join(paths, `", "`)))
	}
	return `{"Version": "2012-10-17", "Statement": [` + strings.Join(statements, ",\n") + `]}`
}

const rootARN = "arn:aws:iam::000000000000:root"

func userARN(uid int) string { return fmt.Sprintf("arn:aws:iam::000000000000:user/local/%d", uid) }

// policyVolume makes a volume in which everybody may write as far as POSIX goes,
// with files that were made before its key got the policy.
func policyVolume(t *testing.T, policy string, args ...string) *fstest.Volume {
	t.Helper()
	v := fstest.New(t, fstest.MountArgs(append([]string{"--allow-other", "--key-cache-ttl", "0s"}, args...)...))
	sh(t, v.Mnt, `umask 0; chmod 777 .
		mkdir public private alice
		for d in public private alice; do for f in f g h; do echo $d/$f > $d/$f; done; done`)
	setPolicy(t, v, policy)
	v.Remount()
	return v
}

// forEachTTL runs a test where each open asks the key service, and where its answers count
// for as long as they do by default.
func forEachTTL(t *testing.T, test func(t *testing.T, ttl string)) {
	for _, ttl := range []string{"0s", "1m"} {
		t.Run("key-cache-ttl="+ttl, func(t *testing.T) { test(t, ttl) })
	}
}

// setPolicy replaces the policy of the volume's key.
func setPolicy(t *testing.T, v *fstest.Volume, policy string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "policy.json")
	if err := os.WriteFile(file, []byte(policy), 0o600); err != nil {
		t.Fatal(err)
	}
	v.Must("policy", "put", kmsKey(t, v), file)
}

// TestAuthorizeVolume: the key policy says which paths the mount opens, for
// everybody alike.
func TestAuthorizeVolume(t *testing.T) {
	fstest.RequireRoot(t)
	forEachTTL(t, func(t *testing.T, ttl string) {
		v := policyVolume(t, pathPolicy(map[string][]string{rootARN: {"/public/*"}}), "--key-cache-ttl", ttl)
		for _, who := range []uint32{0, alice, bob} {
			tryAll(t, v, who, []attempt{
				{"reads what the policy names", "cat $M/public/f", true},
				{"reads nothing else", "cat $M/private/f", false},
				{"writes nothing else", "echo x >> $M/private/f", false},
				{"truncates nothing else", "truncate -s 0 $M/private/f", false},
				{"makes files where the policy says", "echo x > $M/public/new && rm $M/public/new", true},
				{"makes no others", "echo x > $M/private/new", false},
				{"lists all the same", "ls -l $M/private/f", true},
				{"moves nothing out", "mv $M/public/g $M/private/moved", false},
				{"moves nothing in", "mv $M/private/g $M/public/moved", false},
				{"links nothing out", "ln $M/public/g $M/private/linked", false},
				{"links nothing in", "ln $M/private/g $M/public/linked", false},
				{"moves inside", "mv $M/public/g $M/public/g2 && test $(cat $M/public/g2) = public/g && mv $M/public/g2 $M/public/g", true},
				{"copies in from outside of the mount", "cp /etc/hostname $M/public/copy && rm $M/public/copy", true},
			})
		}
		// A directory's rename changes what its files are called; they do not open
		// by a name that is not theirs to have, and open again by the old one.
		tryAll(t, v, 0, []attempt{
			{"renames the directory", "mv $M/public $M/other", true},
			{"does not open the files there", "cat $M/other/f", false},
			{"renames a private one to the name", "mv $M/private $M/public", true},
			{"does not open its files either", "cat $M/public/f", false},
			{"renames them back", "mv $M/public $M/private && mv $M/other $M/public", true},
			{"opens them again", "test $(cat $M/public/f) = public/f", true},
		})
		v.Unmount()
	})
}

// TestAuthorizeCaller: the key policy says which paths each user opens, whoever
// has opened them before.
func TestAuthorizeCaller(t *testing.T) {
	fstest.RequireRoot(t)
	forEachTTL(t, func(t *testing.T, ttl string) {
		v := policyVolume(t, pathPolicy(map[string][]string{
			userARN(alice): {"/public/*", "/alice/*"},
			userARN(bob):   {"/public/*"},
		}), "--authorize", "caller", "--key-cache-ttl", ttl)
		tryAll(t, v, alice, []attempt{
			{"reads what both may", "cat $M/public/f", true},
			{"reads hers", "cat $M/alice/f", true},
			{"reads nothing else", "cat $M/private/f", false},
			{"makes a file", "echo x > $M/alice/new", true},
			{"makes none elsewhere", "echo x > $M/private/new", false},
			{"moves from one to the other of hers", "mv $M/public/g $M/alice/moved && test $(cat $M/alice/moved) = public/g", true},
			{"moves nothing out", "mv $M/alice/g $M/private/moved", false},
			{"links", "ln $M/public/h $M/alice/linked && cat $M/alice/linked", true},
		})
		tryAll(t, v, bob, []attempt{
			{"reads what both may", "cat $M/public/f", true},
			{"does not read hers, which she has had open", "cat $M/alice/f", false},
			{"nor by the new name", "cat $M/alice/moved", false},
			{"nor writes", "echo x >> $M/alice/f", false},
			{"nor truncates", "truncate -s 0 $M/alice/f", false},
			{"takes nothing of hers away", "mv $M/alice/g $M/public/moved", false},
			{"links nothing of hers", "ln $M/alice/g $M/public/linked", false},
			{"makes no file of hers", "echo x > $M/alice/new2", false},
			{"reads by the name that is his to read", "test $(cat $M/public/h) = public/h", true},
		})
		tryAll(t, v, 0, []attempt{
			{"does not read even as root", "cat $M/public/f", false},
		})
		for _, dir := range []string{"public", "alice"} {
			path := filepath.Join(v.Mnt, dir)
			if err := os.Rename(path, path+"2"); !errors.Is(err, unix.EXDEV) {
				t.Errorf("rename of the directory %s: %v, want EXDEV", dir, err)
			}
		}
		tryAll(t, v, alice, []attempt{
			{"moves a directory by copying it", "mkdir $M/alice/d && echo x > $M/alice/d/f && mv $M/alice/d $M/alice/e && test $(cat $M/alice/e/f) = x && test ! -e $M/alice/d", true},
			{"keeps a file open", "exec 3< $M/alice/f; test $(cat <&3) = alice/f", true},
		})
		v.Unmount()
		// What the callers did is whole under the policy of before.
		setPolicy(t, v, pathPolicy(map[string][]string{rootARN: {"/*"}}))
		v.Fsck()
	})
}

// TestAuthorizeCallerNeedsPathKeys: with one key for all files nobody can be
// told from another.
func TestAuthorizeCallerNeedsPathKeys(t *testing.T) {
	v := fstest.New(t, fstest.InitArgs("--keys", "volume"), fstest.Unmounted())
	if stderr, exit := v.TryMount("--authorize", "caller"); exit != 1 || !strings.Contains(stderr, "--keys path") {
		t.Errorf("exit %d: %s", exit, stderr)
	}
	if stderr, exit := v.TryMount("--authorize", "everybody"); exit != 2 || !strings.Contains(stderr, "volume or caller") {
		t.Errorf("exit %d: %s", exit, stderr)
	}
}

type attempt struct {
	what, script string
	works        bool
}

func tryAll(t *testing.T, v *fstest.Volume, uid uint32, attempts []attempt) {
	t.Helper()
	for _, a := range attempts {
		out, err := as(uid, uid, nil, strings.ReplaceAll(a.script, "$M", v.Mnt))
		if (err == nil) != a.works {
			t.Errorf("uid %d %s: %v\n%s", uid, a.what, err, out)
		}
	}
}
