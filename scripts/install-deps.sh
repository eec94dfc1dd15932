#!/usr/bin/env bash
# Installs the Debian packages that building, testing, demonstrating or
# benchmarking kmsfs needs and that are not there yet; without root it names
# them. kmsfs itself needs none: as root it mounts by itself, other users need
# fuse3.
#
#	scripts/install-deps.sh build|test|demo|bench|lint...
set -euo pipefail

# A program that shows whether a package is there, and the package.
build=(git:git)
demo=("${build[@]}" fusermount3:fuse3 tar:tar sqlite3:sqlite3)
# The race detector links with a C compiler. AWS's command line talks to the key service.
test=("${demo[@]}" gcc:gcc aws:awscli getfattr:attr setfacl:acl fio:fio findmnt:mount flock:util-linux mkfs.ext4:e2fsprogs python3:python3 stress-ng:stress-ng)
lint=("${build[@]}" shellcheck:shellcheck)
bench=(fusermount3:fuse3 tar:tar gocryptfs:gocryptfs securefs:securefs encfs:encfs cryfs:cryfs)

needs=()
for purpose in "${@:-build}"; do
	case $purpose in
	build) needs+=("${build[@]}") ;;
	demo) needs+=("${demo[@]}") ;;
	test) needs+=("${test[@]}") ;;
	lint) needs+=("${lint[@]}") ;;
	bench) needs+=("${bench[@]}") ;;
	*)
		echo "install-deps.sh: no such purpose: $purpose (build, test, demo, bench, lint)" >&2
		exit 2
		;;
	esac
done

# Programs for the administrator are outside some users' PATH.
PATH=$PATH:/usr/sbin:/sbin

if ! command -v go >/dev/null; then
	echo "kmsfs needs Go $(sed -n 's/^go //p' "$(dirname "$0")/../go.mod") or newer; Debian 12's is older. Get it from https://go.dev/dl/" >&2
	exit 1
fi

missing=()
for need in "${needs[@]}"; do
	if ! command -v "${need%%:*}" >/dev/null; then
		missing+=("${need##*:}")
	fi
done
# gcc alone comes without the C library's headers.
if [[ " ${needs[*]} " == *" gcc:gcc "* && ! -e /usr/include/stdlib.h ]]; then
	missing+=(libc6-dev)
fi
if [ ${#missing[@]} -eq 0 ]; then
	exit 0
fi
mapfile -t missing < <(printf '%s\n' "${missing[@]}" | sort -u)

if [ "$(id -u)" -ne 0 ]; then
	echo "These packages are missing: ${missing[*]}" >&2
	echo "Install them: sudo apt-get install ${missing[*]}" >&2
	exit 1
fi
if ! command -v apt-get >/dev/null; then
	echo "These programs' packages are missing (Debian's names): ${missing[*]}" >&2
	exit 1
fi
echo "installing ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends "${missing[@]}" </dev/null >/dev/null
