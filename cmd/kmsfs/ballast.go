package main

import "runtime"

// How much garbage, in bytes, the collector waits for at least.
const (
	mountBallast  = 8 << 20
	keysvcBallast = 32 << 20 // a request over HTTP leaves 12 KiB
)

// holdBallast makes garbage collections rarer until the function it returns is
// called. The collector runs whenever the heap has doubled, which a live heap of a
// few megabytes does many times a second under load. The ballast counts, and is
// never touched and so never resident. A heap that has really grown is collected as
// ever.
func holdBallast(size int) (drop func()) {
	ballast := make([]byte, size)
	return func() { runtime.KeepAlive(ballast) }
}
