package changes

import "k8s.io/apimachinery/pkg/types"

// Homes are the nodes on which a Service's endpoints answer: the ready ones, and where none is ready anywhere, those that still
// serve while they terminate. It is what policy Local means to somebody who looks at all nodes.
func (t *Tracker) Homes(namespace, service string) map[string]bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.services[types.NamespacedName{Namespace: namespace, Name: service}]
	if e == nil {
		return nil
	}
	for _, want := range []state{ready, serving | terminating} {
		at := map[string]bool{}
		for i := range e.slices {
			for j := range e.slices[i].endpoints {
				if x := &e.slices[i].endpoints[j]; x.state.is(want) && x.node != noName {
					at[x.node.Value()] = true
				}
			}
		}
		if len(at) > 0 {
			return at
		}
	}
	return nil
}
