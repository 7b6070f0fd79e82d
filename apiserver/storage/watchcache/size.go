package watchcache

import "pilothouse.dev/apiserver/storage"

// Size is the storage.Sized of a cache.
func (c *cache) Size(namespace string, most int) int {
	if !c.serves() {
		return -1
	}
	c.mu.RLock()
	defer c.mu.RUnlock()
	if namespace == "" || !c.kind.Namespaced {
		return min(c.tree.Len(), most)
	}
	n := 0
	c.tree.AscendGreaterOrEqual(&storage.Entry{Key: storage.Key{Namespace: namespace}}, func(e *storage.Entry) bool {
		if e.Key.Namespace != namespace || n == most {
			return false
		}
		n++
		return true
	})
	return n
}
