#!/usr/bin/env bash
# gofmt, go vet, staticcheck, govulncheck, and shellcheck for the scripts.
# scripts/tools/go.mod pins staticcheck and govulncheck.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/install-deps.sh lint
status=0
tool() { go tool -modfile=scripts/tools/go.mod "$@"; }

unformatted=$(git ls-files --cached --others --exclude-standard -z '*.go' | xargs -0 gofmt -l)
if [ -n "$unformatted" ]; then
	printf 'gofmt would change:\n%s\n' "$unformatted"
	status=1
fi
go vet ./... || status=1
tool staticcheck ./... || status=1
# Every module that go.mod requires is needed, and the direct ones say for what.
go mod tidy -diff || status=1
shellcheck -x scripts/*.sh .ci/run || status=1

# govulncheck exits with 3 for a finding. It asks vuln.go.dev, and a machine
# that cannot reach it learns nothing about the code either way.
complaints=$(mktemp)
trap 'rm -f "$complaints"' EXIT
found=0
tool govulncheck ./... 2>"$complaints" || found=$?
if [ $found -ne 0 ] && grep -q 'fetching vulnerabilities: ' "$complaints"; then
	cat "$complaints" >&2
	echo "lint: NOT CHECKED for known vulnerabilities: the vulnerability database cannot be reached" >&2
elif [ $found -ne 0 ]; then
	cat "$complaints" >&2
	status=1
fi
[ $status -eq 0 ] && echo "lint: ok"
exit $status
