package fs

import (
	"context"
	"errors"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"kmsfs.dev/kmsfs/fs/internal/content"
	"kmsfs.dev/kmsfs/fs/internal/format"
	"kmsfs.dev/kmsfs/fs/internal/names"
	"kmsfs.dev/kmsfs/keysvc/kmsapi"
)

// errnoTable is the one place where a failure becomes an errno. The first
// matching line decides; what matches none is EIO.
var errnoTable = []struct {
	is    error
	errno unix.Errno
}{
	{names.ErrInvalid, unix.EINVAL},
	{names.ErrTooLong, unix.ENAMETOOLONG},
	{content.ErrAbsent, unix.EIO},
	{content.ErrCorrupt, unix.EIO},
	{format.ErrNeverWritten, unix.EIO},
	{format.ErrCorrupt, unix.EIO},
	{names.ErrCorrupt, unix.EIO},
	{format.ErrTooLarge, unix.ENOSPC},
	{errMisplaced, unix.EIO},
	{errKeyService, unix.ENOKEY},
	{context.Canceled, unix.EINTR},
	{context.DeadlineExceeded, unix.ETIMEDOUT},
}

// kmsErrnoTable translates the key service's refusals. ENOKEY ("required key
// not available") is what fscrypt answers when a key is gone.
var kmsErrnoTable = map[string]unix.Errno{
	"AccessDeniedException":      unix.EACCES,
	"DisabledException":          unix.ENOKEY,
	"KMSInvalidStateException":   unix.ENOKEY,
	"NotFoundException":          unix.ENOKEY,
	"KeyUnavailableException":    unix.ENOKEY,
	"InvalidCiphertextException": unix.EIO,
	"IncorrectKeyException":      unix.EIO,
}

func errnoOf(err error) unix.Errno {
	var no unix.Errno
	if errors.As(err, &no) {
		return no
	}
	for _, line := range errnoTable {
		if errors.Is(err, line.is) {
			return line.errno
		}
	}
	var kms *kmsapi.Error
	if errors.As(err, &kms) {
		if no, ok := kmsErrnoTable[kms.Code]; ok {
			return no
		}
	}
	return unix.EIO
}

// status is errnoOf for the wire.
func status(err error) fuse.Status {
	if err == nil {
		return fuse.OK
	}
	return fuse.Status(errnoOf(err))
}
