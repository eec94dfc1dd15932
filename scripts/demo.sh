#!/usr/bin/env bash
# shellcheck disable=SC2016 # commands are shown as they are typed
#
# Shows kmsfs at its main job, on real input, and checks every step: an
# encrypted directory is made and mounted, a Go module is unpacked, built and
# tested in it, git and SQLite work in it, the ciphertext is looked at, tampered
# with and put back, and after a remount everything is there. Works as root and,
# with fuse3, as any user. Leaves nothing behind.
#
#	scripts/demo.sh [KMSFS]
set -euo pipefail
repo=$(cd "$(dirname "$0")/.." && pwd)
. "$repo/scripts/leftovers.sh"
"$repo/scripts/install-deps.sh" demo
kmsfs=$(realpath "${1:-$repo/bin/kmsfs}")

work=$(mktemp -d /var/tmp/kmsfs-demo.XXXXXX)
# shellcheck disable=SC2317 # called by the trap
clean_up() {
	local status=$?
	cd /
	unmount_below "$work"
	end_processes_below "$work"
	rm -rf --one-file-system "$work"
	[ $status -eq 0 ] || echo "demo: FAILED" >&2
	exit $status
}
trap clean_up EXIT
trap 'exit 130' INT TERM HUP

bold='' plain=''
if [ -t 1 ]; then
	bold=$'\e[1m' plain=$'\e[0m'
fi
say() { printf '\n%s# %s%s\n' "$bold" "$*" "$plain"; }
show() { printf '%s$ %s%s\n' "$bold" "$*" "$plain"; }
# run shows a shell command and runs it; its failure ends the demo.
run() {
	show "$1"
	bash -euo pipefail -c "$1"
}
fail() {
	echo "demo: $*" >&2
	exit 1
}

# The state directory would be /var/lib/kmsfs or ~/.local/state/kmsfs; the demo
# has one of its own, and its own key service with it.
kmsfs() { "$kmsfs" --state-dir "$work/state" "$@"; }
export -f kmsfs
export kmsfs work
cd "$work"

say "Make an encrypted directory and mount it"
run 'kmsfs init secret'
run 'mkdir plain; kmsfs mount secret plain'
run 'kmsfs info plain'

source=$(cd "$repo" && go mod download github.com/klauspost/compress && go list -m -f '{{.Dir}}' github.com/klauspost/compress)
export source
say "Unpack a Go module in it, build, vet and test it; the build cache lies inside, too"
run 'mkdir plain/compress; tar -C "$source" -cf - . | tar -C plain/compress -xf -; chmod -R u+w plain/compress'
export GOCACHE=$work/plain/.gocache GOFLAGS='' GOTOOLCHAIN=local
run 'cd plain/compress; go build ./...; go vet ./zstd; go test ./huff0 ./fse ./snappy'
run 'cd plain/compress; go build -o s2c ./s2/cmd/s2c; ./s2c -q -o go.mod.s2 go.mod; ls -l s2c go.mod.s2'

say "Keep its history in git"
export GIT_AUTHOR_NAME=demo GIT_AUTHOR_EMAIL=demo@example.invalid GIT_COMMITTER_NAME=demo GIT_COMMITTER_EMAIL=demo@example.invalid
export GIT_CONFIG_GLOBAL=/dev/null
run 'cd plain/compress; git -c init.defaultBranch=main init -q; git add .; git commit -q -m "compress"; git gc -q; git fsck --full; git status --short | wc -l'

say "Keep a database in it"
run 'sqlite3 plain/ledger.db <<"SQL"
PRAGMA journal_mode = WAL;
CREATE TABLE entry (id INTEGER PRIMARY KEY, account TEXT NOT NULL, amount INTEGER NOT NULL);
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 50000)
  INSERT INTO entry SELECT i, printf("account-%d", i % 97), i FROM n;
CREATE INDEX entry_account ON entry (account);
DELETE FROM entry WHERE id % 5 = 0;
VACUUM;
SELECT count(*), sum(amount) FROM entry;
SQL
test "$(sqlite3 plain/ledger.db "PRAGMA integrity_check")" = ok'

say "What the key service is told when a file is opened"
run 'ln -s compress/README.md plain/readme; ln plain/ledger.db plain/books.db; kmsfs info plain/compress/go.mod'

say "Remember what is there"
run 'cd plain; find . -type f -print0 | sort -z | xargs -0 sha256sum >../sums; find . -type l -print0 | sort -z | xargs -0 -r readlink >../links; wc -l <../sums'

say "What the ciphertext directory shows"
run 'ls secret | sed -n 1,4p'
run 'find secret -type f | wc -l; file=$(find secret -type f -size +8k | sort | sed -n 1p); od -A d -t x1z -j 4096 -N 64 "$file"'
run '! grep -rqa -e "klauspost" -e "CREATE TABLE" secret   # no plaintext'
run '! find secret | grep -F -e compress -e ledger -e go.mod    # no plaintext name'

say "Unmount: only the ciphertext is left"
run 'kmsfs unmount plain; ls -A plain'

say "Check every page, name and record of the volume"
run 'kmsfs fsck secret'

say "Change one byte behind its back: that is an error, never wrong data"
victim=$(find secret -type f -size +64k | sort | sed -n 1p)
export victim
cp -a "$victim" victim.saved
run 'dd if="$victim" bs=1 skip=20000 count=1 status=none | tr "\000-\377" "\001-\377\000" | dd of="$victim" bs=1 seek=20000 conv=notrunc status=none'
if cmp -s "$victim" victim.saved; then
	fail "the byte did not change"
fi
show 'kmsfs fsck secret'
status=0
kmsfs fsck secret || status=$?
[ $status -eq 4 ] || fail "fsck exited with $status, not with 4 for damage"
cat victim.saved >"$victim" # in place: the file keeps its inode
rm victim.saved

say "Take the key away: the volume does not open"
key=$(kmsfs info --json secret | sed -n 's/^ *"kmsKey": "\(.*\)",$/\1/p')
export key
run 'kmsfs key disable "$key"; kmsfs key list'
show 'kmsfs mount secret plain'
if kmsfs mount secret plain; then
	fail "mounted with a disabled key"
fi
run 'kmsfs key enable "$key"'

say "Mount again: everything is there"
run 'kmsfs mount secret plain'
run 'cd plain; sha256sum --quiet -c ../sums; find . -type l -print0 | sort -z | xargs -0 -r readlink | cmp - ../links; find . -type f | wc -l'
run 'git -C plain/compress status --short | wc -l; git -C plain/compress fsck --full'
run 'sqlite3 plain/ledger.db "PRAGMA integrity_check; SELECT count(*), sum(amount) FROM entry"'

say "Rotate the KMS key, and bring every key of the mounted volume under the new material"
run 'kmsfs key rotate "$key"; kmsfs rewrap plain'
run 'kmsfs key rotation list "$key"; kmsfs info plain/ledger.db'
run 'kmsfs unmount plain'

[ -z "$(mounts_below "$work")" ] || fail "something is still mounted"
say "Done: every step did what it should"
