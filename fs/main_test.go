package fs_test

import (
	"testing"

	"kmsfs.dev/kmsfs/fs/fstest"
)

func TestMain(m *testing.M) { fstest.Main(m) }
