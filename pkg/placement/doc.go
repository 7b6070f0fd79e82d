// Package placement answers whether a pod may stand on a node: do its resources fit, do the node's labels satisfy its
// affinity, does it tolerate the node's taints, are its host ports free.
//
// All functions are pure. The scheduler asks them for every node, the daemon set controller for the one node it means, the
// kubelet for itself when a pod arrives: the same question, so the same code.
package placement
