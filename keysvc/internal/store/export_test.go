package store

// NewTables is how many tables wait for compaction.
func (b *Badger) NewTables() int { return b.db.Levels()[0].NumTables }
