package authn

import (
	"context"
	"sync"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// cluster is the objects there are, each by its resource and name; namespaces are not told apart.
type cluster struct {
	mu       sync.Mutex
	revision int64
	objects  map[string]thing
	decoded  int // how often more than a revision was asked for
	marked   []string
}

type thing struct {
	revision int64
	meta     metav1.ObjectMeta
	secret   *corev1.Secret
	account  *corev1.ServiceAccount
}

func (c *cluster) set(key string, t thing) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.revision++
	t.revision = c.revision
	if c.objects == nil {
		c.objects = map[string]thing{}
	}
	c.objects[key] = t
}

func (c *cluster) put(key string, m metav1.ObjectMeta) { c.set(key, thing{meta: m}) }

func (c *cluster) putSecret(s *corev1.Secret) {
	c.set("secrets/"+s.Name, thing{meta: s.ObjectMeta, secret: s})
}

func (c *cluster) putAccount(a *corev1.ServiceAccount) {
	c.set("serviceaccounts/"+a.Name, thing{meta: a.ObjectMeta, account: a})
}

func (c *cluster) drop(key string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.objects, key)
}

func (c *cluster) get(resource, name string) (thing, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	t, ok := c.objects[resource+"/"+name]
	if !ok {
		return t, apierrors.NewNotFound(corev1.Resource(resource), name)
	}
	return t, nil
}

func (c *cluster) Revision(_ context.Context, resource, _, name string) (int64, error) {
	t, err := c.get(resource, name)
	return t.revision, err
}

func (c *cluster) Meta(_ context.Context, resource, _, name string) (*metav1.ObjectMeta, error) {
	c.decoded++
	t, err := c.get(resource, name)
	return &t.meta, err
}

func (c *cluster) ServiceAccount(_ context.Context, _, name string) (*corev1.ServiceAccount, error) {
	c.decoded++
	t, err := c.get("serviceaccounts", name)
	if t.account == nil {
		t.account = &corev1.ServiceAccount{ObjectMeta: t.meta}
	}
	return t.account, err
}

func (c *cluster) Secret(_ context.Context, _, name string) (*corev1.Secret, error) {
	c.decoded++
	t, err := c.get("secrets", name)
	if t.secret == nil {
		t.secret = &corev1.Secret{ObjectMeta: t.meta}
	}
	return t.secret, err
}

func (c *cluster) SecretAtHand(ctx context.Context, namespace, name string) (*corev1.Secret, error) {
	return c.Secret(ctx, namespace, name)
}

func (c *cluster) MarkUsed(_ context.Context, s *corev1.Secret, day string) error {
	c.marked = append(c.marked, s.Name+" "+day)
	return nil
}
