package allocator

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"go.uber.org/zap"
)

// claim is an address that a Service has and that is to have its object.
type claim struct {
	ip    netip.Addr
	owner Owner
}

// leak is one object, which may be made anew under the same address.
type leak struct {
	ip  netip.Addr
	uid string
}

// remedy is what makes the objects say what Services have.
type remedy struct {
	drop  []Taken
	add   []claim
	leaks map[leak]int // rounds in which an object was seen that its Service does not use
	wrong []complaint
}

// complaint is what a person must be told.
type complaint struct {
	owner Owner
	ip    netip.Addr
	what  string
}

// mend compares objects with what Services have. An object is given up only when it was seen unused in leakRounds rounds one after
// another, since one of a Service that is just being created looks the same. What others made is never touched.
func mend(have []Taken, uses []Use, leaks map[leak]int) remedy {
	r := remedy{leaks: map[leak]int{}}
	users := map[netip.Addr]Owner{}
	for _, u := range uses {
		owner := Owner{u.Namespace, u.Name}
		for _, ip := range u.IPs {
			if _, twice := users[ip]; twice {
				r.wrong = append(r.wrong, complaint{owner, ip, "service uses an address that another has"})
				continue
			}
			users[ip] = owner
		}
	}
	there := map[netip.Addr]bool{}
	for _, t := range have {
		user, used := users[t.IP]
		switch {
		case used && t.Ours && user == t.Owner:
		case !t.Ours:
			if used {
				r.wrong = append(r.wrong, complaint{user, t.IP, "service uses an address that something else has"})
			}
		default:
			l := leak{t.IP, t.UID}
			if r.leaks[l] = leaks[l] + 1; r.leaks[l] >= leakRounds {
				delete(r.leaks, l)
				r.drop = append(r.drop, t)
				continue // and made anew for who uses it
			}
		}
		there[t.IP] = true
	}
	for _, u := range uses {
		for _, ip := range u.IPs {
			if owner := (Owner{u.Namespace, u.Name}); !there[ip] && users[ip] == owner {
				r.add = append(r.add, claim{ip, owner})
			}
		}
	}
	return r
}

// repairAddresses does one round for addresses. The objects are read before the Services: a Service that was stored before the
// objects were read is found, so only one that is just being created, or a leak, seems unused.
func (a *Allocator) repairAddresses(ctx context.Context) error {
	have, err := a.parts.Cluster.TakenAddresses(ctx)
	if err != nil {
		return fmt.Errorf("listing addresses: %w", err)
	}
	uses, err := a.parts.Cluster.ServiceAddresses(ctx)
	if err != nil {
		return fmt.Errorf("listing what Services use: %w", err)
	}
	r := mend(have, uses, a.leaks)
	a.leaks = r.leaks
	for _, c := range r.wrong {
		a.log.Error(c.what, zap.String("namespace", c.owner.Namespace), zap.String("name", c.owner.Name), zap.Stringer("address", c.ip))
	}
	taken := map[netip.Addr]bool{}
	for _, t := range have {
		taken[t.IP] = true
	}
	for _, u := range uses {
		for _, ip := range u.IPs {
			taken[ip] = true
		}
	}
	var errs []error
	freed, added := 0, 0
	for _, t := range r.drop {
		if err := a.parts.Drop(ctx, t.IP, t.Owner); err != nil {
			errs = append(errs, fmt.Errorf("freeing %s: %w", t.IP, err))
			continue
		}
		freed++
	}
	for _, c := range r.add {
		if err := a.occupy(ctx, c.ip, c.owner); err != nil && !errors.Is(err, ErrAllocated) {
			errs = append(errs, fmt.Errorf("noting %s of service %s/%s: %w", c.ip, c.owner.Namespace, c.owner.Name, err))
		} else if err == nil {
			added++
		}
	}
	if freed > 0 || added > 0 {
		a.log.Info("addresses repaired", zap.Int("freed", freed), zap.Int("noted", added))
	}
	a.known.replace(taken)
	return errors.Join(errs...)
}

// look reads what is taken, in the newest state.
func (a *Allocator) look(ctx context.Context) error {
	have, err := a.parts.Cluster.TakenAddresses(ctx)
	if err != nil {
		return fmt.Errorf("listing addresses: %w", err)
	}
	taken := map[netip.Addr]bool{}
	for _, t := range have {
		taken[t.IP] = true
	}
	a.known.replace(taken)
	return nil
}

// settle makes sure, once in a process and before it gives the first address, that every address in use has its object: one may
// have been lost while no server ran.
func (a *Allocator) settle(ctx context.Context) error {
	if a.settled.Load() {
		return nil
	}
	return a.turn.take(ctx, repairing, func() error {
		if a.settled.Load() {
			return nil
		}
		return a.round(ctx)
	})
}

// repairing is what a turn of the allocator is for.
const repairing = "the repair of addresses"

// round repairs addresses; it is called in turn.
func (a *Allocator) round(ctx context.Context) error {
	if err := a.repairAddresses(ctx); err != nil {
		return err
	}
	a.settled.Store(true)
	return nil
}
