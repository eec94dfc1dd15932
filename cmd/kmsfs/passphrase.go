package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/term"

	"kmsfs.dev/kmsfs/internal/secret"
)

func termIsTerminal(fd int) bool { return term.IsTerminal(fd) }

// maxPassphrase bounds what is read from a file.
const maxPassphrase = 1 << 10

// credentialFile is where systemd puts the credential kmsfs-passphrase, or "".
func credentialFile() string {
	dir := os.Getenv("CREDENTIALS_DIRECTORY")
	if dir == "" {
		return ""
	}
	path := filepath.Join(dir, "kmsfs-passphrase")
	if _, err := os.Lstat(path); err != nil {
		return ""
	}
	return path
}

// passphraseFrom reads a passphrase file without its final newline.
func passphraseFrom(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read the passphrase: %w", err)
	}
	defer f.Close()
	buf := make([]byte, maxPassphrase+2)
	defer secret.Wipe(buf)
	n, err := io.ReadFull(f, buf)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read the passphrase: %w", err)
	}
	line, _ := bytes.CutSuffix(buf[:n], []byte("\n"))
	if len(line) > maxPassphrase {
		return nil, fmt.Errorf("the passphrase in %s is longer than %d bytes", path, maxPassphrase)
	}
	return append([]byte(nil), line...), nil
}

// promptPassphrase asks on a terminal, twice for a new passphrase.
func promptPassphrase(in *os.File, out io.Writer, confirm bool) ([]byte, error) {
	what := "Passphrase of the key service: "
	if confirm {
		what = "New passphrase for the key service: "
	}
	first, err := promptOnce(in, out, what)
	if err != nil || !confirm {
		return first, err
	}
	second, err := promptOnce(in, out, "Again: ")
	if err != nil {
		secret.Wipe(first)
		return nil, err
	}
	defer secret.Wipe(second)
	if !bytes.Equal(first, second) {
		secret.Wipe(first)
		return nil, errors.New("the two passphrases differ")
	}
	return first, nil
}

func promptOnce(in *os.File, out io.Writer, what string) ([]byte, error) {
	fmt.Fprint(out, what)
	p, err := term.ReadPassword(int(in.Fd()))
	fmt.Fprintln(out)
	if err != nil {
		return nil, fmt.Errorf("read the passphrase: %w", err)
	}
	return p, nil
}
