// Package median is the average that the benchmarks print: what disturbs the machine now
// and then does not move it.
package median

import (
	"slices"
	"time"
)

// Of is the median of a list that is not empty; the mean of the middle two when even.
func Of[T time.Duration | float64](d []T) T {
	d = slices.Clone(d)
	slices.Sort(d)
	m := len(d) / 2
	if len(d)%2 == 1 {
		return d[m]
	}
	return (d[m-1] + d[m]) / 2
}
