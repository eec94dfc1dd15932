module kmsfs.dev/kmsfs

go 1.26.0

require (
	github.com/aws/aws-sdk-go-v2 v1.47.7 // AWS's own client, which the key service is tested with
	github.com/aws/aws-sdk-go-v2/credentials v1.20.15 // signs its requests
	github.com/aws/aws-sdk-go-v2/service/kms v1.62.4 // its KMS operations
	github.com/aws/aws-sdk-go-v2/service/sts v1.51.8 // its STS operations
	github.com/aws/smithy-go v1.28.8 // its errors
	github.com/dgraph-io/badger/v4 v4.9.6 // the embedded store; from 4.9.6 on deleted records stay deleted
	github.com/go-json-experiment/json v0.0.0-20260820222146-c27c302e5fc3 // JSON token by token, strictly: encoding/json/v2 before it is in Go
	github.com/google/uuid v1.6.0 // key and request ids
	github.com/hanwen/go-fuse/v2 v2.12.1 // the FUSE protocol
	github.com/maruel/natural v1.3.0 // the order of names with numbers in them
	github.com/rogpeppe/go-internal v1.16.0 // testscript, for tests of the commands
	github.com/tink-crypto/tink-go/v2 v2.9.0 // AES-SIV for names and records
	github.com/urfave/cli/v2 v2.27.7 // flags and help
	golang.org/x/crypto v0.58.0 // Argon2id and XChaCha20-Poly1305
	golang.org/x/sys v0.49.0 // the system calls of a filesystem
	golang.org/x/term v0.47.0 // asks for a passphrase
	gonum.org/v1/plot v0.17.0 // draws the curves of a benchmark
	google.golang.org/protobuf v1.36.11 // Badger's manifest
)

require (
	codeberg.org/go-fonts/liberation v0.5.0 // indirect
	codeberg.org/go-latex/latex v0.2.0 // indirect
	codeberg.org/go-pdf/fpdf v0.11.1 // indirect
	git.sr.ht/~sbinet/gg v0.7.0 // indirect
	github.com/ajstarks/svgo v0.0.0-20211024235047-1546f124cd8b // indirect
	github.com/aws/aws-sdk-go-v2/internal/configsources v1.5.10 // indirect
	github.com/aws/aws-sdk-go-v2/internal/endpoints/v2 v2.8.10 // indirect
	github.com/aws/aws-sdk-go-v2/internal/v4a v1.5.10 // indirect
	github.com/aws/aws-sdk-go-v2/service/internal/accept-encoding v1.13.24 // indirect
	github.com/aws/aws-sdk-go-v2/service/internal/presigned-url v1.14.10 // indirect
	github.com/cespare/xxhash/v2 v2.3.0 // indirect
	github.com/cpuguy83/go-md2man/v2 v2.0.7 // indirect
	github.com/dgraph-io/ristretto/v2 v2.2.0 // indirect
	github.com/dustin/go-humanize v1.0.1 // indirect
	github.com/go-logr/logr v1.4.3 // indirect
	github.com/go-logr/stdr v1.2.2 // indirect
	github.com/golang/freetype v0.0.0-20170609003504-e2365dfdc4a0 // indirect
	github.com/google/flatbuffers v25.2.10+incompatible // indirect
	github.com/klauspost/compress v1.18.0 // indirect
	github.com/russross/blackfriday/v2 v2.1.0 // indirect
	github.com/xrash/smetrics v0.0.0-20240521201337-686a1a2994c1 // indirect
	go.opentelemetry.io/auto/sdk v1.2.1 // indirect
	go.opentelemetry.io/otel v1.41.0 // indirect
	go.opentelemetry.io/otel/metric v1.41.0 // indirect
	go.opentelemetry.io/otel/trace v1.41.0 // indirect
	golang.org/x/image v0.30.0 // indirect
	golang.org/x/text v0.43.0 // indirect
	golang.org/x/tools v0.51.0 // indirect
)
