package flowcontrol

import (
	"bytes"
	"fmt"
	"net/http"
	"strconv"
	"text/tabwriter"
	"time"
)

// Dumps are the debug endpoints, by path
// (https://kubernetes.io/docs/reference/debug-cluster/flow-control/#debug-endpoints): tables in CSV, with the documented columns.
func (g *Gate) Dumps() map[string]http.HandlerFunc {
	const under = "/debug/api_priority_and_fairness/"
	return map[string]http.HandlerFunc{
		under + "dump_priority_levels": serve(func(*http.Request) [][]any { return g.dumpLevels() }),
		under + "dump_queues":          serve(func(*http.Request) [][]any { return g.dumpQueues() }),
		under + "dump_requests": serve(func(r *http.Request) [][]any {
			return g.dumpRequests(r.URL.Query().Get("includeRequestDetails") != "")
		}),
	}
}

func serve(table func(*http.Request) [][]any) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var out bytes.Buffer
		columns := tabwriter.NewWriter(&out, 8, 0, 1, ' ', 0)
		for _, row := range table(r) {
			for i, cell := range row {
				if i > 0 {
					fmt.Fprint(columns, ",\t")
				}
				fmt.Fprint(columns, cell)
			}
			fmt.Fprintln(columns)
		}
		columns.Flush() // into memory
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		_, _ = w.Write(out.Bytes()) // the client may be gone
	}
}

func (g *Gate) dumpLevels() [][]any {
	rows := [][]any{{
		"PriorityLevelName", "ActiveQueues", "IsIdle", "IsQuiescing", "WaitingRequests", "ExecutingRequests",
		"DispatchedRequests", "RejectedRequests", "TimedoutRequests", "CancelledRequests",
	}}
	for _, l := range g.every() {
		l.mu.Lock()
		dispatched, rejected := 0, 0
		for _, y := range l.tallies {
			dispatched += y.dispatched
			rejected += y.refused[noSeat] + y.refused[queueFull]
		}
		rows = append(rows, []any{
			l.name, len(l.busy), l.running.n+l.waiting == 0, l.gone, l.waiting, l.running.n, dispatched, rejected, l.timedout, l.cancelled,
		})
		l.mu.Unlock()
	}
	return rows
}

func (g *Gate) dumpQueues() [][]any {
	rows := [][]any{{
		"PriorityLevelName", "Index", "PendingRequests", "ExecutingRequests", "SeatsInUse", "NextDispatchR",
		"InitialSeatsSum", "MaxSeatsSum", "TotalWorkSum",
	}}
	for _, l := range g.every() {
		l.mu.Lock()
		for index, q := range l.queues {
			if q == nil {
				q = &queue{}
			}
			widest, work := 0, 0.0
			for t := q.waiting.first; t != nil; t = t.next {
				widest += max(t.work.Seats, t.work.Final)
				work += float64(t.work.Seats)*guess.Seconds() + float64(t.work.Final)*t.work.Extra.Seconds()
			}
			rows = append(rows, []any{
				l.name, index, q.waiting.n, q.running, q.inUse, seatSeconds(q.end), q.wanted, widest, seatSeconds(work),
			})
		}
		l.mu.Unlock()
	}
	return rows
}

func seatSeconds(v float64) string { return strconv.FormatFloat(v, 'f', 8, 64) + "ss" }

func (g *Gate) dumpRequests(details bool) [][]any {
	header := []any{
		"PriorityLevelName", "FlowSchemaName", "QueueIndex", "RequestIndexInQueue", "FlowDistingsher", "ArriveTime",
		"InitialSeats", "FinalSeats", "AdditionalLatency", "StartTime",
	}
	if details {
		header = append(header, "UserName", "Verb", "APIPath", "Namespace", "Name", "APIVersion", "Resource", "SubResource")
	}
	rows := [][]any{header}
	for _, l := range g.every() {
		l.mu.Lock()
		for _, q := range l.busy {
			place := 0
			for t := q.waiting.first; t != nil; t = t.next {
				rows = append(rows, g.row(t, q.index, place, details))
				place++
			}
		}
		for t := l.running.first; t != nil; t = t.next {
			index := -1
			if t.queue != nil {
				index = t.queue.index
			}
			rows = append(rows, g.row(t, index, -1, details))
		}
		l.mu.Unlock()
	}
	return rows
}

// row is a request; its level's mu is held.
func (g *Gate) row(t *Ticket, queue, place int, details bool) []any {
	began := time.Time{}
	if t.state != waiting {
		began = g.started.Add(t.began)
	}
	cells := []any{
		t.level.name, t.schema, queue, place, t.flow, stamp(g.started.Add(t.arrived)),
		t.work.Seats, t.work.Final, t.work.Extra, stamp(began),
	}
	if i := t.info; details {
		version := i.Version
		if i.Group != "" {
			version = i.Group + "/" + i.Version
		}
		cells = append(cells, t.user.Name, i.Verb, i.Path, i.Namespace, i.Name, version, i.Resource, i.Subresource)
	}
	return cells
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }
