package main

import (
	"testing"
	"time"
)

func TestParseSpan(t *testing.T) {
	const day = 24 * time.Hour
	for s, want := range map[string]time.Duration{
		"30d": 30 * day, "12h": 12 * time.Hour, "1w": 7 * day, "1w2d3h4m5s": 9*day + 3*time.Hour + 4*time.Minute + 5*time.Second,
		"90m": 90 * time.Minute, "0s": 0, "3660d": 3660 * day, "106751d": 106751 * day,
	} {
		if got, err := parseSpan(s); err != nil || got != want {
			t.Errorf("%q is %s, %v", s, got, err)
		}
	}
	for _, s := range []string{"", "d", "30", "30x", "-1d", "+1d", "1.5d", "1d 2h", "1h1d", "1d1d", "30D", "1d2", "106752d", "15250w2d", "99999999999999999999d", "１d"} {
		if got, err := parseSpan(s); err == nil {
			t.Errorf("%q is %s", s, got)
		}
	}
}
