#!/usr/bin/env bash
# Runs the tests: `scripts/test.sh` those of every change, `scripts/test.sh
# long` those that take 80 minutes too. Nothing may be skipped that could run
# here, and nothing may be left behind: a mount, a process or a file below the
# run's own temporary directory fails it.
#
# More arguments go to `go test`, such as: -run TestPosix ./fs
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/leftovers.sh

timeout=30m # of one package: only what hangs meets it, however busy the machine
if [ "${1-}" = long ]; then
	shift
	timeout=6h
	export KMSFS_LONG=1
fi
scripts/install-deps.sh test
if [ "$(id -u)" -ne 0 ]; then
	# Some tests act as several users. They say so and skip themselves, and
	# the report names them.
	echo "not root: tests that need root will be skipped, and FUSE over io_uring" >&2
	may_skip='.*'
else
	export KMSFS_REQUIRE_FUSE=1 # what cannot run fails
	# ext4 holds less than 4 KiB of extended attributes in all, so go-fuse's
	# suite skips its largest there; it runs on tmpfs.
	may_skip='kmsfs\.dev/kmsfs/fs\.TestPosix/disk/XAttrLarge'
fi

# FUSE over io_uring is switched on while tests need it, which only root may; that a
# mount fails for want of it is a failure, unless the kernel has none.
uring=no
if [ "$(id -u)" -eq 0 ]; then
	{ : </dev/fuse; } 2>/dev/null || true # loads the module
	if [ -e /sys/module/fuse/parameters/enable_uring ]; then
		uring=yes
	else
		echo "NOT TESTED: FUSE over io_uring, which this kernel does not have" >&2
		may_skip+='|kmsfs\.dev/kmsfs/fs/internal/fusedev\..*|kmsfs\.dev/kmsfs/fs\.TestTransport'
	fi
fi

# On a disk, not tmpfs, and with a short path: unix sockets lie below it.
TMPDIR=$(mktemp -d /var/tmp/kt.XXXXXX)
export TMPDIR
chmod 755 "$TMPDIR" # tests act as other users, too
packages_run=
# shellcheck disable=SC2317 # called by the trap
clean_up() {
	if [ -n "$packages_run" ]; then
		kill -- "-$packages_run" 2>/dev/null || true
		wait "$packages_run" || true
		cat "$TMPDIR/packages"
	fi
	unmount_below "$TMPDIR"
	end_processes_below "$TMPDIR"
	rm -rf --one-file-system "$TMPDIR"
}
trap clean_up EXIT
trap 'exit 130' INT TERM HUP

# Programs under the race detector sleep a second before they exit, and the tests
# run thousands.
export GORACE="atexit_sleep_ms=10 ${GORACE-}"

start=$SECONDS
report=$TMPDIR/testreport
go build -o "$report" ./scripts/testreport
status=0
# run MAY_SKIP ARGUMENT...: one `go test`, with its report.
run() {
	local skip=$1
	shift
	go test -json -timeout "$timeout" "$@" </dev/null | "$report" -may-skip "$skip"
}
if [ $# -gt 0 ]; then
	run "$may_skip" -race "$@" || status=1
else
	go vet ./...
	# The race detector keeps copies of its own and slows a mount down five
	# times. So the packages run under it, without the scans of memory; those,
	# and the tests on mounts, run without it; and of the latter the ones that
	# do most at once run under it too, with a worker built for it.
	scans='.*\.(TestNoCopiesOfTheKeys|TestHKDFLeavesNoKey|TestNoAllocation)(/.*)?'
	mapfile -t packages < <(go list ./... | grep -v '/fs$')
	# Most of the time tests wait, for disks and deadlines: two run at a time.
	set -m # in a process group of their own, to be ended as one
	run "$may_skip|$scans" -race "${packages[@]}" >"$TMPDIR/packages" 2>&1 &
	packages_run=$!
	set +m
	run "$may_skip" ./fs ./fs/internal/content ./fs/internal/format ./internal/secret || status=1
	run "$may_skip" -race -run 'TestAppendRace|TestReadersAndWriters|TestDirectoryRace|TestNonce|TestDifferential|TestOpenAheadOfChanges' ./fs -kmsfs.ops 3000 || status=1
	# What requests can go through over io_uring; all of it in the long form.
	if [ $uring = yes ]; then
		selection=(-run 'TestPosix|TestAppendRace|TestReadersAndWriters|TestDirectoryRace|TestMapBetweenProcesses|TestFirstOpenDuringWrite|TestOpenAhead(SlowService|CorrectsSize|FillsCache)|TestSlowKeyService|TestInterrupts|TestManyOpen|TestManyUsers|TestBoundaries|TestDifferential|TestCrash$|TestReadOnly|TestOneMountPerVolume|TestFsckMounted')
		[ "${KMSFS_LONG-}" = 1 ] && selection=()
		echo "over io_uring:"
		KMSFS_TEST_TRANSPORT=uring run "$may_skip" "${selection[@]}" ./fs || status=1
		KMSFS_TEST_TRANSPORT=uring run "$may_skip" -race -run 'TestReadersAndWriters|TestDirectoryRace|TestInterrupts' ./fs || status=1
	fi
	wait "$packages_run" || status=1
	packages_run=
	cat "$TMPDIR/packages"
	rm "$TMPDIR/packages"
fi
rm -f "$report"

# A key service that was told to end may still be at it.
await_no_processes_below "$TMPDIR" 60 || {
	echo "left behind: processes"
	processes_below "$TMPDIR" | xargs -r ps -o pid,args -p
	status=1
}
if [ -n "$(mounts_below "$TMPDIR")" ]; then
	echo "left behind: mounts"
	mounts_below "$TMPDIR"
	status=1
fi
if [ -n "$(ls -A "$TMPDIR")" ]; then
	echo "left behind: files"
	find "$TMPDIR" -xdev -maxdepth 2
	status=1
fi
echo "tests took $((SECONDS - start)) s"
exit $status
