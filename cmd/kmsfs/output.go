package main

import (
	"encoding/json"
	"fmt"
	"os"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v2"
)

// printJSON writes v as a person can read it and a machine too.
func printJSON(c *cli.Context, v any) error {
	enc := json.NewEncoder(c.App.Writer)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return fmt.Errorf("write the output: %w", err)
	}
	return nil
}

// table writes rows in columns, with a heading.
func table(c *cli.Context, heading []string, rows [][]string) error {
	w := tabwriter.NewWriter(c.App.Writer, 0, 8, 2, ' ', 0)
	line := func(cells []string) {
		for i, cell := range cells {
			if i > 0 {
				fmt.Fprint(w, "\t")
			}
			fmt.Fprint(w, cell)
		}
		fmt.Fprintln(w)
	}
	if len(heading) > 0 {
		line(heading)
	}
	for _, r := range rows {
		line(r)
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("write the output: %w", err)
	}
	return nil
}

// facts writes names and values below each other.
func facts(c *cli.Context, pairs ...[2]string) error {
	w := tabwriter.NewWriter(c.App.Writer, 0, 8, 2, ' ', 0)
	for _, p := range pairs {
		fmt.Fprintf(w, "%s\t%s\n", p[0], p[1])
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("write the output: %w", err)
	}
	return nil
}

// say writes a line for people.
func say(c *cli.Context, format string, args ...any) error {
	if _, err := fmt.Fprintf(c.App.Writer, format+"\n", args...); err != nil {
		return fmt.Errorf("write the output: %w", err)
	}
	return nil
}

// moment formats seconds since the epoch.
func moment(seconds float64) string {
	return time.UnixMilli(int64(seconds * 1000)).UTC().Format("2006-01-02 15:04:05 MST")
}

// progressLine is the last line of a terminal, which tells how far long work is. Nil is
// none.
type progressLine struct{ terminal *os.File }

// newProgressLine is nil unless standard error is a terminal, and for --quiet.
func newProgressLine(c *cli.Context) *progressLine {
	f, ok := c.App.ErrWriter.(*os.File)
	if !ok || !termIsTerminal(int(f.Fd())) || c.Bool("quiet") {
		return nil
	}
	return &progressLine{f}
}

// show replaces the line.
func (p *progressLine) show(format string, args ...any) {
	if p != nil {
		fmt.Fprintf(p.terminal, "\r\x1b[K"+format, args...)
	}
}

// clear removes the line, for others to come in its place.
func (p *progressLine) clear() { p.show("") }
