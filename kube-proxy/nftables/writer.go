package nftables

import (
	"errors"
	"fmt"
	"slices"

	"go.uber.org/zap"

	"pilothouse.dev/kube-proxy/nfconn"
)

// Writer keeps the kernel's table as wished. Not for concurrent use.
type Writer struct {
	log    *zap.Logger
	kernel *kernel

	// nil: the kernel's content is unknown and must be read before it is written
	rules *ruleset
	// what the connection's Strangers were before the table was last read
	strangers uint64
}

// Stats tells what a call changed.
type Stats struct {
	Elements int  // added and deleted
	Chains   int  // added and deleted
	Repaired bool // the kernel did not hold what it should
}

// New makes a Writer that talks over conn, which others may use as well.
func New(c Config, conn *nfconn.Conn, log *zap.Logger) *Writer {
	return &Writer{log: log, kernel: &kernel{Conn: conn, config: c, family: familyOf(c.V6)}}
}

// Set makes the kernel do what the wish says, by one transaction with the
// difference to the wish before. The first time, and whenever the kernel refuses
// the difference, what it holds is read and mended.
func (w *Writer) Set(wish Wish) (Stats, error) {
	if w.rules == nil {
		have, err := w.look()
		if err != nil {
			return Stats{}, err
		}
		rules := newRuleset(w.kernel.family)
		if have.usable {
			rules.inherit(have.elements)
		}
		rules.begin(wish)
		return w.repair(have, rules)
	}

	t := w.rules.advance(wish).transaction()
	if t.empty() {
		return Stats{}, nil
	}
	err := w.kernel.apply(t)
	if err == nil {
		return Stats{Elements: len(t.add) + len(t.del), Chains: len(t.addChains)}, nil
	}
	w.log.Warn("the kernel refused a change of the rules; mending the table", zap.Error(err))
	rules := w.rules
	w.rules = nil
	have, err := w.look()
	if err != nil {
		return Stats{}, err
	}
	return w.repair(have, rules)
}

// Verify repairs the table if somebody else touched it since the last call.
func (w *Writer) Verify() (Stats, error) {
	if w.rules == nil {
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
	return w.repair(have, w.rules)
}

// Remove deletes the table, if there is one.
func (w *Writer) Remove() error {
	w.rules = nil
	err := w.kernel.write(func(b *batch) error {
		b.conn.AddTable(b.table())
		b.conn.DelTable(b.table())
		return nil
	})
	if err != nil {
		return fmt.Errorf("deleting the table: %w", err)
	}
	return nil
}

// look reads what the kernel holds.
func (w *Writer) look() (found, error) {
	strangers, err := w.kernel.Strangers()
	if err != nil {
		return found{}, err
	}
	have, err := w.kernel.read()
	if err != nil {
		return found{}, fmt.Errorf("reading the table back: %w", err)
	}
	w.strangers = strangers
	return have, nil
}

// repair makes the kernel's table, found like this, hold the ruleset.
func (w *Writer) repair(have found, r *ruleset) (Stats, error) {
	stats, err := w.mend(have, r)
	if err != nil {
		return stats, fmt.Errorf("mending the table: %w", err)
	}
	w.rules = r
	return stats, nil
}

// mend makes the found table hold the ruleset, if anything is missing. All
// chains are written anew if one differs: they are few.
func (w *Writer) mend(have found, r *ruleset) (Stats, error) {
	same, err := w.sameChains(have, r)
	if err != nil {
		return Stats{}, err
	}
	var t transaction
	t.del, t.add = compareElements(have.elements, r.elements(), r.count())
	if have.usable && same && len(t.del)+len(t.add) == 0 {
		return Stats{}, nil
	}
	stats := Stats{Elements: len(t.del) + len(t.add), Repaired: true}
	// Where no table is, one with empty maps does as little. So the many elements
	// may follow by themselves, which is quicker.
	var later transaction
	if have.absent {
		later.add = slices.DeleteFunc(slices.Clone(t.add), func(e element) bool { return e.set == setWays })
		t.add = slices.DeleteFunc(t.add, func(e element) bool { return e.set != setWays })
	}
	err = w.kernel.write(func(b *batch) error {
		if !have.usable {
			if err := b.replaceTable(); err != nil {
				return err
			}
		}
		var foreign []string
		if !have.usable || !same {
			for name := range have.chains {
				if !w.isOurs(name, r) {
					foreign = append(foreign, name)
				}
				b.flush([]string{name})
			}
			if err := errors.Join(b.fixed(), b.picks(r.chains())); err != nil {
				return err
			}
			stats.Chains = len(r.picks) + len(foreign)
		}
		if err := b.elements(t.del, t.add); err != nil {
			return err
		}
		slices.Sort(foreign)
		b.deleteChains(foreign)
		return nil
	})
	if err == nil && !later.empty() {
		err = w.kernel.apply(later)
	}
	return stats, err
}

// sameChains tells whether the found chains are those of the ruleset.
func (w *Writer) sameChains(have found, r *ruleset) (bool, error) {
	want := fixedChains(w.kernel.config, w.kernel.family)
	for _, p := range r.chains() {
		want = append(want, fixedChain{p.chain(), p.rules(w.kernel.config, w.kernel.family)})
	}
	if len(have.chains) != len(want) {
		return false, nil
	}
	for _, c := range want {
		stamps, ok := have.chains[c.name]
		if !ok {
			return false, nil
		}
		if same, err := w.kernel.sameRules(stamps, c.rules); err != nil || !same {
			return false, err
		}
	}
	return true, nil
}

func (w *Writer) isOurs(chain string, r *ruleset) bool {
	if slices.ContainsFunc(r.chains(), func(p pick) bool { return p.chain() == chain }) {
		return true
	}
	return slices.ContainsFunc(fixedChains(w.kernel.config, w.kernel.family), func(c fixedChain) bool { return c.name == chain })
}
