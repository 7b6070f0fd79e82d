package policy

import (
	"cmp"
	"encoding/binary"
	"slices"

	"pilothouse.dev/kube-proxy/changes"
)

// portRange is the ports from lo to hi, both included.
type portRange struct {
	proto  changes.Protocol
	lo, hi uint16
}

// portSet is the ports a rule opens, or everything, protocols without ports too.
type portSet struct {
	all    bool
	ranges []portRange // canonical
}

// canonical sorts ranges and joins those that overlap or touch, so that one set
// of ports has one form.
func canonical(in []portRange) []portRange {
	in = slices.Clone(in)
	slices.SortFunc(in, func(a, b portRange) int { return cmp.Or(cmp.Compare(a.proto, b.proto), cmp.Compare(a.lo, b.lo)) })
	var out []portRange
	for _, r := range in {
		if n := len(out); n > 0 && out[n-1].proto == r.proto && int(r.lo) <= int(out[n-1].hi)+1 {
			out[n-1].hi = max(out[n-1].hi, r.hi)
			continue
		}
		out = append(out, r)
	}
	return out
}

func (p portSet) union(o portSet) portSet {
	switch {
	case p.all || o.all:
		return portSet{all: true}
	case len(o.ranges) == 0:
		return p
	case len(p.ranges) == 0:
		return o
	}
	return portSet{ranges: canonical(slices.Concat(p.ranges, o.ranges))}
}

func (p portSet) equal(o portSet) bool { return p.all == o.all && slices.Equal(p.ranges, o.ranges) }

func (p portSet) empty() bool { return !p.all && len(p.ranges) == 0 }

// key is the same for the same set.
func (p portSet) key() string {
	if p.all {
		return "all"
	}
	var b []byte
	for _, r := range p.ranges {
		b = append(b, byte(r.proto))
		b = binary.BigEndian.AppendUint16(b, r.lo)
		b = binary.BigEndian.AppendUint16(b, r.hi)
	}
	return string(b)
}

// elements are the set as elements of ports and port-ranges, under a number.
func (p portSet) elements(number uint32) []element {
	var out []element
	for _, r := range p.ranges {
		e := element{set: setPorts, key: join(number, r.proto, r.lo)}
		if r.lo != r.hi {
			e = element{set: setPortRanges, key: e.key + join(number, r.proto, r.hi)}
		}
		out = append(out, e)
	}
	return out
}
