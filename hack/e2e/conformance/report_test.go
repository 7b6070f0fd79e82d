package conformance

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"testing"
)

// line is a row of the list.
type line struct{ id, area, name, needs string }

func readRows(file string) ([]line, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("reading the list: %w", err)
	}
	var rows []line
	for i, text := range strings.Split(strings.TrimSpace(string(data)), "\n")[1:] {
		f := strings.Split(text, "\t")
		if len(f) != 4 {
			return nil, fmt.Errorf("%s:%d: %d columns, not 4", file, i+2, len(f))
		}
		rows = append(rows, line{id: f[0], area: f[1], name: f[2], needs: f[3]})
	}
	return rows, nil
}

// outcome is what became of a row.
type outcome int

const (
	missing outcome = iota // it has no test, or that was not run
	passed
	failed
)

// board has the outcome of every row.
type board struct {
	rows []line

	mu  sync.Mutex
	got map[string]outcome // guarded by mu; by id
}

func newBoard(rows []line) *board { return &board{rows: rows, got: map[string]outcome{}} }

// note keeps the outcome of a row whose test has ended.
func (b *board) note(id string, t *testing.T) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case t.Failed():
		b.got[id] = failed
	case !t.Skipped():
		b.got[id] = passed
	}
}

// short says whether any row of the list has not passed.
func (b *board) short() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, r := range b.rows {
		if b.got[r.id] != passed {
			return true
		}
	}
	return false
}

// print writes passed / total by area, and of those that need the API only; then who failed and who is missing.
func (b *board) print(w io.Writer) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var areas []string
	total, pass := map[string]int{}, map[string]int{}
	ids := map[outcome][]string{}
	for _, r := range b.rows {
		if total[r.area] == 0 {
			areas = append(areas, r.area)
		}
		got := b.got[r.id]
		ids[got] = append(ids[got], r.id)
		for _, sum := range []string{r.area, "needs " + r.needs, "all"} {
			total[sum]++
			if got == passed {
				pass[sum]++
			}
		}
	}
	fmt.Fprintln(w, "conformance rows passed / total:")
	for _, sum := range append(areas, "needs api", "all") {
		fmt.Fprintf(w, "  %-16s %3d / %3d\n", sum, pass[sum], total[sum])
	}
	fmt.Fprintf(w, "failed (%d): %s\n", len(ids[failed]), strings.Join(ids[failed], " "))
	fmt.Fprintf(w, "missing (%d): %s\n", len(ids[missing]), spans(ids[missing]))
}

// spans writes ids that follow each other as first..last.
func spans(ids []string) string {
	var parts []string
	for i := 0; i < len(ids); {
		j := i
		for j+1 < len(ids) && follows(ids[j], ids[j+1]) {
			j++
		}
		if j == i {
			parts = append(parts, ids[i])
		} else {
			parts = append(parts, ids[i]+".."+ids[j][strings.LastIndex(ids[j], "-")+1:])
		}
		i = j + 1
	}
	return strings.Join(parts, " ")
}

func follows(a, b string) bool {
	var n, m int
	cut := strings.LastIndex(a, "-") + 1
	if _, err := fmt.Sscanf(a[cut:], "%d", &n); err != nil || !strings.HasPrefix(b, a[:cut]) {
		return false
	}
	_, err := fmt.Sscanf(b[cut:], "%d", &m)
	return err == nil && m == n+1
}
