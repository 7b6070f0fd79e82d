package allocator

import (
	"net/netip"
	"sync"
)

// known is what this process knows to be taken: a hint where to look for a free address, never the truth. What others take it
// learns by running into it, what others free when it seems full, and all of it at each repair. Safe for concurrent use.
type known struct {
	mu    sync.Mutex
	taken map[netip.Addr]bool // guarded by mu
}

// reserve finds the first number in [from, to) of a block that is not known to be taken, and notes it as taken.
func (k *known) reserve(b block, from, to int) (int, netip.Addr, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if from >= to {
		return 0, netip.Addr{}, false
	}
	for n, ip := from, b.addr(from); n < to; n, ip = n+1, ip.Next() {
		if !k.taken[ip] {
			k.taken[ip] = true
			return n, ip, true
		}
	}
	return 0, netip.Addr{}, false
}

func (k *known) set(ip netip.Addr, taken bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if taken {
		k.taken[ip] = true
	} else {
		delete(k.taken, ip)
	}
}

func (k *known) replace(taken map[netip.Addr]bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.taken = taken
}
