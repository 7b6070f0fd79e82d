package loop

import (
	"sync"

	"k8s.io/apimachinery/pkg/util/resourceversion"
)

// Versions remembers the last version a controller wrote for each key, of objects of one resource, so that it does not decide
// on a cache that is behind its own hand. Safe for concurrent use.
type Versions struct {
	mu   sync.Mutex
	last map[Key]string // guarded by mu
}

// NewVersions makes an empty memory.
func NewVersions() *Versions { return &Versions{last: map[Key]string{}} }

// Wrote notes the resource version a write for the key returned.
func (v *Versions) Wrote(k Key, version string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if old := v.last[k]; old == "" || Reached(version, old) {
		v.last[k] = version
	}
}

// Seen says whether a cache that has reached version shows all that was written for the key.
func (v *Versions) Seen(k Key, version string) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	last, wrote := v.last[k]
	if wrote && !Reached(version, last) {
		return false
	}
	delete(v.last, k)
	return true
}

// Reached says whether resource version a is b or later; both must be of one resource.
func Reached(a, b string) bool {
	c, err := resourceversion.CompareResourceVersion(a, b)
	return err == nil && c >= 0
}
