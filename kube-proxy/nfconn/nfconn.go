// Package nfconn is the daemon's one netlink socket to nf_tables.
//
// nftables and policy share it: each has tables of its own and talks in
// exchanges, one at a time, so that no reading is disturbed by a writing of the
// other room, and so that either knows whether anybody but the two of them has
// changed the namespace's rules.
//
// The socket is kept. That is not for the price of a socket: when one is closed
// the kernel first waits until no packet looks at what was deleted, some 15 ms,
// and a change takes a hundredth of that. After an error it is closed, for
// nobody knows what lies in it, and the next exchange opens another.
package nfconn

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	nft "github.com/google/nftables"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

const (
	// socketBuffer must hold the largest transaction: a load of 10,000 services is 6 MiB.
	socketBuffer = 256 << 20
	// patience is how long the kernel may take to answer, at least; twice that at most.
	patience = time.Minute
)

// Conn talks to one network namespace. Safe for concurrent use.
type Conn struct {
	netns int // 0: this process's

	mu         sync.Mutex // held for one exchange
	conn       *nft.Conn  // nil: closed
	socket     *netlink.Conn
	generation uint32 // the kernel's count of transactions when last seen; 0: never yet
	strangers  uint64
	deadline   time.Time // of the socket
}

// New makes a Conn; it is opened by the first exchange. netns is the file
// descriptor of a network namespace, 0 for the process's own.
func New(netns int) *Conn { return &Conn{netns: netns} }

// Close closes the socket. The rules stay.
func (c *Conn) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closeLocked()
}

// Read gives the connection for an exchange that changes nothing. An error of
// ask is returned as it is, and the socket closed: a reading given up halfway
// leaves the rest in it.
func (c *Conn) Read(ask func(*nft.Conn) error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.exchangeLocked(func() error { return ask(c.conn) })
}

// Write commits what say writes down: the kernel does all of it or nothing,
// between two packets. If say fails, its error is returned and nothing is sent.
func (c *Conn) Write(say func(*nft.Conn) error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	err := c.exchangeLocked(func() error {
		if err := say(c.conn); err != nil {
			return err
		}
		return c.conn.Flush()
	})
	if err != nil {
		return err
	}
	// Whoever came before, between or after: the count is one more than it should be.
	c.generation = after(c.generation)
	return c.lookLocked()
}

// Strangers counts how often the namespace's rules were seen to be of somebody
// else's making. While it stays as it was before a table was read, nobody but
// the users of this Conn can have touched that table since.
func (c *Conn) Strangers() (uint64, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	err := c.lookLocked()
	return c.strangers, err
}

// lookLocked compares the kernel's generation with the one we expect.
func (c *Conn) lookLocked() error {
	var now uint32
	err := c.exchangeLocked(func() (err error) {
		now, err = c.askLocked()
		return err
	})
	if err != nil {
		return fmt.Errorf("reading the ruleset's generation: %w", err)
	}
	if now != c.generation {
		c.generation = now
		c.strangers++
	}
	return nil
}

// askLocked asks for the kernel's count of transactions in the namespace.
func (c *Conn) askLocked() (uint32, error) {
	msgs, err := c.socket.Execute(netlink.Message{
		Header: netlink.Header{Type: unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_GETGEN, Flags: netlink.Request},
		Data:   []byte{unix.AF_UNSPEC, unix.NFNETLINK_V0, 0, 0},
	})
	if err != nil {
		return 0, err
	}
	for _, m := range msgs {
		if len(m.Data) < 4 {
			continue
		}
		ad, err := netlink.NewAttributeDecoder(m.Data[4:])
		if err != nil {
			return 0, err
		}
		ad.ByteOrder = binary.BigEndian
		for ad.Next() {
			if ad.Type() == unix.NFTA_GEN_ID {
				return ad.Uint32(), nil
			}
		}
	}
	return 0, errors.New("the kernel gave none")
}

// exchangeLocked runs f over an open connection, which must be over soon.
func (c *Conn) exchangeLocked(f func() error) error {
	if c.conn == nil {
		if err := c.dialLocked(); err != nil {
			c.closeLocked()
			return err
		}
	}
	if err := c.deadlineLocked(); err != nil {
		c.closeLocked()
		return err
	}
	if err := f(); err != nil {
		c.closeLocked()
		return err
	}
	return nil
}

func (c *Conn) dialLocked() error {
	opts := []nft.ConnOption{nft.AsLasting(), nft.WithSockOptions(func(s *netlink.Conn) error {
		c.socket = s
		if err := s.SetWriteBuffer(socketBuffer); err != nil {
			return fmt.Errorf("setting the send buffer: %w", err)
		}
		if err := s.SetReadBuffer(socketBuffer); err != nil {
			return fmt.Errorf("setting the receive buffer: %w", err)
		}
		return nil
	})}
	if c.netns != 0 {
		opts = append(opts, nft.WithNetNSFd(c.netns))
	}
	conn, err := nft.New(opts...)
	if err != nil {
		return fmt.Errorf("opening netlink: %w", err)
	}
	c.conn = conn
	return nil
}

func (c *Conn) closeLocked() {
	if c.socket != nil {
		_ = c.socket.Close() // it is of no more use either way
	}
	c.conn, c.socket, c.deadline = nil, nil, time.Time{}
}
