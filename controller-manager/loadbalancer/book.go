package loadbalancer

import (
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"

	"pilothouse.dev/controller-manager/loop"
)

// book knows who has which address: what the statuses of all services say, and newer than that, what we wrote ourselves. It is
// filled by what wakes the controller, so it is whole before the first service is worked on. Safe for concurrent use.
type book struct {
	mu      sync.Mutex
	entries map[loop.Key]*entry                // guarded by mu
	holders map[netip.Addr]map[loop.Key]*entry // guarded by mu: more than one where somebody meddled
	waiting map[loop.Key]bool                  // guarded by mu: services that got no address
}

// entry is one service that has addresses.
type entry struct {
	made      time.Time
	version   string // of the service, when it had them
	addresses []netip.Addr
	share     share
}

func newBook() *book {
	return &book{entries: map[loop.Key]*entry{}, holders: map[netip.Addr]map[loop.Key]*entry{}, waiting: map[loop.Key]bool{}}
}

// changed notes a service as it is, and returns whom that concerns: itself, whoever has an address of its too, and who waits for
// an address when one became free. Itself comes first: where somebody took its address away, it is the first that may have it again.
func (b *book) changed(e loop.Event) []loop.Key {
	key := loop.KeyOf(e.Last())
	svc, _ := e.New.(*corev1.Service)
	b.mu.Lock()
	defer b.mu.Unlock()
	woken := map[loop.Key]bool{}
	if have := b.entries[key]; svc == nil || have == nil || loop.Reached(svc.ResourceVersion, have.version) {
		freed := b.setLocked(key, svc)
		if svc == nil {
			delete(b.waiting, key)
		}
		if freed {
			for k := range b.waiting {
				woken[k] = true
			}
		}
	}
	if svc != nil {
		for _, a := range held(svc) {
			for k := range b.holders[a] {
				woken[k] = true
			}
		}
	}
	delete(woken, key)
	others := slices.SortedFunc(maps.Keys(woken), func(a, b loop.Key) int { return strings.Compare(a.String(), b.String()) })
	return append([]loop.Key{key}, others...)
}

// claim notes, before it is written, that a service will have these addresses, beside those it has until that is seen.
func (b *book) claim(svc *corev1.Service, addresses []netip.Addr) {
	b.mu.Lock()
	defer b.mu.Unlock()
	key := loop.KeyOf(svc)
	e := b.entries[key]
	if e == nil {
		e = &entry{made: svc.CreationTimestamp.Time, version: svc.ResourceVersion, share: shareOf(svc)}
		b.entries[key] = e
	}
	for _, a := range addresses {
		if slices.Contains(e.addresses, a) {
			continue
		}
		e.addresses = append(e.addresses, a)
		if b.holders[a] == nil {
			b.holders[a] = map[loop.Key]*entry{}
		}
		b.holders[a][key] = e
	}
}

// wrote notes the version in which a service has what was claimed for it: what was before says nothing.
func (b *book) wrote(svc *corev1.Service) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if e := b.entries[loop.KeyOf(svc)]; e != nil {
		e.version = svc.ResourceVersion
	}
}

// disclaim takes back a claim that was not written for certain; svc is as it was read.
func (b *book) disclaim(svc *corev1.Service) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.setLocked(loop.KeyOf(svc), svc)
}

// setLocked makes what a service shows all that is known of it (nil: it is gone), and says whether that frees an address, or may let
// others share one.
func (b *book) setLocked(key loop.Key, svc *corev1.Service) (freed bool) {
	was := b.entries[key]
	if was != nil {
		for _, a := range was.addresses {
			if delete(b.holders[a], key); len(b.holders[a]) == 0 {
				delete(b.holders, a)
			}
		}
		delete(b.entries, key)
	}
	if svc == nil {
		return was != nil
	}
	now := &entry{svc.CreationTimestamp.Time, svc.ResourceVersion, held(svc), shareOf(svc)}
	for _, a := range now.addresses {
		if b.holders[a] == nil {
			b.holders[a] = map[loop.Key]*entry{}
		}
		b.holders[a][key] = now
	}
	if len(now.addresses) > 0 {
		b.entries[key] = now
	}
	if was == nil {
		return now.share.key != "" && len(now.addresses) > 0
	}
	return !was.share.equal(now.share) || slices.ContainsFunc(was.addresses, func(a netip.Addr) bool { return !slices.Contains(now.addresses, a) })
}

// waits notes whether a service is to be woken when an address becomes free.
func (b *book) waits(key loop.Key, yes bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if yes {
		b.waiting[key] = true
	} else {
		delete(b.waiting, key)
	}
}

// taken says whether another service has an address with a better right than key's, of which wants tells what it would share: the other
// has it already, and key does not, or it is the older of the two.
func (b *book) taken(key loop.Key, wants share, a netip.Addr) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	own := b.holders[a][key]
	for k, e := range b.holders[a] {
		if k == key || e.share.with(wants) {
			continue
		}
		if own == nil || e.made.Before(own.made) || e.made.Equal(own.made) && strings.Compare(k.String(), key.String()) < 0 {
			return true
		}
	}
	return false
}

// held are the addresses that a service's status shows, of services of type LoadBalancer of whatever class: a person may have
// given them.
func held(svc *corev1.Service) []netip.Addr {
	var all []netip.Addr
	for _, in := range svc.Status.LoadBalancer.Ingress {
		if a, err := netip.ParseAddr(in.IP); err == nil {
			all = append(all, a.Unmap())
		}
	}
	return all
}
