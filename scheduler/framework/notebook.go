package framework

// Notebook is what the plugins write down about one pod's trip: written by PreFilter and PreScore, which run one after
// another, read by Filter and Score, which run side by side. One page a plugin and purpose; the key is the plugin's to choose.
type Notebook struct {
	pages      []page
	skipFilter uint64     // bit i: filter i of the Set has nothing to say
	filters    []Filterer // the others
	skipScore  uint64
	only       []string // node names that alone may be chosen; nil: all
	onlyWhy    *Status  // the answer for all others
}

type page struct {
	key   string
	value any
}

// Reset empties the notebook for the next trip.
func (nb *Notebook) Reset() {
	clear(nb.pages)
	*nb = Notebook{pages: nb.pages[:0], filters: nb.filters[:0]}
}

// Write keeps a value under a key, in place of an older one.
func (nb *Notebook) Write(key string, value any) {
	for i := range nb.pages {
		if nb.pages[i].key == key {
			nb.pages[i].value = value
			return
		}
	}
	nb.pages = append(nb.pages, page{key, value})
}

// Read finds what was written under a key. The zero T when nothing was.
func Read[T any](nb *Notebook, key string) T {
	for i := range nb.pages {
		if nb.pages[i].key == key {
			return nb.pages[i].value.(T)
		}
	}
	var none T
	return none
}

// Only narrows the trip to nodes of these names, and further when called again. All others are refused with the last why.
func (nb *Notebook) Only(names []string, why *Status) {
	if nb.onlyWhy == nil {
		nb.only, nb.onlyWhy = names, why
		return
	}
	var both []string
	for _, a := range nb.only {
		for _, b := range names {
			if a == b {
				both = append(both, a)
			}
		}
	}
	nb.only, nb.onlyWhy = both, why
}

// Narrowed tells the names to which the trip was narrowed, and the answer for all other nodes; ok is false when it was not.
func (nb *Notebook) Narrowed() (names []string, why *Status, ok bool) {
	return nb.only, nb.onlyWhy, nb.onlyWhy != nil
}
