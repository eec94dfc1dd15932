package policy

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// A Fault is one thing that is wrong with a policy's text, and where.
type Fault struct {
	// Line and Column count from 1; a column is a character, not a byte.
	Line, Column int
	// Message says what is wrong, and where it can be told, what to write instead.
	Message string
}

func (f Fault) Error() string {
	return fmt.Sprintf("line %d, column %d: %s", f.Line, f.Column, f.Message)
}

// Faults is the error of [Parse] and [Document.Bind]: at least one fault, in the
// order of the text, and at most [MaxFaults].
type Faults []Fault

// MaxFaults is how many faults are reported of one policy; a policy of 32 KiB
// may have thousands.
const MaxFaults = 50

// Error is one line per fault.
func (f Faults) Error() string {
	lines := make([]string, len(f))
	for i := range f {
		lines[i] = f[i].Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap gives the single faults to errors.As.
func (f Faults) Unwrap() []error {
	errs := make([]error, len(f))
	for i := range f {
		errs[i] = f[i]
	}
	return errs
}

// faultList collects faults by byte offset while a policy is read.
type faultList struct {
	text string
	list []offsetFault
}

type offsetFault struct {
	off     int
	message string
}

func (l *faultList) add(off int, format string, args ...any) {
	l.list = append(l.list, offsetFault{off, fmt.Sprintf(format, args...)})
}

// err is nil without a fault.
func (l *faultList) err() error {
	if len(l.list) == 0 {
		return nil
	}
	slices.SortStableFunc(l.list, func(a, b offsetFault) int { return cmp.Compare(a.off, b.off) })
	out := make(Faults, 0, min(len(l.list), MaxFaults))
	for _, f := range l.list[:cap(out)] {
		line, column := position(l.text, f.off)
		out = append(out, Fault{Line: line, Column: column, Message: f.message})
	}
	return out
}

// position turns a byte offset into a line and a column.
func position(text string, off int) (line, column int) {
	before := text[:off]
	line = 1 + strings.Count(before, "\n")
	start := strings.LastIndexByte(before, '\n') + 1
	return line, 1 + utf8.RuneCountInString(before[start:])
}

// quote shortens a part of a policy for a message.
func quote(s string) string {
	const most = 80
	if len(s) <= most {
		return fmt.Sprintf("%q", s)
	}
	return fmt.Sprintf("%q...", strings.ToValidUTF8(s[:most], ""))
}
