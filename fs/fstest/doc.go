// Package fstest gives tests a real kmsfs: the program built from this
// checkout, a key service of its own, an initialised volume and a mount that
// other programs can use.
//
//	v := fstest.New(t)
//	os.WriteFile(filepath.Join(v.Mnt, "f"), data, 0o644)
//	v.Remount()
//
// Every mount is served by its own process, never by the test's: a test that
// serves the mount it uses can deadlock in the kernel. Everything a test
// process makes lies below one short directory (Unix socket paths hold 107
// bytes), and Main fails the run when a mount, a process or a file is left
// there.
//
// The packages below it are the tools of particular tests: oracle applies one
// random sequence of operations to two directories and compares, powercut
// records what reaches a disk and rebuilds what a power cut can leave of it.
package fstest
