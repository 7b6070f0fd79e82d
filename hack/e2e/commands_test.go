package e2e

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// commands are what scripts can do beside testscript's own.
func commands() map[string]func(ts *testscript.TestScript, neg bool, args []string) {
	loads := &loads{running: map[string]*load{}}
	return map[string]func(*testscript.TestScript, bool, []string){
		"kubectl":    func(ts *testscript.TestScript, neg bool, args []string) { execute(ts, neg, "kubectl", args) },
		"cluster":    cluster,
		"eventually": eventually,
		"demand":     demand,
		"load":       loads.start,
		"load-end":   loads.end,
	}
}

// execute is exec for a program that every line of a script would otherwise say.
func execute(ts *testscript.TestScript, neg bool, program string, args []string) {
	err := ts.Exec(program, args...)
	if neg && err == nil {
		ts.Fatalf("%s %s succeeded, should have failed", program, strings.Join(args, " "))
	}
	if !neg && err != nil {
		ts.Fatalf("%s %s: %v", program, strings.Join(args, " "), err)
	}
}

func cluster(ts *testscript.TestScript, neg bool, args []string) {
	execute(ts, neg, "cluster", append([]string{"-name", ts.Getenv("CLUSTER"), "-dir", ts.Getenv("CLUSTERDIR")}, args...))
}

// eventually repeats a command until its output matches; with ! until it does not. The repeating is done by a program of its own
// (this one again, see TestMain), so that a script's log has the last output and not all of them.
func eventually(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 3 {
		ts.Fatalf("usage: eventually SECONDS REGEXP COMMAND…")
	}
	execute(ts, false, repeater, append([]string{strconv.FormatBool(!neg)}, args...))
}

// repeater is the name under which this program does the repeating.
const repeater = "e2e-repeat"

// repeat is that program: e2e-repeat MATCH SECONDS REGEXP COMMAND….
func repeat() {
	match := os.Args[1] == "true"
	seconds, err := strconv.Atoi(os.Args[2])
	if err != nil {
		fmt.Fprintln(os.Stderr, "reading the seconds:", err)
		os.Exit(2)
	}
	want, err := regexp.Compile(`(?m)` + os.Args[3])
	if err != nil {
		fmt.Fprintln(os.Stderr, "reading the pattern:", err)
		os.Exit(2)
	}
	for deadline := time.Now().Add(time.Duration(seconds) * time.Second); ; time.Sleep(200 * time.Millisecond) {
		var stdout, stderr strings.Builder
		cmd := exec.Command(os.Args[4], os.Args[5:]...)
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		err := cmd.Run()
		done := err == nil && want.MatchString(stdout.String()) == match
		if !done && time.Now().Before(deadline) {
			continue
		}
		fmt.Print(stdout.String())
		fmt.Fprint(os.Stderr, stderr.String())
		if !done {
			fmt.Fprintf(os.Stderr, "not within %d s: a match of %q is wanted to be %v (%v)\n", seconds, os.Args[3], match, err)
			os.Exit(1)
		}
		return
	}
}

// demand keeps a command's output in a variable.
func demand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: demand VAR COMMAND…")
	}
	execute(ts, false, args[1], args[2:])
	value := strings.TrimSpace(ts.ReadFile("stdout"))
	if value == "" {
		ts.Fatalf("%s printed nothing", strings.Join(args[1:], " "))
	}
	ts.Setenv(args[0], value)
}

// loads are the running load generators of all scripts, by script and name.
type loads struct {
	mu      sync.Mutex
	running map[string]*load
}

// load calls one URL, a new connection each time, from several workers, until it is ended.
type load struct {
	cancel context.CancelFunc
	done   sync.WaitGroup

	mu     sync.Mutex
	calls  int
	failed []string
}

const (
	loadWorkers = 4
	loadPause   = 20 * time.Millisecond // a worker's, between two calls: 100 to 200 calls a second in all
	callTimeout = 5 * time.Second
)

func (l *loads) start(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: load NAME URL")
	}
	key := ts.Getenv("WORK") + " " + args[0]
	ctx, cancel := context.WithCancel(context.Background())
	g := &load{cancel: cancel}
	for range loadWorkers {
		g.done.Go(func() { g.work(ctx, args[1]) })
	}
	l.mu.Lock()
	l.running[key] = g
	l.mu.Unlock()
	ts.Defer(func() { cancel(); g.done.Wait() })
}

func (l *loads) end(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 1 || len(args) > 2 {
		ts.Fatalf("usage: load-end NAME [MIN]")
	}
	l.mu.Lock()
	g := l.running[ts.Getenv("WORK")+" "+args[0]]
	l.mu.Unlock()
	if g == nil {
		ts.Fatalf("no load %q was started", args[0])
	}
	g.cancel()
	g.done.Wait()
	least := 1
	if len(args) == 2 {
		var err error
		least, err = strconv.Atoi(args[1])
		ts.Check(err)
	}
	ts.Logf("%d calls, %d failed", g.calls, len(g.failed))
	if g.calls < least {
		ts.Fatalf("only %d calls were made, at least %d were wanted", g.calls, least)
	}
	if (len(g.failed) > 0) != neg {
		ts.Fatalf("%d of %d calls failed:\n%s", len(g.failed), g.calls, strings.Join(g.failed[:min(10, len(g.failed))], "\n"))
	}
}

func (g *load) work(ctx context.Context, url string) {
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: callTimeout}
	for ctx.Err() == nil {
		began := time.Now()
		err := callOnce(client, url)
		g.mu.Lock()
		g.calls++
		if err != nil {
			g.failed = append(g.failed, fmt.Sprintf("%s after %v: %v", began.Format("15:04:05.000"), time.Since(began).Round(time.Millisecond), err))
		}
		g.mu.Unlock()
		select {
		case <-ctx.Done():
		case <-time.After(loadPause):
		}
	}
}

// callOnce is not bound to the load's end: a call that was begun is finished, else it would count as lost.
func callOnce(client *http.Client, url string) error {
	resp, err := client.Get(url)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s", resp.Status)
	}
	return nil
}
