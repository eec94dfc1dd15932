//go:build race

package content

// raceEnabled: the race detector drops objects from a sync.Pool at random.
const raceEnabled = true
