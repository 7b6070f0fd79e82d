package policy

import (
	"fmt"

	"go.uber.org/zap"

	"pilothouse.dev/kube-proxy/nfconn"
)

// Writer keeps the kernel's table as the news say. Not for concurrent use.
type Writer struct {
	log    *zap.Logger
	kernel *kernel

	rules   *ruleset // nil: nothing was heard yet
	current bool     // the kernel holds what rules say, as far as we know
	present bool     // there is a table
	// what the connection's Strangers were before the table was last read
	strangers uint64
}

// Stats tells what a call changed.
type Stats struct {
	Elements int  // added and deleted
	Chains   int  // added and deleted
	Repaired bool // the kernel did not hold what it should
}

// NewWriter makes a Writer that talks over conn, which others may use as well.
func NewWriter(conn *nfconn.Conn, log *zap.Logger) *Writer {
	return &Writer{log: log, kernel: &kernel{conn}}
}

// Remove deletes the table, if there is one.
func Remove(conn *nfconn.Conn) error {
	if err := (&kernel{conn}).remove(); err != nil {
		return fmt.Errorf("deleting the table: %w", err)
	}
	return nil
}

// Set takes in the news and makes the kernel enforce what is true now, by one
// transaction with the difference. The first time, and whenever the kernel
// refuses the difference, what it holds is read and mended. Without a policy
// there is no table.
func (w *Writer) Set(n News) (Stats, error) {
	var have *found
	var lookErr error
	if w.rules == nil {
		w.rules = newRuleset()
		if have, lookErr = w.look(); lookErr == nil && have.usable {
			lookErr = w.rules.inherit(have)
		}
	}
	d := w.rules.advance(n)
	w.rules.found = nil
	if d.short {
		w.log.Error("there are more groups of pods, or of peers, than numbers: some traffic that policies allow is dropped")
	}
	if lookErr != nil { // the news are taken in; the next call looks again
		w.current = false
		return Stats{}, lookErr
	}
	if !w.rules.wanted() {
		return w.clear()
	}
	if w.current && w.present {
		t := d.transaction()
		if t.empty() {
			return Stats{}, nil
		}
		err := w.kernel.apply(t, w.rules)
		if err == nil {
			return Stats{Elements: t.elements(), Chains: len(t.addChains) + len(t.delChains)}, nil
		}
		w.log.Warn("the kernel refused a change of the policies' rules; mending the table", zap.Error(err))
	}
	w.current = false
	if have == nil {
		var err error
		if have, err = w.look(); err != nil {
			return Stats{}, err
		}
	}
	first := have.absent && !w.present
	stats, err := w.repair(have)
	stats.Repaired = stats.Repaired && !first
	return stats, err
}

// Verify repairs the table if somebody else touched it since the last call.
func (w *Writer) Verify() (Stats, error) {
	if !w.present || !w.current {
		return Stats{}, nil
	}
	now, err := w.kernel.Strangers()
	if err != nil {
		return Stats{}, err
	}
	if now == w.strangers {
		return Stats{}, nil
	}
	have, err := w.look()
	if err != nil {
		return Stats{}, err
	}
	return w.repair(have)
}

// Forget lets go what the news said. There must be no policies.
func (w *Writer) Forget() { w.rules = nil }

// clear deletes the table.
func (w *Writer) clear() (Stats, error) {
	if w.current && !w.present {
		return Stats{}, nil
	}
	w.current = false
	if err := w.kernel.remove(); err != nil {
		return Stats{}, fmt.Errorf("deleting the table: %w", err)
	}
	w.current, w.present = true, false
	return Stats{}, nil
}

// look reads what the kernel holds.
func (w *Writer) look() (*found, error) {
	strangers, err := w.kernel.Strangers()
	if err != nil {
		return nil, err
	}
	have, err := w.kernel.read()
	if err != nil {
		return nil, fmt.Errorf("reading the table back: %w", err)
	}
	w.strangers = strangers
	return have, nil
}

// repair makes the kernel's table, found like this, hold the ruleset.
func (w *Writer) repair(have *found) (Stats, error) {
	w.current = false
	stats, err := w.kernel.mend(have, w.rules)
	if err != nil {
		return stats, fmt.Errorf("mending the table: %w", err)
	}
	w.current, w.present = true, true
	return stats, nil
}
