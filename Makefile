# kmsfs: an encrypted directory whose keys a key service guards.
#
#   make            build bin/kmsfs, one static binary
#   make test       every test of a change, under ten minutes
#   make test-long  the long ones too
#   make demo       the whole thing at work, narrated
#   make bench      kmsfs beside gocryptfs, securefs, go-fuse's loopback and ext4
#   make bench-scale  whether what an operation costs grows with the directory, the tree, the file
#   make bench-kms  the key service, and whether it is as fast as it has to be
#   make mutate     whether the tests notice each small change of what decides who may do what
#   make lint       gofmt, go vet, staticcheck, govulncheck
#   make install    into $(DESTDIR)$(PREFIX)

PREFIX  ?= /usr/local
DESTDIR ?=
# Without git, or outside a clone, the version is unknown.
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)

GOBUILD = CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X main.version=$(VERSION)"

.PHONY: build test test-long demo bench bench-scale bench-kms mutate lint install uninstall clean
.DEFAULT_GOAL := build

build:
	$(GOBUILD) -o bin/kmsfs ./cmd/kmsfs

test:
	scripts/test.sh

test-long:
	scripts/test.sh long

demo: build
	scripts/demo.sh bin/kmsfs

# More flags: make bench BENCHFLAGS="--scale small --rounds 1 --fs kmsfs,gocryptfs".
# The list of them: bin/bench -h
BENCHFLAGS ?=
bench: build
	scripts/install-deps.sh bench
	$(GOBUILD) -o bin/bench ./bench
	$(GOBUILD) -o bin/bench-loopback ./bench/loopback
	bin/bench --json bin/bench.json --markdown bin/bench.md $(BENCHFLAGS)

# Hours, at full size. Less: make bench-scale BENCHFLAGS="-to 10000 -fs kmsfs,native"
# The list of flags: bin/bench-scale -h
bench-scale: build
	scripts/install-deps.sh bench
	$(GOBUILD) -o bin/bench-scale ./bench/growth
	$(GOBUILD) -o bin/bench-loopback ./bench/loopback
	bin/bench-scale -markdown bin/bench-scale.md $(BENCHFLAGS)

# The list of flags: bin/bench-kms -h
bench-kms: build
	$(GOBUILD) -o bin/bench-kms ./bench/kms
	bin/bench-kms --kmsfs bin/kmsfs --json bin/bench-kms.json $(BENCHFLAGS)

# The list of flags: bin/mutate -h. Of the key service, the files that decide, and the
# beginnings of the names of the tests that see it: all of them would take many hours.
DECIDES = access.go,actas.go,authorize.go,caller.go,conditions.go,grants_authorize.go
DECIDED = ActAs AliasExamples AliasMoved AuditNames Authorization BatchHasNo BatchIsAuth BatchItems CallerIdentity \
	ChildGrants ClosedService Condition DecryptRefusals Denials EnableAndDisable EveryCallIsRecorded ForeignKeys \
	FullDiskRefuses GetKeyLastUsage GrantConditions GrantConstraints GrantInAudit GrantIsFor GrantLetsIn GrantTo IdentityDeny \
	IdentityPolicyEx ListRetirable Lockout MaterialOutlives NothingBegins OldMaterial OnlyPeers OnlyTheAccountRoot \
	OtherUsersAre OwnerWho PeerCaller PoliciesCount ReEncrypt RecreatedGrantee SessionTags SourceIP TagsAndAliases \
	TagsOfTheKey ViaService WhoManages WhoRetires
mutate:
	go build -o bin/mutate ./scripts/mutate
	bin/mutate keysvc/internal/grant
	bin/mutate keysvc/internal/policy
	bin/mutate -files $(DECIDES) -run '^Test($(subst $() ,|,$(strip $(DECIDED))))' keysvc

lint:
	scripts/lint.sh

install: build
	install -D -m 0755 bin/kmsfs $(DESTDIR)$(PREFIX)/bin/kmsfs

uninstall:
	rm -f $(DESTDIR)$(PREFIX)/bin/kmsfs

clean:
	rm -rf bin
