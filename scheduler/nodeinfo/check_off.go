//go:build !race && !invariants

package nodeinfo

func (n *Node) check() {}
