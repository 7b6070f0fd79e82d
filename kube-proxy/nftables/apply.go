package nftables

import (
	"errors"
	"fmt"
	"slices"
	"time"

	nft "github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
)

// Limits of one exchange with the kernel.
const (
	// elementsPerMessage keeps a message below the 64 KiB of a netlink attribute.
	elementsPerMessage = 400
	// socketBuffer must hold the largest transaction: a load of 10,000 services is 6 MiB.
	socketBuffer = 256 << 20
	// patience is how long the kernel may take to answer.
	patience = time.Minute
)

// kernel talks nftables to one network namespace and knows one table in it.
//
// It keeps one socket. That is not for the price of a socket: when one is closed
// the kernel first waits until no packet looks at what was deleted, some 15 ms,
// and a change takes a hundredth of that.
type kernel struct {
	config Config
	family family
	netns  int // 0: this process's

	conn    *nft.Conn // nil: closed
	socket  *netlink.Conn
	writing bool // a batch was begun and not committed
}

// open gives the connection for one exchange, which must be over soon.
func (k *kernel) open() (*nft.Conn, error) {
	if k.writing {
		k.close() // what was written down must not go out with the next batch
	}
	if k.conn == nil {
		conn, err := k.dial()
		if err != nil {
			k.close()
			return nil, err
		}
		k.conn = conn
	}
	if err := k.socket.SetDeadline(time.Now().Add(patience)); err != nil {
		return nil, fmt.Errorf("setting a deadline: %w", err)
	}
	return k.conn, nil
}

func (k *kernel) dial() (*nft.Conn, error) {
	opts := []nft.ConnOption{nft.AsLasting(), nft.WithSockOptions(func(c *netlink.Conn) error {
		k.socket = c
		if err := c.SetWriteBuffer(socketBuffer); err != nil {
			return fmt.Errorf("setting the send buffer: %w", err)
		}
		if err := c.SetReadBuffer(socketBuffer); err != nil {
			return fmt.Errorf("setting the receive buffer: %w", err)
		}
		return nil
	})}
	if k.netns != 0 {
		opts = append(opts, nft.WithNetNSFd(k.netns))
	}
	conn, err := nft.New(opts...)
	if err != nil {
		return nil, fmt.Errorf("opening netlink: %w", err)
	}
	return conn, nil
}

// close ends the connection: after an error nobody knows what lies in it.
func (k *kernel) close() {
	if k.socket != nil {
		_ = k.socket.Close() // it is of no more use either way
	}
	k.conn, k.socket, k.writing = nil, nil, false
}

func (k *kernel) table() *nft.Table {
	return &nft.Table{Name: tableName, Family: k.family.table}
}

// batch is a transaction being written down.
type batch struct {
	*kernel
	sets map[string]*nft.Set
}

func (k *kernel) begin() (*batch, error) {
	if _, err := k.open(); err != nil {
		return nil, err
	}
	k.writing = true
	b := &batch{kernel: k, sets: map[string]*nft.Set{}}
	for _, s := range setSpecs {
		b.sets[s.name] = k.family.set(k.table(), s)
	}
	return b, nil
}

// commit sends it: the kernel does all or nothing, between two packets.
func (b *batch) commit() error {
	if !b.writing {
		return errors.New("committing a batch that was given up") // an exchange came between
	}
	if err := b.conn.Flush(); err != nil {
		b.close()
		return err
	}
	b.writing = false
	return nil
}

// replaceTable starts anew: the table with its sets and chains, empty.
func (b *batch) replaceTable() error {
	b.conn.AddTable(b.table()) // so that there is one to delete
	b.conn.DelTable(b.table())
	b.conn.AddTable(b.table())
	for _, s := range setSpecs {
		if err := b.conn.AddSet(b.sets[s.name], nil); err != nil {
			return fmt.Errorf("adding set %s: %w", s.name, err)
		}
	}
	return nil
}

// fixed adds base chains and chains that do not depend on services.
func (b *batch) fixed() error {
	for _, c := range baseChains() {
		b.conn.AddChain(&nft.Chain{Table: b.table(), Name: c.name, Type: c.kind, Hooknum: c.hook, Priority: c.priority})
	}
	for _, c := range fixedChains(b.config, b.family) {
		if !isBase(c.name) {
			b.conn.AddChain(&nft.Chain{Table: b.table(), Name: c.name})
		}
	}
	for _, c := range fixedChains(b.config, b.family) {
		if err := b.rules(c.name, c.rules); err != nil {
			return err
		}
	}
	return nil
}

func isBase(chain string) bool {
	return slices.ContainsFunc(baseChains(), func(c baseChain) bool { return c.name == chain })
}

// picks adds chains that choose endpoints: all first, then their rules, for
// they go to each other.
func (b *batch) picks(picks []pick) error {
	for _, p := range picks {
		b.conn.AddChain(&nft.Chain{Table: b.table(), Name: p.chain()})
	}
	for _, p := range picks {
		if err := b.rules(p.chain(), p.rules(b.config, b.family)); err != nil {
			return err
		}
	}
	return nil
}

func (b *batch) rules(chain string, rules []rule) error {
	for _, r := range rules {
		stamp, err := r.stamp(b.family)
		if err != nil {
			return err
		}
		b.conn.AddRule(&nft.Rule{Table: b.table(), Chain: &nft.Chain{Name: chain}, Exprs: r.exprs, UserData: stamp})
	}
	return nil
}

// flush empties chains.
func (b *batch) flush(chains []string) {
	for _, c := range chains {
		b.conn.FlushChain(&nft.Chain{Table: b.table(), Name: c})
	}
}

// deleteChains deletes chains nobody goes to but each other.
func (b *batch) deleteChains(chains []string) {
	b.flush(chains)
	for _, c := range chains {
		b.conn.DelChain(&nft.Chain{Table: b.table(), Name: c})
	}
}

// elements deletes and adds elements, sorted by set.
func (b *batch) elements(del, add []element) error {
	err := eachMessage(del, false, func(set string, es []nft.SetElement) error { return b.conn.SetDeleteElements(b.sets[set], es) })
	if err != nil {
		return fmt.Errorf("deleting elements: %w", err)
	}
	err = eachMessage(add, true, func(set string, es []nft.SetElement) error { return b.conn.SetAddElements(b.sets[set], es) })
	if err != nil {
		return fmt.Errorf("adding elements: %w", err)
	}
	return nil
}

// eachMessage cuts a list sorted by set into messages; to delete, keys suffice.
func eachMessage(all []element, values bool, send func(set string, es []nft.SetElement) error) error {
	for len(all) > 0 {
		set := all[0].set
		verdicts := specOf(set).verdicts()
		n := 0
		for n < len(all) && n < elementsPerMessage && all[n].set == set {
			n++
		}
		es := make([]nft.SetElement, 0, n)
		for _, e := range all[:n] {
			x := nft.SetElement{Key: []byte(e.key)}
			switch {
			case !values:
			case verdicts:
				x.VerdictData = &expr.Verdict{Kind: expr.VerdictGoto, Chain: e.value}
			default:
				x.Val = []byte(e.value)
			}
			es = append(es, x)
		}
		if err := send(set, es); err != nil {
			return err
		}
		all = all[n:]
	}
	return nil
}

// apply makes the changes of a transaction.
func (k *kernel) apply(t transaction) error {
	b, err := k.begin()
	if err != nil {
		return err
	}
	if err := b.picks(t.addChains); err != nil {
		return err
	}
	if err := b.elements(t.del, t.add); err != nil {
		return err
	}
	return b.commit()
}
