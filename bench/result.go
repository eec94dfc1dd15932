package main

import (
	"fmt"
	"strconv"
	"time"

	"kmsfs.dev/kmsfs/bench/median"
)

func (b *bench) median(workload, system string, pick func(sample) time.Duration) (time.Duration, bool) {
	samples := b.samples[key{workload, system}]
	if len(samples) == 0 {
		return 0, false
	}
	all := make([]time.Duration, len(samples))
	for i, s := range samples {
		all[i] = pick(s)
	}
	return median.Of(all), true
}

func wall(s sample) time.Duration { return s.Wall }
func cpu(s sample) time.Duration  { return s.CPU }

// memory is the most that a system's processes had after a workload.
func (b *bench) memory(workload, system string) (most int64) {
	for _, s := range b.samples[key{workload, system}] {
		most = max(most, s.RSS)
	}
	return most
}

// ratio is how many times as fast as the base a system is: the median of the
// ratios of each turn. What disturbs the machine for some seconds slows down both
// in that turn, where the medians of each could be of different times.
func (b *bench) ratio(workload, system, base string) (float64, bool) {
	samples, refs := b.samples[key{workload, system}], b.samples[key{workload, base}]
	turns := make([]float64, min(len(samples), len(refs)))
	if len(turns) == 0 {
		return 0, false
	}
	for i := range turns {
		turns[i] = float64(refs[i].Wall) / float64(max(samples[i].Wall, 1))
	}
	return median.Of(turns), true
}

// show is a duration in the workload's unit: a rate, or the time itself.
func (w workload) show(s scale, d time.Duration) string {
	if w.unit == "" {
		return showTime(d)
	}
	return showNumber(w.rate(s, d)) + " " + w.unit
}

func (w workload) rate(s scale, d time.Duration) float64 {
	return float64(w.count(s)) / max(d, time.Nanosecond).Seconds()
}

func showNumber(f float64) string {
	switch {
	case f >= 100:
		return strconv.FormatFloat(f, 'f', 0, 64)
	case f >= 10:
		return strconv.FormatFloat(f, 'f', 1, 64)
	}
	return strconv.FormatFloat(f, 'f', 2, 64)
}

func showTime(d time.Duration) string {
	switch {
	case d >= time.Second:
		return fmt.Sprintf("%.2f s", d.Seconds())
	case d >= time.Millisecond, d == 0:
		return fmt.Sprintf("%.0f ms", float64(d)/float64(time.Millisecond))
	}
	return fmt.Sprintf("%d us", d.Microseconds())
}
