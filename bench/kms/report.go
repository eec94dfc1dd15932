package main

import (
	"errors"
	"fmt"
	"io"
	"text/tabwriter"

	"kmsfs.dev/kmsfs/bench/median"
)

// results are the samples of all rounds.
type results struct {
	Clients, Rounds, Processors, Grants, MostGrants int
	User                                            uint32 // who the clients are
	Verified                                        int    // data keys whose records were counted

	Empty, Single, Batches          []sample
	InProcess, OneGrant, ManyGrants []sample
}

// medians is that of each number.
func medians(all []sample) (m sample) {
	of := func(number func(sample) float64) float64 {
		v := make([]float64, len(all))
		for i, s := range all {
			v[i] = number(s)
		}
		return median.Of(v)
	}
	m.PerSecond = of(func(s sample) float64 { return s.PerSecond })
	m.P50 = of(func(s sample) float64 { return s.P50 })
	m.P99 = of(func(s sample) float64 { return s.P99 })
	m.CPU = of(func(s sample) float64 { return s.CPU })
	return m
}

// What has to be reached.
const (
	leastOfEmpty   = 0.45   // GenerateDataKey, of the empty handler
	leastOfSingle  = 4      // a batch, per key, of GenerateDataKey
	leastInProcess = 80_000 // per second
	mostOfOneGrant = 1.5    // the median time of a call with 50,000 grants, of that with one
)

// print fails when something is slower than it has to be.
func (r *results) print(w io.Writer) error {
	fmt.Fprintf(w, "%d processors, %d clients (uid %d), medians of %d rounds\n\n", r.Processors, r.Clients, r.User, r.Rounds)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "\tper second\tp50 us\tp99 us\tcpu us\t")
	missed := 0
	line := func(what string, all []sample, note string) {
		m := medians(all)
		fmt.Fprintf(t, "%s\t%.0f\t%.1f\t%.1f\t%.1f\t%s\n", what, m.PerSecond, m.P50, m.P99, m.CPU, note)
	}
	wanted := func(ok bool, format string, args ...any) string {
		if !ok {
			missed++
			return fmt.Sprintf(format, args...) + "  MISSED"
		}
		return fmt.Sprintf(format, args...)
	}
	empty, single, batches := medians(r.Empty).PerSecond, medians(r.Single).PerSecond, medians(r.Batches).PerSecond
	line("unix socket: empty handler", r.Empty, "")
	line("unix socket: GenerateDataKey", r.Single,
		wanted(single >= leastOfEmpty*empty, "%.2f of the empty handler, at least %.2f", single/empty, leastOfEmpty))
	line(fmt.Sprintf("unix socket: keys in batches of %d", batchSize), r.Batches,
		wanted(batches >= leastOfSingle*single, "%.1f times GenerateDataKey, at least %d", batches/single, leastOfSingle))
	direct := medians(r.InProcess).PerSecond
	line("in process: GenerateDataKey", r.InProcess, wanted(direct >= leastInProcess, "at least %d", leastInProcess))
	one, many := medians(r.OneGrant), medians(r.ManyGrants)
	line("in process, by the only grant", r.OneGrant, "")
	line(fmt.Sprintf("in process, by one of %d grants", r.MostGrants), r.ManyGrants,
		wanted(many.P50 <= mostOfOneGrant*one.P50, "%.2f of the time with one, at most %.1f", many.P50/one.P50, mostOfOneGrant))
	if err := t.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(w, "\nThe key has a policy of %d statements and %d grants. Batches' p50 and p99 are of a batch;\n"+
		"cpu is the processor time of a key, clients and service together.\n"+
		"After each run the audit log verified; in all it has a record of each of the %d keys.\n", statements, r.Grants, r.Verified)
	if missed > 0 {
		return errors.New("slower than it has to be")
	}
	return nil
}
