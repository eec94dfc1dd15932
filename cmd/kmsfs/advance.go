package main

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"kmsfs.dev/kmsfs/keysvc/kmsclient"
)

func advanceCommand() *cli.Command {
	return &cli.Command{
		Name:      "advance",
		Usage:     "move a simulated clock forward",
		ArgsUsage: "TIME",
		Description: `Rehearses what time does to keys: it moves the clock of a key service that runs with
--simulated-clock, and returns when all deletions and rotations that were due on
the way have happened. It cannot be taken back. Only the account root may do it.

TIME is a number with a unit, or several: w weeks, d days, h hours, m minutes,
s seconds.

Examples:
   kmsfs keysvc advance 30d
   kmsfs keysvc advance 1w12h

A rehearsal from beginning to end:
   kmsfs --state-dir /tmp/try keysvc serve --simulated-clock &
   kmsfs --state-dir /tmp/try key create --alias alias/try
   kmsfs --state-dir /tmp/try key schedule-deletion --days 7 alias/try
   kmsfs --state-dir /tmp/try keysvc advance 7d
   kmsfs --state-dir /tmp/try key list`,
		Flags:  []cli.Flag{jsonFlag()},
		Action: advance,
	}
}

func advance(c *cli.Context) error {
	args, err := arguments(c, "TIME")
	if err != nil {
		return err
	}
	by, err := parseSpan(args[0])
	if err != nil {
		return usagef(c, "%w", err)
	}
	// Not started here: what a client starts has a real clock.
	client, err := kmsclient.Connect(c.Context, kmsclient.Options{StateDir: stateDir(c)})
	if err != nil {
		return err
	}
	defer client.Close()
	out, err := client.Advance(c.Context, by)
	if err != nil {
		return err
	}
	if wantsJSON(c) {
		return printJSON(c, out)
	}
	for _, e := range out.Events {
		if err := say(c, "%s  %s %s", moment(e.Date), e.KeyID, e.Event); err != nil {
			return err
		}
	}
	return say(c, "It is %s now.", moment(out.Time))
}

var spanUnits = map[byte]time.Duration{'s': time.Second, 'm': time.Minute, 'h': time.Hour, 'd': 24 * time.Hour, 'w': 7 * 24 * time.Hour}

// parseSpan reads a time such as 30d or 1w12h. Units do not get longer again, so
// that 1h1d, which is more likely a slip, is refused.
func parseSpan(s string) (time.Duration, error) {
	bad := fmt.Errorf("%q is no time such as 30d, 12h or 1w2d", s)
	var sum, last time.Duration
	if s == "" {
		return 0, bad
	}
	for rest := s; rest != ""; {
		digits := len(rest) - len(strings.TrimLeft(rest, "0123456789"))
		if digits == 0 || digits == len(rest) {
			return 0, bad
		}
		n, err := strconv.ParseInt(rest[:digits], 10, 64)
		unit := spanUnits[rest[digits]]
		if err != nil || unit == 0 || last != 0 && unit >= last || n > int64((math.MaxInt64-sum)/unit) {
			return 0, bad
		}
		sum, last, rest = sum+time.Duration(n)*unit, unit, rest[digits+1:]
	}
	return sum, nil
}

// span writes d as parseSpan reads it, in days and less.
func span(d time.Duration) string {
	d = d.Round(time.Second)
	days := d / spanUnits['d']
	rest := (d % spanUnits['d']).String() // 1h2m3s, 0s
	switch {
	case days == 0:
		return rest
	case d%spanUnits['d'] == 0:
		return fmt.Sprintf("%dd", days)
	}
	return fmt.Sprintf("%dd%s", days, rest)
}
