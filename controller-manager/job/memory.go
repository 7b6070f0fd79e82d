package job

import (
	"maps"
	"sync"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"pilothouse.dev/controller-manager/loop"
)

// memory is what one term knows of jobs beyond the caches. Safe for concurrent use; a page is used by one goroutine at a time.
type memory struct {
	mu   sync.Mutex
	keys map[loop.Key]*page // guarded by mu
}

// page is one job's.
type page struct {
	uid types.UID
	// met is the status we know the history of: whatever was done to pods before it was written, the cache shows, or it was we,
	// and the ledger and stripped know. nil: somebody else may have worked on the job, so the API server must be asked.
	met      *batchv1.JobStatus
	await    map[types.UID]string // versions of pods that the API server had, and the cache must reach
	listed   string               // the version at which it was asked; empty: the cache has passed it
	alive    map[types.UID]bool   // the pods it had then: others from before are gone
	stripped map[types.UID]bool   // pods whose finalizer is gone and that the cache still shows with it
	row      row
	wrote    time.Time // when the status last was
	version  string    // of the job as we last wrote or read it; empty: we have not
}

func newMemory() *memory { return &memory{keys: map[loop.Key]*page{}} }

// page finds a job's page; it is a new one when it was another job of that name.
func (m *memory) page(k loop.Key, uid types.UID) (p *page, fresh bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if p = m.keys[k]; p == nil || p.uid != uid {
		p = &page{uid: uid, stripped: map[types.UID]bool{}}
		m.keys[k] = p
		return p, true
	}
	return p, false
}

func (m *memory) forget(k loop.Key) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.keys, k)
}

// knows says whether nobody but us has counted since we last looked.
func (p *page) knows(st *batchv1.JobStatus) bool { return p.met != nil && sameCounts(p.met, st) }

// note keeps what the API server says of the job's pods.
func (p *page) note(list *corev1.PodList) {
	p.await, p.alive, p.listed = map[types.UID]string{}, map[types.UID]bool{}, list.ResourceVersion
	for i := range list.Items {
		if o := &list.Items[i]; owned(o, p.uid) {
			p.await[o.UID], p.alive[o.UID] = o.ResourceVersion, true
		}
	}
}

// visible are those of the job's pods in a cache which has reached version that are really there, and whether the cache shows
// all that we know of them.
func (p *page) visible(pods []*corev1.Pod, version string) ([]*corev1.Pod, bool) {
	if p.listed == "" {
		return pods, true
	}
	if loop.Reached(version, p.listed) {
		p.await, p.alive, p.listed = nil, nil, ""
		return pods, true
	}
	var there []*corev1.Pod
	for _, o := range pods {
		if owned(o, p.uid) && !p.alive[o.UID] && loop.Reached(p.listed, o.ResourceVersion) {
			continue
		}
		there = append(there, o)
		if want, known := p.await[o.UID]; known && loop.Reached(o.ResourceVersion, want) {
			delete(p.await, o.UID)
		}
	}
	maps.DeleteFunc(p.await, func(_ types.UID, want string) bool { return loop.Reached(version, want) })
	return there, len(p.await) == 0
}

// see forgets stripped pods that the cache shows as such, or not at all.
func (p *page) see(pods []*corev1.Pod) {
	if len(p.stripped) == 0 {
		return
	}
	still := map[types.UID]bool{}
	for _, o := range pods {
		if p.stripped[o.UID] && guarded(o) {
			still[o.UID] = true
		}
	}
	p.stripped = still
}
