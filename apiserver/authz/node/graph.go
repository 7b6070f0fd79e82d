package node

import (
	"hash/maphash"
	"slices"
	"sync"
	"sync/atomic"
	"unique"

	corev1 "k8s.io/api/core/v1"

	"pilothouse.dev/apiserver/storage"
	"pilothouse.dev/pkg/localvolume"
)

// kind is what sort of object a ref names.
type kind uint8

const (
	pod kind = iota
	secret
	configMap
	claim
	volume
	account
	resourceClaim
	attachment
	slice
	localVolume
)

// ref names an object.
type ref struct {
	kind            kind
	namespace, name string
}

// graph is what has to do with which node:
//
//	node ◀── pod ──▶ secret, config map, claim, account, resource claim
//	                                      ▲
//	                                    volume ──▶ secret
//	node ◀── volume attachment, resource slice, volume that is a folder of it
//
// Each node counts what its pods refer to, so an answer looks at no pod. Of a pod only the references are kept, as handles of names
// that are kept once.
type graph struct {
	follows []follow     // set once
	seed    maphash.Seed // set once

	ready  atomic.Bool // everything was read once
	synced chan struct{}

	pulling sync.Mutex // held by who brings the graph up to date; taken before mu

	mu      sync.RWMutex
	nodes   map[string]*node                // guarded by mu, as all below
	pods    map[storage.Key]*bound          // that are bound to a node
	volumes map[string]*mounted             // that belong to a claim
	secrets map[unique.Handle[ref]][]string // names of volumes that need them
	own     [3]map[string]string            // the node of volume attachments, of resource slices, and of volumes that are its folders
}

// node is one to which pods are bound.
type node struct {
	name string
	pods int
	uses map[unique.Handle[ref]]int32 // by how many of its pods
}

// bound is a pod.
type bound struct {
	on   *node
	refs []unique.Handle[ref]
	said uint64 // hash of what its references are read from
}

// mounted is a persistent volume.
type mounted struct {
	claim   unique.Handle[ref]
	secrets []unique.Handle[ref]
}

func (g *graph) clearPods() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.nodes, g.pods = map[string]*node{}, map[storage.Key]*bound{}
}

// putPod notes a pod that is bound to a node, and what it refers to.
func (g *graph) putPod(key storage.Key, on string, refs map[ref]bool, said uint64) {
	handles := make([]unique.Handle[ref], 0, len(refs))
	for r := range refs {
		handles = append(handles, unique.Make(r))
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.dropPodLocked(key)
	n := g.nodes[on]
	if n == nil {
		n = &node{name: on, uses: map[unique.Handle[ref]]int32{}}
		g.nodes[on] = n
	}
	n.pods++
	for _, h := range handles {
		n.uses[h]++
	}
	g.pods[key] = &bound{n, handles, said}
}

func (g *graph) dropPod(key storage.Key) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.dropPodLocked(key)
}

func (g *graph) dropPodLocked(key storage.Key) {
	p := g.pods[key]
	if p == nil {
		return
	}
	delete(g.pods, key)
	for _, h := range p.refs {
		if p.on.uses[h]--; p.on.uses[h] == 0 {
			delete(p.on.uses, h)
		}
	}
	if p.on.pods--; p.on.pods == 0 {
		delete(g.nodes, p.on.name)
	}
}

func (g *graph) clearVolumes() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.volumes, g.secrets, g.own[ofLocalVolumes] = map[string]*mounted{}, map[unique.Handle[ref]][]string{}, map[string]string{}
}

// putVolume notes whose claim a volume serves, what is needed to mount it, and which node's folder it is, if it is one.
func (g *graph) putVolume(v *corev1.PersistentVolume) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.dropVolumeLocked(v.Name)
	if on := v.Labels[localvolume.NodeLabel]; on != "" {
		g.own[ofLocalVolumes][v.Name] = on
	}
	if v.Spec.ClaimRef == nil {
		return // whose it is not yet, or never was
	}
	m := &mounted{claim: unique.Make(ref{claim, v.Spec.ClaimRef.Namespace, v.Spec.ClaimRef.Name})}
	for _, r := range volumeSecrets(v) {
		if h := unique.Make(r); !slices.Contains(m.secrets, h) {
			m.secrets = append(m.secrets, h)
			g.secrets[h] = append(g.secrets[h], v.Name)
		}
	}
	g.volumes[v.Name] = m
}

func (g *graph) dropVolume(name string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.dropVolumeLocked(name)
}

func (g *graph) dropVolumeLocked(name string) {
	delete(g.own[ofLocalVolumes], name)
	m := g.volumes[name]
	if m == nil {
		return
	}
	delete(g.volumes, name)
	for _, h := range m.secrets {
		rest := slices.DeleteFunc(g.secrets[h], func(n string) bool { return n == name })
		if len(rest) == 0 {
			delete(g.secrets, h)
		} else {
			g.secrets[h] = rest
		}
	}
}

// The kinds that name their node.
const (
	ofAttachments = iota
	ofSlices
	ofLocalVolumes
)

func (g *graph) clearOwn(of int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.own[of] = map[string]string{}
}

// putOwn notes that an object is a node's; of no node forgets it.
func (g *graph) putOwn(of int, name, node string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if node == "" {
		delete(g.own[of], name)
	} else {
		g.own[of][name] = node
	}
}

// knows says whether an object has to do with a node.
func (g *graph) knows(on string, r ref) bool {
	g.mu.RLock()
	defer g.mu.RUnlock()
	switch r.kind {
	case attachment:
		return g.own[ofAttachments][r.name] == on
	case slice:
		return g.own[ofSlices][r.name] == on
	case localVolume:
		return g.own[ofLocalVolumes][r.name] == on
	}
	n := g.nodes[on]
	if n == nil {
		return false
	}
	switch r.kind {
	case pod:
		p := g.pods[storage.Key{Namespace: r.namespace, Name: r.name}]
		return p != nil && p.on == n
	case volume:
		return n.mounts(g.volumes[r.name])
	}
	h := unique.Make(r)
	if n.uses[h] > 0 {
		return true
	}
	return r.kind == secret && slices.ContainsFunc(g.secrets[h], func(name string) bool { return n.mounts(g.volumes[name]) })
}

func (n *node) mounts(m *mounted) bool { return m != nil && n.uses[m.claim] > 0 }
