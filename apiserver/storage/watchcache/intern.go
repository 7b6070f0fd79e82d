package watchcache

import (
	"hash/maphash"
	"maps"

	"pilothouse.dev/apiserver/storage"
)

// interner lets entries of one kind share equal label and field sets: the pods of one ReplicaSet have one set of labels between
// them. It remembers the last set for each of a few hash values, so it is bounded and forgets by itself. Owned by the kind's loop.
type interner struct {
	seed   maphash.Seed
	labels [internSlots]map[string]string
	fields [internSlots]map[string]string
}

const internSlots = 128

func (i *interner) intern(e *storage.Entry) {
	e.Attrs.Labels = i.one(&i.labels, e.Attrs.Labels)
	e.Attrs.Fields = i.one(&i.fields, e.Attrs.Fields)
}

func (i *interner) one(known *[internSlots]map[string]string, set map[string]string) map[string]string {
	if len(set) == 0 {
		return nil
	}
	var h uint64
	for k, v := range set { // a sum, because maps have no order
		h += maphash.String(i.seed, k) ^ maphash.String(i.seed, v)<<1
	}
	slot := &known[h%internSlots]
	if !maps.Equal(*slot, set) {
		*slot = set
	}
	return *slot
}
