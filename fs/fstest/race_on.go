//go:build race

package fstest

// Race tells whether the race detector is in the tests, and so in kmsfs.
const Race = true
