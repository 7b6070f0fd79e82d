package node

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"time"

	"go.uber.org/zap"
	"google.golang.org/protobuf/encoding/protowire"
	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	storagev1 "k8s.io/api/storage/v1"

	"pilothouse.dev/apiserver/authz"
	"pilothouse.dev/apiserver/codec"
	"pilothouse.dev/apiserver/storage"
)

// Feeds tell what changes. Pods may be only those that are bound to a node.
type Feeds struct {
	Pods, Volumes, Attachments, Slices authz.Feed
}

// follow is one kind that the graph is made of.
type follow struct {
	feed  authz.Feed
	reset func()
	apply func(*storage.Entry) error
	drop  func(storage.Key)
}

const (
	every    = time.Second // between looks at what changed, so that the caches still have it
	patience = time.Second // most time that a question waits for the first reading
)

// errNotSynced says that nothing is known yet.
var errNotSynced = errors.New("node authorizer: pods have not been read yet")

func newGraph(f Feeds) *graph {
	g := &graph{seed: maphash.MakeSeed(), synced: make(chan struct{})}
	g.clearPods()
	g.clearVolumes()
	g.clearOwn(ofAttachments)
	g.clearOwn(ofSlices)
	g.follows = []follow{
		{f.Pods, g.clearPods, g.readPod, g.dropPod},
		{f.Volumes, g.clearVolumes, g.readVolume, func(k storage.Key) { g.dropVolume(k.Name) }},
		{f.Attachments, func() { g.clearOwn(ofAttachments) }, g.readAttachment, func(k storage.Key) { g.putOwn(ofAttachments, k.Name, "") }},
		{f.Slices, func() { g.clearOwn(ofSlices) }, g.readSlice, func(k storage.Key) { g.putOwn(ofSlices, k.Name, "") }},
	}
	return g
}

// Run keeps the graph up to date until ctx ends, so that a question has little left to read. That it fails is logged once, until it
// succeeds again; who asks meanwhile is told, too.
func (a *Authorizer) Run(ctx context.Context) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	failing := false
	for {
		err := a.graph.refresh(ctx)
		if err != nil && !failing && ctx.Err() == nil {
			a.log.Warn("what pods refer to is not all known", zap.Error(err))
		}
		failing = err != nil
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// Ready says whether everything was read once.
func (a *Authorizer) Ready() error {
	if !a.graph.ready.Load() {
		return errNotSynced
	}
	return nil
}

// related says whether an object has to do with a node, as far as the caches know at this moment.
func (g *graph) related(ctx context.Context, on string, r ref) (bool, error) {
	if !g.ready.Load() {
		// The first reading may take long: it is Run's. What it has come to counts.
		if g.knows(on, r) {
			return true, nil
		}
		wait := time.NewTimer(patience)
		defer wait.Stop()
		select {
		case <-g.synced:
		case <-wait.C:
			return g.knows(on, r), errNotSynced
		case <-ctx.Done():
			return false, errNotSynced
		}
	}
	err := g.refresh(ctx)
	return g.knows(on, r), err
}

// refresh brings the graph up to what the feeds have now.
func (g *graph) refresh(ctx context.Context) error {
	behind := false
	for i := range g.follows {
		behind = behind || g.follows[i].feed.Behind()
	}
	if behind {
		if err := g.pull(ctx); err != nil {
			return err
		}
	}
	if g.ready.CompareAndSwap(false, true) {
		close(g.synced)
	}
	return nil
}

func (g *graph) pull(ctx context.Context) error {
	g.pulling.Lock()
	defer g.pulling.Unlock()
	var failed []error
	for _, f := range g.follows {
		if !f.feed.Behind() {
			continue
		}
		err := f.feed.Pull(ctx, f.reset, func(ev storage.Event) {
			if ev.Type == storage.Deleted {
				f.drop(ev.Entry.Key)
				return
			}
			if err := f.apply(ev.Entry); err != nil {
				f.drop(ev.Entry.Key) // what cannot be read gives no rights
				failed = append(failed, err)
			}
		})
		if err != nil {
			failed = append(failed, err)
		}
	}
	return errors.Join(failed...)
}

// readPod decodes a pod only if something in it has changed that its references are read from: most changes are of its status.
func (g *graph) readPod(e *storage.Entry) error {
	said := g.sayings(e.Value)
	g.mu.RLock()
	known := g.pods[e.Key]
	g.mu.RUnlock()
	if known != nil && said != 0 && known.said == said {
		return nil
	}
	var p corev1.Pod
	if err := codec.Unmarshal(e.Value, e.Revision, &p); err != nil {
		return fmt.Errorf("reading pod %s: %w", e.Key, err)
	}
	if p.Spec.NodeName == "" {
		g.dropPod(e.Key)
		return nil
	}
	g.putPod(e.Key, p.Spec.NodeName, references(&p), said)
	return nil
}

// Fields of a pod's message.
const (
	podMetadata, podSpec, podStatus   = 1, 2, 3
	metaUID                           = 5
	statusClaims, statusExtendedClaim = 15, 18
)

// sayings is a hash of the parts of a stored pod that its references are read from: UID, spec, and the claims in its status. The
// mark of a mirror pod never changes. 0 when they cannot be found.
func (g *graph) sayings(value []byte) uint64 {
	var h maphash.Hash
	h.SetSeed(g.seed)
	note := func(b []byte) {
		var n [4]byte // so that what ends one part cannot begin the next
		n[0], n[1], n[2], n[3] = byte(len(b)), byte(len(b)>>8), byte(len(b)>>16), byte(len(b)>>24)
		_, _ = h.Write(n[:])
		_, _ = h.Write(b)
	}
	if !parts(value, func(num protowire.Number, b []byte) bool {
		switch num {
		case podMetadata:
			return parts(b, func(num protowire.Number, b []byte) bool {
				if num == metaUID {
					note(b)
				}
				return true
			})
		case podSpec:
			note(b)
		case podStatus:
			return parts(b, func(num protowire.Number, b []byte) bool {
				if num == statusClaims || num == statusExtendedClaim {
					note(b)
				}
				return true
			})
		}
		return true
	}) {
		return 0
	}
	return h.Sum64()
}

// parts tells the fields of a message that hold bytes.
func parts(b []byte, f func(protowire.Number, []byte) bool) bool {
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return false
		}
		b = b[n:]
		if typ != protowire.BytesType {
			if n = protowire.ConsumeFieldValue(num, typ, b); n < 0 {
				return false
			}
			b = b[n:]
			continue
		}
		part, n := protowire.ConsumeBytes(b)
		if n < 0 || !f(num, part) {
			return false
		}
		b = b[n:]
	}
	return true
}

func (g *graph) readVolume(e *storage.Entry) error {
	var v corev1.PersistentVolume
	if err := codec.Unmarshal(e.Value, e.Revision, &v); err != nil {
		return fmt.Errorf("reading persistent volume %s: %w", e.Key, err)
	}
	g.putVolume(&v)
	return nil
}

func (g *graph) readAttachment(e *storage.Entry) error {
	var a storagev1.VolumeAttachment
	if err := codec.Unmarshal(e.Value, e.Revision, &a); err != nil {
		return fmt.Errorf("reading volume attachment %s: %w", e.Key, err)
	}
	g.putOwn(ofAttachments, e.Key.Name, a.Spec.NodeName)
	return nil
}

func (g *graph) readSlice(e *storage.Entry) error {
	var s resourcev1.ResourceSlice
	if err := codec.Unmarshal(e.Value, e.Revision, &s); err != nil {
		return fmt.Errorf("reading resource slice %s: %w", e.Key, err)
	}
	name := ""
	if s.Spec.NodeName != nil {
		name = *s.Spec.NodeName
	}
	g.putOwn(ofSlices, e.Key.Name, name)
	return nil
}
