//go:build !invariants && !race

package watchcache

func (c *cache) check() {}
