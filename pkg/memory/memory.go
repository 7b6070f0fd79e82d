// Package memory keeps a daemon small when it is idle and lets it be quick when it is not: once little is asked of it, what is not
// alive on the heap goes back to the system, and so do the pages of the program file that are not in use; a daemon under load may
// let its heap grow further than Go's usual twice of what is alive before it is collected. pkg/daemon runs it for all; GOGC in the
// environment has the last word on growth.
package memory

import (
	"context"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"

	"go.uber.org/zap"
)

const (
	every  = 2 * time.Second
	quiet  = 4 << 20 // bytes allocated within every, at most, for the process to count as idle
	spare  = 6 << 20 // bytes beside the live ones that are not worth a collection
	spread = 5       // … and neither is less than a fifth of the live ones
)

// Run sets the growth (as GOGC; 0: Go's own), and gives memory back whenever the process is idle, until ctx ends.
func Run(ctx context.Context, growth int, log *zap.Logger) {
	if growth > 0 && os.Getenv("GOGC") == "" {
		debug.SetGCPercent(growth)
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	before, busy := heap{}, true
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := read()
		allocated := now.allocated - before.allocated
		if allocated > quiet {
			busy = true
		} else if busy {
			// What mattered to the start, or to the load that is over, need not stay in sight.
			if err := dropText(); err != nil {
				log.Warn("unused code stays in memory", zap.Error(err))
			}
			busy = false
		}
		if worthwhile(allocated, now) {
			debug.FreeOSMemory()
			now = read()
		}
		before = now
	}
}

// worthwhile says whether to give memory back, after a while in which so many bytes were allocated.
func worthwhile(allocated uint64, now heap) bool {
	return allocated <= quiet && now.held > now.live+max(spare, now.live/spread)
}

// heap is its state in bytes.
type heap struct {
	allocated uint64 // since the process began
	live      uint64 // at the last collection
	held      uint64 // from the system, but for the gaps between objects, which nobody can give back
}

func read() heap {
	s := []metrics.Sample{
		{Name: "/gc/heap/allocs:bytes"}, {Name: "/gc/heap/live:bytes"},
		{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/memory/classes/heap/free:bytes"},
	}
	metrics.Read(s)
	v := func(i int) uint64 { return s[i].Value.Uint64() }
	return heap{allocated: v(0), live: v(1), held: v(2) + v(3)}
}
