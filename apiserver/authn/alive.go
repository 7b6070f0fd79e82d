package authn

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/go-jose/go-jose/v4/jwt"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"pilothouse.dev/apiserver/request"
)

// use is a service account's token in use: what it depends on is looked at every time, so that deleting that ends the token at once.
type use struct {
	t         *Tokens
	on        []*dependency
	subject   string
	warnAfter time.Time // zero: never
}

// dependency is an object that must be there, the same as when the token was issued.
type dependency struct {
	resource, what       string
	namespace, name, uid string
	seen                 atomic.Pointer[sight]
}

// sight is what was found when the object was last read.
type sight struct {
	revision int64
	deleted  *metav1.Time
}

// dependencies are the account, and what the token is bound to.
func dependencies(b *bound) []*dependency {
	all := []*dependency{{resource: "serviceaccounts", what: "service account", namespace: b.Namespace, name: b.Account.Name, uid: b.Account.UID}}
	add := func(resource, what, namespace string, to *ref) {
		if to != nil {
			all = append(all, &dependency{resource: resource, what: what, namespace: namespace, name: to.Name, uid: to.UID})
		}
	}
	add("secrets", "secret", b.Namespace, b.Secret)
	add("pods", "pod", b.Namespace, b.Pod)
	if b.Pod == nil { // beside a pod the node is only told
		add("nodes", "node", "", b.Node)
	}
	return all
}

// still says whether all of it is there, and notes a token that should have been renewed.
func (u *use) still(ctx context.Context) error {
	now := u.t.now()
	// What has been marked as deleted for longer than clocks may differ does not count any more.
	since := now.Add(-jwt.DefaultLeeway)
	for _, d := range u.on {
		if err := d.check(ctx, u.t.objects, since); err != nil {
			return err
		}
	}
	if u.warnAfter.IsZero() || now.Before(u.warnAfter) {
		u.t.metrics.valid.Inc()
		return nil
	}
	u.t.metrics.stale.Inc()
	request.Note(ctx, "authentication.k8s.io/stale-token",
		fmt.Sprintf("subject: %s, seconds after warning threshold: %d", u.subject, int64(now.Sub(u.warnAfter).Seconds())))
	return nil
}

func (d *dependency) check(ctx context.Context, objects Objects, since time.Time) error {
	revision, err := objects.Revision(ctx, d.resource, d.namespace, d.name)
	if err != nil {
		return d.missing(err)
	}
	s := d.seen.Load()
	if s == nil || s.revision != revision {
		meta, err := objects.Meta(ctx, d.resource, d.namespace, d.name)
		if err != nil {
			return d.missing(err)
		}
		if string(meta.UID) != d.uid {
			return fmt.Errorf("%s UID (%s) does not match claim (%s)", d.what, meta.UID, d.uid)
		}
		s = &sight{revision, meta.DeletionTimestamp}
		d.seen.Store(s)
	}
	if s.deleted != nil && s.deleted.Time.Before(since) {
		return fmt.Errorf("service account token has been invalidated: %s %s has been deleted", d.what, d.title())
	}
	return nil
}

func (d *dependency) missing(err error) error {
	if apierrors.IsNotFound(err) {
		return fmt.Errorf("service account token has been invalidated: %s %s does not exist", d.what, d.title())
	}
	return fmt.Errorf("checking a service account token: %w", err)
}

func (d *dependency) title() string {
	if d.namespace == "" {
		return d.name
	}
	return d.namespace + "/" + d.name
}
