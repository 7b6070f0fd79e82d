package webhook

import (
	"container/list"
	"sync"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
)

// cache keeps answers until they are too old, or until others are asked for more. Safe for concurrent use.
type cache struct {
	most int // set once, as all in this group
	now  func() time.Time

	mu    sync.Mutex
	byKey map[string]*list.Element // guarded by mu; values are *answer
	used  *list.List               // guarded by mu; the latest used first
}

type answer struct {
	key    string
	status authorizationv1.SubjectAccessReviewStatus
	until  time.Time
}

func newCache(most int, now func() time.Time) *cache {
	return &cache{most: most, now: now, byKey: map[string]*list.Element{}, used: list.New()}
}

func (c *cache) get(key string) (authorizationv1.SubjectAccessReviewStatus, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.byKey[key]
	if e == nil {
		return authorizationv1.SubjectAccessReviewStatus{}, false
	}
	a := e.Value.(*answer)
	if !c.now().Before(a.until) {
		c.dropLocked(e)
		return authorizationv1.SubjectAccessReviewStatus{}, false
	}
	c.used.MoveToFront(e)
	return a.status, true
}

func (c *cache) put(key string, s authorizationv1.SubjectAccessReviewStatus, keep time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.byKey[key]; e != nil {
		c.dropLocked(e)
	}
	c.byKey[key] = c.used.PushFront(&answer{key, s, c.now().Add(keep)})
	if c.used.Len() > c.most {
		c.dropLocked(c.used.Back())
	}
}

func (c *cache) dropLocked(e *list.Element) {
	delete(c.byKey, e.Value.(*answer).key)
	c.used.Remove(e)
}
