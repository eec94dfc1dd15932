package main

import (
	"fmt"
	"strconv"
	"time"

	"github.com/urfave/cli/v2"

	"kmsfs.dev/kmsfs/keysvc/kmsapi"
	"kmsfs.dev/kmsfs/keysvc/kmsclient"
)

func statusCommand() *cli.Command {
	return &cli.Command{
		Name:  "status",
		Usage: "show whether the key service runs",
		Description: `Exits with 0 when the service answers and with 1 when it does not; it is not
started.

Example:
   kmsfs keysvc status --json`,
		Flags:  []cli.Flag{jsonFlag()},
		Action: status,
	}
}

func status(c *cli.Context) error {
	if _, err := arguments(c); err != nil {
		return err
	}
	socket, st, err := askStatus(c)
	if err != nil {
		return err
	}
	if wantsJSON(c) {
		return printJSON(c, st)
	}
	leaves := "never"
	if st.Auto {
		leaves = (time.Duration(st.IdleAfter * float64(time.Second))).String() + " after the last client"
	}
	lines := [][2]string{
		{"Socket", socket},
		{"State directory", st.StateDir},
		{"Process", strconv.Itoa(st.PID)},
		{"Version", st.Version},
		{"Running since", moment(st.StartedAt)},
		{"Leaves", leaves},
		{"Clients", strconv.Itoa(st.Clients)},
		{"Keys", strconv.Itoa(st.Keys)},
		{"Aliases", strconv.Itoa(st.Aliases)},
		{"You are", st.Principal},
	}
	for _, l := range st.Listeners {
		lines = append(lines, [2]string{"Listens on", l.URL})
		if l.Fingerprint != "" {
			lines = append(lines, [2]string{"Certificate", "SHA-256 " + l.Fingerprint})
		}
	}
	if st.SimulatedTime != 0 {
		ahead := time.Duration(st.ClockAhead * float64(time.Second))
		lines = append(lines, [2]string{"Simulated time", fmt.Sprintf("%s (%s ahead)", moment(st.SimulatedTime), span(ahead))})
	}
	return facts(c, lines...)
}

// askStatus asks the service of the state directory, if one runs.
func askStatus(c *cli.Context) (socket string, st *kmsapi.Status, err error) {
	client, err := kmsclient.Connect(c.Context, kmsclient.Options{StateDir: stateDir(c)})
	if err != nil {
		return "", nil, err
	}
	defer client.Close()
	st, err = client.Status(c.Context)
	return client.Socket(), st, err
}
