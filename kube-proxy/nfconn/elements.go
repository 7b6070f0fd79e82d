package nfconn

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// elementsPerMessage keeps a message below the 64 KiB of a netlink attribute.
	elementsPerMessage = 400
	// batchGenID is the attribute of a batch's first message that names the
	// generation it was written for: NFNL_BATCH_GENID of linux/netfilter/nfnetlink.h.
	batchGenID = 1
	// overtaken is how often a transaction may find that a stranger was quicker.
	overtaken = 20
)

// Elements is a transaction that adds and deletes elements of plain sets and
// maps, and nothing else: what a change of an endpoint is. It is written down as
// the kernel reads it, so that it costs what is in it. Not for concurrent use.
type Elements struct {
	buf      []byte
	messages uint32 // the first opens the batch
	last     int    // where the last message begins
	list     int    // where its list of elements begins
	count    int    // of elements in it
	now      group
}

// group is what the elements of one message have in common.
type group struct {
	del        bool
	family     uint8
	table, set string
}

// NewElements begins a transaction that does nothing, with room for about so many
// elements.
func NewElements(many int) *Elements {
	e := &Elements{buf: make([]byte, 0, 512+many*96)}
	e.message(unix.NFNL_MSG_BATCH_BEGIN, 0, 0, unix.NFNL_SUBSYS_NFTABLES)
	at := e.open(batchGenID)
	e.buf = append(e.buf, 0, 0, 0, 0) // set when it is sent
	e.close(at)
	return e
}

// To says of which set the next elements are, of a table of a netfilter family
// (unix.NFPROTO_IPV4 …), and whether they go.
func (e *Elements) To(family uint8, table, set string, del bool) {
	if g := (group{del, family, table, set}); g != e.now {
		e.end()
		e.now = g
	}
}

// Add writes one element down. end is the key's end in a set of ranges, value
// what the key leads to in a map; else they are empty.
func (e *Elements) Add(key, end, value string) {
	if e.count == elementsPerMessage {
		e.end()
	}
	if e.count == 0 {
		kind, flags := uint16(unix.NFT_MSG_NEWSETELEM), uint16(unix.NLM_F_CREATE)
		if e.now.del {
			kind, flags = unix.NFT_MSG_DELSETELEM, 0
		}
		e.message(unix.NFNL_SUBSYS_NFTABLES<<8|kind, flags, e.now.family, 0)
		e.text(unix.NFTA_SET_ELEM_LIST_TABLE, e.now.table)
		e.text(unix.NFTA_SET_ELEM_LIST_SET, e.now.set)
		e.list = e.open(unix.NFTA_SET_ELEM_LIST_ELEMENTS | unix.NLA_F_NESTED)
	}
	e.count++
	at := e.open(unix.NFTA_LIST_ELEM | unix.NLA_F_NESTED)
	e.data(unix.NFTA_SET_ELEM_KEY, key)
	if end != "" {
		e.data(nftaSetElemKeyEnd, end)
	}
	if value != "" {
		e.data(unix.NFTA_SET_ELEM_DATA, value)
	}
	e.close(at)
}

// nftaSetElemKeyEnd is NFTA_SET_ELEM_KEY_END of linux/netfilter/nf_tables.h.
const nftaSetElemKeyEnd = 10

// end completes the message that is being written.
func (e *Elements) end() {
	if e.count > 0 {
		e.close(e.list)
		e.closeMessage()
		e.count = 0
	}
}

// message begins a message. Lengths are of the machine's byte order, and so is
// all else in it but for numbers of nfnetlink.
func (e *Elements) message(kind, flags uint16, family uint8, resource uint16) {
	if e.messages > 0 {
		e.closeMessage()
	}
	e.last = len(e.buf)
	e.buf = binary.NativeEndian.AppendUint32(e.buf, 0) // the length, when it is closed
	e.buf = binary.NativeEndian.AppendUint16(e.buf, kind)
	e.buf = binary.NativeEndian.AppendUint16(e.buf, flags|unix.NLM_F_REQUEST)
	e.buf = binary.NativeEndian.AppendUint32(e.buf, e.messages)
	e.buf = append(e.buf, 0, 0, 0, 0, family, unix.NFNETLINK_V0)
	e.buf = binary.BigEndian.AppendUint16(e.buf, resource)
	e.messages++
}

func (e *Elements) closeMessage() {
	binary.NativeEndian.PutUint32(e.buf[e.last:], uint32(len(e.buf)-e.last))
}

// open begins an attribute, close ends it.
func (e *Elements) open(kind uint16) (at int) {
	at = len(e.buf)
	e.buf = binary.NativeEndian.AppendUint16(e.buf, 0)
	e.buf = binary.NativeEndian.AppendUint16(e.buf, kind)
	return at
}

func (e *Elements) close(at int) {
	binary.NativeEndian.PutUint16(e.buf[at:], uint16(len(e.buf)-at))
	for len(e.buf)%unix.NLA_ALIGNTO != 0 {
		e.buf = append(e.buf, 0)
	}
}

func (e *Elements) text(kind uint16, s string) {
	at := e.open(kind)
	e.buf = append(append(e.buf, s...), 0)
	e.close(at)
}

func (e *Elements) data(kind uint16, s string) {
	outer := e.open(kind | unix.NLA_F_NESTED)
	inner := e.open(unix.NFTA_DATA_VALUE)
	e.buf = append(e.buf, s...)
	e.close(inner)
	e.close(outer)
}

// finish completes the batch, and says which message will be acknowledged: the
// last of those that change something; the kernel speaks of the others only if
// they fail. None: there is nothing to do.
func (e *Elements) finish() (acknowledged uint32) {
	e.end()
	if acknowledged = e.messages - 1; acknowledged == 0 {
		return 0
	}
	flags := e.buf[e.last+6:]
	binary.NativeEndian.PutUint16(flags, binary.NativeEndian.Uint16(flags)|unix.NLM_F_ACK)
	e.message(unix.NFNL_MSG_BATCH_END, 0, 0, unix.NFNL_SUBSYS_NFTABLES)
	e.closeMessage()
	return acknowledged
}

// WriteElements commits a transaction: the kernel does all of it or nothing,
// between two packets. e is of no use afterwards.
//
// The transaction names the generation it is for, and the kernel refuses it if a
// stranger has been there since: so nobody need ask for the generation, neither
// before nor after.
func (c *Conn) WriteElements(e *Elements) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	acknowledged := e.finish()
	if acknowledged == 0 {
		return nil
	}
	if c.generation == 0 {
		if err := c.lookLocked(); err != nil {
			return err
		}
	}
	for range overtaken {
		var restart bool
		err := c.exchangeLocked(func() (err error) {
			restart, err = c.sendLocked(e, acknowledged)
			return err
		})
		if err != nil {
			return err
		}
		if !restart {
			c.generation = after(c.generation)
			return nil
		}
		if err := c.lookLocked(); err != nil {
			return err
		}
	}
	return errors.New("others change the ruleset without a pause")
}

// after is the generation that follows one: the kernel leaves 0 out.
func after(generation uint32) uint32 { return max(generation+1, 1) }

// genAt is where the generation stands in a batch: behind the header of the first
// message, that of nfnetlink and that of the attribute.
const genAt = unix.NLMSG_HDRLEN + 4 + unix.NLA_HDRLEN

// sendLocked sends a transaction and hears what became of it. restart: nothing,
// for it is not the generation we know.
func (c *Conn) sendLocked(e *Elements, acknowledged uint32) (restart bool, err error) {
	raw, err := c.socket.SyscallConn()
	if err != nil {
		return false, fmt.Errorf("the socket: %w", err)
	}
	binary.BigEndian.PutUint32(e.buf[genAt:], c.generation)
	var failed error
	err = raw.Write(func(fd uintptr) bool {
		failed = unix.Sendto(int(fd), e.buf, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
		return failed != unix.EAGAIN
	})
	if err = errors.Join(err, failed); err != nil {
		return false, fmt.Errorf("sending: %w", err)
	}
	for {
		var n int
		var reply [64]byte // what was refused follows the error, and may be cut off
		err = raw.Read(func(fd uintptr) bool {
			n, _, failed = unix.Recvfrom(int(fd), reply[:], 0)
			return failed != unix.EAGAIN
		})
		if err = errors.Join(err, failed); err != nil {
			return false, fmt.Errorf("receiving: %w", err)
		}
		if n < unix.NLMSG_HDRLEN+4 || binary.NativeEndian.Uint16(reply[4:]) != unix.NLMSG_ERROR {
			return false, errors.New("the kernel's answer is none")
		}
		number := binary.NativeEndian.Uint32(reply[8:])
		switch errno := unix.Errno(-int32(binary.NativeEndian.Uint32(reply[unix.NLMSG_HDRLEN:]))); {
		case errno == unix.ERESTART && number == 0:
			return true, nil
		case errno != 0:
			return false, fmt.Errorf("message %d of the transaction: %w", number, errno)
		case number == acknowledged:
			return false, nil
		}
	}
}

// deadlineLocked bounds an exchange. It is moved rarely: each time it is, a timer moves.
func (c *Conn) deadlineLocked() error {
	now := time.Now()
	if c.deadline.Sub(now) >= patience {
		return nil
	}
	if err := c.socket.SetDeadline(now.Add(2 * patience)); err != nil {
		return fmt.Errorf("setting a deadline: %w", err)
	}
	c.deadline = now.Add(2 * patience)
	return nil
}
