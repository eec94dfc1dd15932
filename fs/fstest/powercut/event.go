// Package powercut rebuilds what a power cut can leave on a disk.
//
// A recorder (the program in the directory recorder) is a filesystem between
// kmsfs and its ciphertext directory: it passes every change on and writes it
// down, with the barriers in between. From such a recording a Disk makes states
// that the directory could have been left in:
//
//   - operations on names and attributes, explicit truncates and punched
//     holes persist in the order they were issued: any prefix, but at least up
//     to what a barrier made durable;
//   - pages of data persist in any subset, each in any version it had since
//     the file was last synced, independently of names and of the size;
//   - a size grown by writes persists independently of the data: pages that
//     did not make it read as zeros, or as what was there before.
//
// These are the states ext4 was seen to leave, and some more. A sync of one
// file with fdatasync is taken at its least: it makes durable the data, the
// size and all that was journaled up to the last change of the file's own
// allocation, but no later rename.
package powercut

import "fmt"

// Kind is what an event changes.
type Kind uint8

// The kinds of events.
const (
	Create   Kind = iota + 1 // ID, Parent, Name, Mode with type, Rdev, Name2 the symlink's target, UID, GID
	Link                     // ID, Parent, Name
	Unlink                   // Parent, Name: of anything
	Rename                   // Parent, Name to Parent2, Name2; Flags
	Chmod                    // ID, Mode
	Chown                    // ID, UID, GID
	SetXattr                 // ID, Name, Data
	DelXattr                 // ID, Name
	Truncate                 // ID, Size
	Write                    // ID, Off, Data
	Punch                    // ID, Off, Size: a hole, the size stays
	Grow                     // ID, Size: fallocate beyond the end
	FileSync                 // ID: fsync
	DataSync                 // ID: fdatasync
	SyncAll                  // syncfs
)

// Event is one change, or one barrier. Objects are known by numbers of the
// recording, because inode numbers come again.
type Event struct {
	Kind            Kind
	ID              uint64
	Parent, Parent2 uint64
	Name, Name2     string
	Mode, UID, GID  uint32
	Rdev            uint64
	Off, Size       int64
	Flags           uint32
	Data            []byte
	// Began is the length of the recording when a barrier was asked for: it
	// covers what was done before that.
	Began int
}

// RootID is the directory itself.
const RootID = 1

var kindNames = [...]string{"", "create", "link", "unlink", "rename", "chmod", "chown", "setxattr", "delxattr", "truncate",
	"write", "punch", "grow", "fsync", "fdatasync", "syncfs"}

func (e Event) String() string {
	s := fmt.Sprintf("%-9s #%d", kindNames[e.Kind], e.ID)
	if e.Parent != 0 {
		s += fmt.Sprintf(" in #%d %.40s", e.Parent, e.Name)
	}
	if e.Parent2 != 0 {
		s += fmt.Sprintf(" to #%d %.40s", e.Parent2, e.Name2)
	}
	if e.Flags != 0 {
		s += fmt.Sprintf(" flags=%d", e.Flags)
	}
	if e.Off != 0 || e.Size != 0 || len(e.Data) > 0 {
		s += fmt.Sprintf(" off=%d size=%d data=%d", e.Off, e.Size, len(e.Data))
	}
	return s
}
