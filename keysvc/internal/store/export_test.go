package store

import "time"

// NewTables is how many tables wait for compaction.
func (b *Badger) NewTables() int { return b.db.Levels()[0].NumTables }

// SetPatience is how long Close waits.
func (b *Badger) SetPatience(d time.Duration) { b.patience = d }
