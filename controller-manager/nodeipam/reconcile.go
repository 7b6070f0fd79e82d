package nodeipam

import (
	"cmp"
	"errors"
	"fmt"
	"math/big"
	"net/netip"
	"strings"
)

// most is how many parts of a range are ever used: beyond it a bitmap would cost more than nodes can exist.
const most = 1 << 16

// free is the first part of the whole, of a prefix length, that overlaps nothing taken.
func free(whole netip.Prefix, bits int, taken []netip.Prefix) (netip.Prefix, bool) {
	n := most
	if b := bits - whole.Bits(); b < 16 {
		n = 1 << max(b, 0)
	}
	used := make([]bool, n)
	for _, t := range taken {
		if !t.Overlaps(whole) {
			continue
		}
		first, last := 0, n-1
		if t.Bits() > whole.Bits() { // else it covers all
			first = index(whole, bits, t.Addr())
			last = first
			if t.Bits() < bits { // it covers several
				last = first + 1<<min(bits-t.Bits(), 16) - 1
			}
		}
		for i := first; i <= last && i < n; i++ {
			used[i] = true
		}
	}
	for i, u := range used {
		if !u {
			return part(whole, bits, i), true
		}
	}
	return netip.Prefix{}, false
}

// index is the number of the part an address falls into.
func index(whole netip.Prefix, bits int, a netip.Addr) int {
	off := new(big.Int).Sub(integer(a), integer(whole.Addr()))
	off.Rsh(off, uint(a.BitLen()-bits))
	if !off.IsInt64() || off.Int64() > most {
		return most
	}
	return int(off.Int64())
}

// part is the i-th part.
func part(whole netip.Prefix, bits, i int) netip.Prefix {
	off := new(big.Int).Lsh(big.NewInt(int64(i)), uint(whole.Addr().BitLen()-bits))
	sum := off.Add(off, integer(whole.Addr()))
	buf := sum.FillBytes(make([]byte, whole.Addr().BitLen()/8))
	a, _ := netip.AddrFromSlice(buf)
	return netip.PrefixFrom(a, bits)
}

func integer(a netip.Addr) *big.Int { return new(big.Int).SetBytes(a.AsSlice()) }

// Ranges reads a list of ranges as flags give it: at most one a family.
func Ranges(flag, list string) (ranges []netip.Prefix, err error) {
	seen := map[bool]bool{}
	for s := range strings.SplitSeq(list, ",") {
		if s = strings.TrimSpace(s); s == "" {
			continue
		}
		p, err := netip.ParsePrefix(s)
		if err != nil {
			return nil, fmt.Errorf("--%s: %q is no address range, like 10.244.0.0/16", flag, s)
		}
		if seen[p.Addr().Is6()] {
			return nil, fmt.Errorf("--%s: %q has two ranges of one family", flag, list)
		}
		seen[p.Addr().Is6()] = true
		ranges = append(ranges, p.Masked())
	}
	return ranges, nil
}

// The prefix length of a node's part where no flag says one.
const size4, size6 = 24, 64

// Complete settles how large a node's parts are, or says what is wrong with the configuration
// (https://kubernetes.io/docs/concepts/services-networking/dual-stack/#configure-ipv4-ipv6-dual-stack).
func (c *Config) Complete() error {
	if len(c.Cluster) == 0 {
		return errors.New("--allocate-node-cidrs needs --cluster-cidr")
	}
	dual, six := len(c.Cluster) > 1, c.Cluster[0].Addr().Is6()
	switch {
	case dual && c.Size != 0:
		return errors.New("usage of --node-cidr-mask-size is not allowed with dual-stack clusters")
	case c.Size != 0 && (c.Size4 != 0 || c.Size6 != 0):
		return errors.New("usage of --node-cidr-mask-size-ipv4 and --node-cidr-mask-size-ipv6 is not allowed if --node-cidr-mask-size is set. For dual-stack clusters please unset it and use IPFamily specific flags")
	case !dual && six && c.Size4 != 0:
		return errors.New("usage of --node-cidr-mask-size-ipv4 is not allowed for a single-stack IPv6 cluster")
	case !dual && !six && c.Size6 != 0:
		return errors.New("usage of --node-cidr-mask-size-ipv6 is not allowed for a single-stack IPv4 cluster")
	}
	c.bits = map[bool]int{false: cmp.Or(c.Size, c.Size4, size4), true: cmp.Or(c.Size, c.Size6, size6)}
	for _, whole := range c.Cluster {
		if bits := c.bits[whole.Addr().Is6()]; bits < whole.Bits() || bits > whole.Addr().BitLen() {
			return fmt.Errorf("a node's part of /%d is no part of --cluster-cidr %s: see --node-cidr-mask-size", bits, whole)
		}
	}
	return nil
}
