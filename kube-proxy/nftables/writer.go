package nftables

import (
	"errors"
	"fmt"
	"slices"

	"go.uber.org/zap"
)

// Writer keeps the kernel's table as wished. Not for concurrent use.
type Writer struct {
	log    *zap.Logger
	kernel *kernel

	// nil: the kernel's content is unknown and must be read before it is written
	rules *ruleset
	// the kernel's generation after our last transaction; 0: unknown
	generation uint32
}

// Stats tells what a call changed.
type Stats struct {
	Elements int  // added and deleted
	Chains   int  // added and deleted
	Repaired bool // the kernel did not hold what it should
}

// New makes a Writer. netns is the file descriptor of a network namespace, 0 for
// the process's own.
func New(c Config, netns int, log *zap.Logger) *Writer {
	return &Writer{log: log, kernel: &kernel{config: c, family: familyOf(c.V6), netns: netns}}
}

// Close ends the connection to the kernel. The rules stay.
func (w *Writer) Close() { w.kernel.close() }

// Set makes the kernel do what the wish says, by one transaction with the
// difference to the wish before. The first time, and whenever the kernel refuses
// the difference, what it holds is read and mended.
func (w *Writer) Set(wish Wish) (Stats, error) {
	if w.rules == nil {
		before, have, err := w.look()
		if err != nil {
			return Stats{}, err
		}
		rules := newRuleset(w.kernel.family)
		if have.usable {
			rules.inherit(have.elements)
		}
		rules.advance(wish)
		rules.found = nil
		return w.repair(before, have, rules)
	}

	t := w.rules.advance(wish).transaction()
	if t.empty() {
		return Stats{}, nil
	}
	before, err := w.kernel.generation()
	if err == nil {
		err = w.counted(before, func() error { return w.kernel.apply(t) })
	}
	if err == nil {
		return Stats{Elements: len(t.add) + len(t.del), Chains: len(t.addChains)}, nil
	}
	w.log.Warn("the kernel refused a change of the rules; mending the table", zap.Error(err))
	rules := w.rules
	w.rules = nil
	before, have, err := w.look()
	if err != nil {
		return Stats{}, err
	}
	return w.repair(before, have, rules)
}

// Verify repairs the table if somebody else touched it since the last call.
func (w *Writer) Verify() (Stats, error) {
	if w.rules == nil {
		return Stats{}, nil
	}
	now, err := w.kernel.generation()
	if err != nil {
		return Stats{}, err
	}
	if w.generation != 0 && now == w.generation {
		return Stats{}, nil
	}
	before, have, err := w.look()
	if err != nil {
		return Stats{}, err
	}
	return w.repair(before, have, w.rules)
}

// Remove deletes the table, if there is one.
func (w *Writer) Remove() error {
	w.rules, w.generation = nil, 0
	b, err := w.kernel.begin()
	if err != nil {
		return err
	}
	b.conn.AddTable(w.kernel.table())
	b.conn.DelTable(w.kernel.table())
	if err := b.commit(); err != nil {
		return fmt.Errorf("deleting the table: %w", err)
	}
	return nil
}

// look reads what the kernel holds, and the generation it is at least of.
func (w *Writer) look() (uint32, found, error) {
	generation, err := w.kernel.generation()
	if err != nil {
		return 0, found{}, err
	}
	have, err := w.kernel.read()
	if err != nil {
		return 0, found{}, fmt.Errorf("reading the table back: %w", err)
	}
	return generation, have, nil
}

// repair makes the kernel's table, found like this, hold the ruleset.
func (w *Writer) repair(before uint32, have found, r *ruleset) (Stats, error) {
	b, stats, err := w.mend(have, r)
	if err != nil {
		return stats, fmt.Errorf("mending the table: %w", err)
	}
	if b == nil {
		w.rules, w.generation = r, before
		return stats, nil
	}
	if err := w.counted(before, b.commit); err != nil {
		return stats, fmt.Errorf("mending the table: %w", err)
	}
	w.rules = r
	return stats, nil
}

// mend writes down what makes the found table hold the ruleset; nil if nothing
// is missing. All chains are written anew if one differs: they are few.
func (w *Writer) mend(have found, r *ruleset) (*batch, Stats, error) {
	var stats Stats
	same, err := w.sameChains(have, r)
	if err != nil {
		return nil, stats, err
	}
	var t transaction
	t.del, t.add = compareElements(have.elements, r.elements())
	if have.usable && same && len(t.del)+len(t.add) == 0 {
		return nil, stats, nil
	}

	b, err := w.kernel.begin()
	if err != nil {
		return nil, stats, err
	}
	stats = Stats{Elements: len(t.del) + len(t.add), Repaired: true}
	var foreign []string
	if !have.usable {
		if err := b.replaceTable(); err != nil {
			return nil, stats, err
		}
	}
	if !have.usable || !same {
		for name := range have.chains {
			if !w.isOurs(name, r) {
				foreign = append(foreign, name)
			}
			b.flush([]string{name})
		}
		if err := errors.Join(b.fixed(), b.picks(r.chains())); err != nil {
			return nil, stats, err
		}
		stats.Chains = len(r.picks) + len(foreign)
	}
	if err := b.elements(t.del, t.add); err != nil {
		return nil, stats, err
	}
	slices.Sort(foreign)
	b.deleteChains(foreign)
	return b, stats, nil
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

// counted runs a transaction and learns the generation after it. Should
// somebody else's transaction have come between, the generation stays unknown
// and the next Verify reads the table.
func (w *Writer) counted(before uint32, commit func() error) error {
	w.generation = 0
	if err := commit(); err != nil {
		return err
	}
	after, err := w.kernel.generation()
	if err != nil {
		return err
	}
	if after == before+1 {
		w.generation = after
	}
	return nil
}
