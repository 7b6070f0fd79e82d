package nodeipam

import (
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

// Check says what is wrong with a configuration.
func (c Config) Check() error {
	if len(c.Cluster) == 0 {
		return fmt.Errorf("--allocate-node-cidrs needs --cluster-cidr")
	}
	for _, whole := range c.Cluster {
		bits, flag := c.Mask, "node-cidr-mask-size"
		if whole.Addr().Is6() {
			bits, flag = c.MaskIPv6, "node-cidr-mask-size-ipv6"
		}
		if bits < whole.Bits() || bits > whole.Addr().BitLen() {
			return fmt.Errorf("--%s: a /%d is no part of --cluster-cidr %s", flag, bits, whole)
		}
	}
	return nil
}
