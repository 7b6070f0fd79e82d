package network

import (
	"fmt"
	"slices"
	"sync"

	"go.uber.org/zap"
)

// HostPorts leads ports of the node into pods that the built-in driver joined. All methods may be called at the same time.
type HostPorts interface {
	// Set makes the pod's ports exactly those that it asks for, and they lead to the addresses of its place. A port that another pod holds is an
	// error that names that pod, and then nothing of this pod's ports is changed.
	Set(pod Pod, at Attachment) error
	// Remove gives up the ports of a pod; one that has none is no error.
	Remove(podKey string) error
	// Keep gives up the ports of all pods but these; after an error it is tried again with whatever comes next.
	Keep(podKeys []string) error
}

// openPorts leads the pod's host ports to it, once it has its place; a pod that asks for none has none from before either.
func (n *Network) openPorts(pod Pod, at Attachment) error {
	if n.cfg.HostPorts == nil {
		return nil
	}
	if err := n.cfg.HostPorts.Set(pod, at); err != nil {
		return fmt.Errorf("opening host ports of pod %s/%s: %w", pod.Namespace, pod.Name, err)
	}
	return nil
}

// closePorts must be done before the pod's addresses are given to others.
func (n *Network) closePorts(podKey string) error {
	if n.cfg.HostPorts == nil {
		return nil
	}
	if err := n.cfg.HostPorts.Remove(podKey); err != nil {
		return fmt.Errorf("closing host ports of pod %s: %w", podKey, err)
	}
	return nil
}

// living are the pods that were found at the start: what belongs to others is left over.
type living struct {
	mu   sync.Mutex
	keys []string
}

func (l *living) add(held []Held) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, h := range held {
		if !slices.Contains(l.keys, h.PodKey) {
			l.keys = append(l.keys, h.PodKey)
		}
	}
	return slices.Clone(l.keys)
}

// keepPorts gives up host ports of pods that are no more. What fails is tried again.
func (n *Network) keepPorts(held []Held) {
	keys := n.living.add(held)
	n.cni.restored(keys)
	if n.cfg.HostPorts == nil {
		return
	}
	if err := n.cfg.HostPorts.Keep(keys); err != nil {
		n.log.Warn("giving up host ports of pods that are gone", zap.Error(err))
	}
}
