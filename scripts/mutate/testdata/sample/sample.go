// Package sample has what changes are made of, and statements that stand where nothing
// can be put around them.
package sample

import "errors"

type level int

var errNegative = errors.New("negative")

// Tested is called with all that matters.
func Tested(n int) (level, error) {
	if n < 0 {
		return 0, errNegative
	}
	sum := level(0)
	for i := 0; i < n; i++ {
		sum += 2
	}
	return sum, nil
}

// Untested is called, and nobody looks at what it returns.
func Untested(a, b bool) string {
	if a && b {
		return "both"
	}
	return ""
}

// Forms builds with all changes in it.
func Forms(x any, c chan int) (out string) {
	switch y := x.(type) {
	case int:
		if y := y + 1; y > 7 {
			break
		}
		switch y {
		case 1:
			fallthrough
		case 2:
			out = "few"
		}
	case string:
		out = y
	}
	select {
	case v := <-c:
		out += string(rune(-v))
	case <-c:
	default:
	}
	for {
		if out == "" {
			panic("nothing")
		}
		return out
	}
}

// Never panics in its last statement.
func Never() int {
	panic("never")
}
