package loop

import (
	"fmt"
	"io"
	"strings"

	"go.uber.org/zap"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/record"

	"pilothouse.dev/pkg/client"
)

// Graph prints who wakes whom: of every line of the table the resources it watches with whom a change of them wakes, those it only
// reads, and what else feeds it. Nothing is dialled: the controllers are made, and say as data what they watch.
func Graph(w io.Writer, table []Line) error {
	clients, err := client.New(&rest.Config{Host: "https://graph.invalid"})
	if err != nil {
		return err
	}
	t := Tools{Clients: clients, Watching: clients, Informers: client.Informers(clients.Kube), Recorder: &record.FakeRecorder{}, Log: zap.NewNop()}
	var out strings.Builder
	for _, line := range table {
		as := "the controller manager itself"
		if line.Account != "" {
			as = line.Account
		}
		off := ""
		if line.Off {
			off = ", off as configured"
		}
		fmt.Fprintf(&out, "%s (as %s, workers: %d%s)\n", line.Name, as, line.Workers, off)
		c := line.New(t)
		for _, watch := range c.Watches {
			some := ""
			if watch.Only != nil {
				some = " (some)"
			}
			fmt.Fprintf(&out, "    %-44s wakes %s\n", watch.Resource+some, watch.Wakes)
		}
		for _, r := range c.Reads {
			fmt.Fprintf(&out, "    %-44s is read\n", r)
		}
		if c.Feed != nil {
			fmt.Fprintf(&out, "    fed by %s\n", c.Feeds)
		}
	}
	_, err = io.WriteString(w, out.String())
	return err
}
