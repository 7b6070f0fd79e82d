package main

import (
	"bytes"
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
)

// notes are what profiles have shown of figures that miss their aim; written by people, and kept below the tables.
//
//go:embed notes.md
var notes string

// report is the page that is written: a table a subject.
type report struct {
	load   string // of the machine before the run: others that use it make the figures worse, and the ratios less sure
	tables []table
}

type table struct {
	title string
	rows  []row
}

// row is a figure of ours, the limit measured in the same run, and their ratio.
type row struct{ what, ours, limit, ratio string }

// add appends rows to the table of this title.
func (r *report) add(title string, rows ...row) {
	for _, one := range rows {
		fmt.Printf("  %-60s %-24s %-24s %s\n", one.what, one.ours, one.limit, one.ratio)
	}
	for i := range r.tables {
		if r.tables[i].title == title {
			r.tables[i].rows = append(r.tables[i].rows, rows...)
			return
		}
	}
	r.tables = append(r.tables, table{title, rows})
}

func (r *report) write(path string) error {
	var b bytes.Buffer
	fmt.Fprintf(&b, "# Results of `make bench`\n\n%s, commit %s, %s\n\n", time.Now().UTC().Format("2006-01-02 15:04 UTC"), commit(), machine())
	fmt.Fprintf(&b, "Load average before the run: %s.\n\n", r.load)
	b.WriteString("Load, daemons, etcd and containers share the machine. A limit is the same work done without Pilothouse in the same run:\n" +
		"the same transactions straight to etcd, the same containers by containerd's client alone. Ratios above 1 say how many times\n" +
		"longer a thing takes than its limit; rates are given as a part of the limit's.\n")
	for _, t := range r.tables {
		fmt.Fprintf(&b, "\n## %s\n\n| what | Pilothouse | limit | ratio |\n|---|---|---|---|\n", t.title)
		for _, x := range t.rows {
			fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", x.what, x.ours, x.limit, x.ratio)
		}
	}
	b.WriteString("\n" + notes)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("writing the report: %w", err)
	}
	if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
		return fmt.Errorf("writing the report: %w", err)
	}
	return nil
}

func commit() string {
	out, err := exec.Command("git", "describe", "--always", "--dirty", "--abbrev=12").Output()
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(out))
}

// machine says what it ran on.
func machine() string {
	model, memory, kernel := "unknown processor", "", ""
	if data, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(data)) {
			if k, v, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(k) == "model name" {
				model = strings.TrimSpace(v)
				break
			}
		}
	}
	if data, err := os.ReadFile("/proc/meminfo"); err == nil {
		var kib int
		if _, err := fmt.Sscanf(string(data), "MemTotal: %d kB", &kib); err == nil {
			memory = fmt.Sprintf(", %d GiB", (kib+1<<19)>>20)
		}
	}
	if data, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		kernel = ", Linux " + strings.TrimSpace(string(data))
	}
	return fmt.Sprintf("%d × %s%s%s, %s", runtime.NumCPU(), model, memory, kernel, runtime.Version())
}

// loadAverage is what the kernel says of the last 1, 5 and 15 minutes.
func loadAverage() string {
	data, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	return strings.Join(strings.Fields(string(data))[:3], " ")
}

// samples are durations of one thing.
type samples []time.Duration

// at is the p-th percentile.
func (s samples) at(p float64) time.Duration {
	if len(s) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(s))
	return sorted[min(len(sorted)-1, int(p/100*float64(len(sorted))))]
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.1f s", d.Seconds()) }

func millis(d time.Duration) string {
	return fmt.Sprintf("%.1f ms", float64(d)/float64(time.Millisecond))
}

func perSecond(n int, d time.Duration) string { return fmt.Sprintf("%.0f/s", float64(n)/d.Seconds()) }

// times is how many times longer a takes than b.
func times(a, b time.Duration) string { return fmt.Sprintf("%.2f", float64(a)/float64(b)) }
