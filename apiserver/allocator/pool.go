package allocator

import (
	"context"
	"errors"
	"fmt"
	"math/bits"
	"math/rand/v2"

	"pilothouse.dev/apiserver/storage"
)

// pageSize is how many numbers one stored object holds: a write is half a KiB, and a large range spreads its writers.
const pageSize = 4096

// format is the first byte of a stored page; a bitmap follows, number 0 in the lowest bit of its first byte.
const format = 1

// pool is a range of numbers 0 … size-1, of which the first `static` are given only on request, or last.
type pool struct {
	store  storage.Store
	name   string // of the stored objects, with the page's number behind it
	size   int
	static int

	turn  turn             // who has it may use what follows
	pages []*storage.Entry // as last seen; nil: not there
	known bool             // pages were read at all
	leaks map[int]int      // rounds in which a number was seen marked but unused
}

func newPool(store storage.Store, name string, size, static int) *pool {
	return &pool{store: store, name: name, size: size, static: min(static, size), turn: newTurn(),
		pages: make([]*storage.Entry, (size+pageSize-1)/pageSize), leaks: map[int]int{}}
}

func (p *pool) allocate(ctx context.Context, n int) error {
	return p.locked(ctx, func() error { return p.mark(ctx, n) })
}

func (p *pool) release(ctx context.Context, n int) error {
	return p.locked(ctx, func() error { return p.free(ctx, n) })
}

// allocateNext marks a free number: one after a random place among those not kept for requests, else one of these.
func (p *pool) allocateNext(ctx context.Context) (n int, err error) {
	err = p.locked(ctx, func() error {
		start := p.static
		if p.size > p.static {
			start += rand.IntN(p.size - p.static)
		}
		for fresh := false; ; fresh = true {
			for _, r := range [][2]int{{start, p.size}, {p.static, start}, {0, p.static}} {
				n, err = p.takeFrom(ctx, r[0], r[1])
				if !errors.Is(err, ErrFull) {
					return err
				}
			}
			if fresh {
				return ErrFull
			}
			// Full as far as we know: others may have freed some.
			if err := p.refresh(ctx); err != nil {
				return err
			}
		}
	})
	return n, err
}

// takeFrom marks the first free number in [from, to).
func (p *pool) takeFrom(ctx context.Context, from, to int) (int, error) {
	for at := from; at < to; {
		page := at / pageSize
		end := min(to, (page+1)*pageSize)
		n := -1
		err := p.change(ctx, page, func(b bitmap) error {
			if n = b.firstFree(at-page*pageSize, end-page*pageSize); n < 0 {
				return ErrFull
			}
			b.set(n)
			return nil
		})
		if err == nil {
			delete(p.leaks, page*pageSize+n)
			return page*pageSize + n, nil
		}
		if !errors.Is(err, ErrFull) {
			return 0, err
		}
		at = end
	}
	return 0, ErrFull
}

// mark marks n; ErrAllocated.
func (p *pool) mark(ctx context.Context, n int) error {
	err := p.change(ctx, n/pageSize, func(b bitmap) error {
		if b.has(n % pageSize) {
			return ErrAllocated
		}
		b.set(n % pageSize)
		return nil
	})
	if err == nil {
		delete(p.leaks, n)
	}
	return err
}

// free unmarks n; one that is free already is no error.
func (p *pool) free(ctx context.Context, n int) error {
	return p.change(ctx, n/pageSize, func(b bitmap) error {
		if !b.has(n % pageSize) {
			return errUnchanged
		}
		b.clear(n % pageSize)
		return nil
	})
}

// errUnchanged is returned by an edit that found nothing to do.
var errUnchanged = errors.New("unchanged")

// change edits one page by compare and swap, again for as long as others are faster. edit gets a copy of the newest known
// bitmap; what it returns ends the change, unless the page was not up to date.
func (p *pool) change(ctx context.Context, page int, edit func(bitmap) error) error {
	if !p.known {
		if err := p.refresh(ctx); err != nil {
			return err
		}
	}
	for tried := false; ; {
		now := p.pages[page]
		b := decode(now)
		if err := edit(b); err != nil {
			if tried || errors.Is(err, ErrFull) { // of a full page somebody else will be asked first
				return noChange(err)
			}
			// What we remember may be old: «marked» must be true now.
			tried = true
			if err := p.reread(ctx, page); err != nil {
				return err
			}
			if p.pages[page] == now || now != nil && p.pages[page] != nil && p.pages[page].Revision == now.Revision {
				return noChange(err)
			}
			continue
		}
		next, err := p.write(ctx, page, now, b)
		switch {
		case err == nil:
			p.pages[page] = next
			return nil
		case next != nil || errors.Is(err, storage.ErrNotFound): // somebody was faster, and this is what they made of it
			p.pages[page] = next
			tried = true
		case errors.Is(err, storage.ErrExists):
			if err := p.reread(ctx, page); err != nil {
				return err
			}
			tried = true
		default:
			return err
		}
	}
}

func noChange(err error) error {
	if errors.Is(err, errUnchanged) {
		return nil
	}
	return err
}

// write stores a page that was at now. With a conflict it returns the entry that is there.
func (p *pool) write(ctx context.Context, page int, now *storage.Entry, b bitmap) (*storage.Entry, error) {
	if now == nil {
		return p.store.Create(ctx, p.key(page), b.encode(), 0)
	}
	e, err := p.store.Update(ctx, p.key(page), b.encode(), now.Revision, 0)
	var c *storage.Conflict
	if errors.As(err, &c) {
		return c.Current, err
	}
	return e, err
}

// refresh reads all pages.
func (p *pool) refresh(ctx context.Context) error {
	for page := range p.pages {
		if err := p.reread(ctx, page); err != nil {
			return err
		}
	}
	p.known = true
	return nil
}

func (p *pool) reread(ctx context.Context, page int) error {
	e, err := p.store.Get(ctx, p.key(page), storage.Read{})
	if err != nil && !errors.Is(err, storage.ErrNotFound) {
		return fmt.Errorf("reading allocations: %w", err)
	}
	if e != nil && (len(e.Value) != 1+pageSize/8 || e.Value[0] != format) {
		return fmt.Errorf("reading allocations: %s is not of a form this version knows", e.Key)
	}
	p.pages[page] = e
	return nil
}

func (p *pool) key(page int) storage.Key {
	return storage.Key{Name: fmt.Sprintf("%s.%d", p.name, page)}
}

// locked calls f when it is this caller's turn.
func (p *pool) locked(ctx context.Context, f func() error) error {
	return p.turn.take(ctx, "other allocations", f)
}

// turn is held by one caller at a time. It is a channel, so that waiting for it ends with a context.
type turn chan struct{}

func newTurn() turn { return make(turn, 1) }

// take calls f when nobody else has the turn; the error says what was waited for in vain.
func (t turn) take(ctx context.Context, what string, f func() error) error {
	select {
	case t <- struct{}{}:
		defer func() { <-t }()
		return f()
	case <-ctx.Done():
		return fmt.Errorf("waiting for %s: %w", what, ctx.Err())
	}
}

// bitmap is one page, to be changed by its owner only.
type bitmap []byte

func decode(e *storage.Entry) bitmap {
	b := make(bitmap, pageSize/8)
	if e != nil {
		copy(b, e.Value[1:])
	}
	return b
}

func (b bitmap) encode() []byte { return append([]byte{format}, b...) }
func (b bitmap) has(n int) bool { return b[n/8]>>(n%8)&1 == 1 }
func (b bitmap) set(n int)      { b[n/8] |= 1 << (n % 8) }
func (b bitmap) clear(n int)    { b[n/8] &^= 1 << (n % 8) }

// firstFree is the first unmarked number in [from, to), -1 when there is none.
func (b bitmap) firstFree(from, to int) int {
	for n := from; n < to; {
		if free := ^b[n/8] >> (n % 8); free != 0 {
			if n += bits.TrailingZeros8(free); n < to {
				return n
			}
			return -1
		}
		n = (n/8 + 1) * 8
	}
	return -1
}
