package job

import (
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
	// met is the status we know the history of: every finalizer that was taken away before it was written is gone from the
	// cache, or in stripped. nil: somebody else may have worked on the job, so the API server must be asked.
	met      *batchv1.JobStatus
	stripped map[types.UID]bool // pods whose finalizer is gone and that the cache still shows with it
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
