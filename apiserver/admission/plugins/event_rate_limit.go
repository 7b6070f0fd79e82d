package plugins

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/lru"

	"pilothouse.dev/apiserver/admission"
	"pilothouse.dev/apiserver/configfile"
)

// eventRateLimit refuses events of who writes too many of them
// (https://kubernetes.io/docs/reference/access-authn-authz/admission-controllers/#eventratelimit).
type eventRateLimit struct {
	now    func() time.Time
	limits []*eventLimit // set by configure
}

// eventLimit is one limit: a bucket a key. Its buckets are safe for concurrent use.
type eventLimit struct {
	Type      string `json:"type"`
	QPS       int32  `json:"qps"`
	Burst     int32  `json:"burst"`
	CacheSize int32  `json:"cacheSize"` // how many buckets are kept, the last used

	server *rate.Limiter // of type Server

	mu    sync.Mutex
	keyed *lru.Cache // guarded by mu; of the others: string → *rate.Limiter
}

// What there may be a bucket for.
const (
	limitServer    = "Server"
	limitNamespace = "Namespace"
	limitUser      = "User"
	limitSource    = "SourceAndObject"
)

// standardBuckets is how many buckets a limit keeps that does not say.
const standardBuckets = 4096

func (*eventRateLimit) Name() string { return "EventRateLimit" }

func (p *eventRateLimit) configure(d configfile.Document) error {
	if d.Empty() {
		return errors.New("it needs limits, in the file of --admission-control-config-file")
	}
	var c struct {
		metav1.TypeMeta `json:",inline"`
		Limits          []*eventLimit `json:"limits"`
	}
	if err := d.Versioned(&c, "Configuration", "eventratelimit.admission.k8s.io/v1alpha1"); err != nil {
		return err
	}
	var errs field.ErrorList
	at := field.NewPath("limits")
	if len(c.Limits) == 0 {
		errs = append(errs, field.Invalid(at, c.Limits, "must not be empty"))
	}
	for i, l := range c.Limits {
		if l == nil {
			errs = append(errs, field.Required(at.Index(i), ""))
			continue
		}
		errs = append(errs, l.check(at.Index(i))...)
	}
	if err := d.Invalid(errs); err != nil {
		return err
	}
	for _, l := range c.Limits {
		l.open()
	}
	p.limits = c.Limits
	return nil
}

func (l *eventLimit) check(at *field.Path) field.ErrorList {
	var errs field.ErrorList
	switch l.Type {
	case limitServer, limitNamespace, limitUser, limitSource:
	default:
		errs = append(errs, field.NotSupported(at.Child("type"), l.Type, []string{limitNamespace, limitServer, limitSource, limitUser}))
	}
	if l.Burst <= 0 {
		errs = append(errs, field.Invalid(at.Child("burst"), l.Burst, "must be positive"))
	}
	if l.QPS <= 0 {
		errs = append(errs, field.Invalid(at.Child("qps"), l.QPS, "must be positive"))
	}
	if l.Type != limitServer && l.CacheSize < 0 {
		errs = append(errs, field.Invalid(at.Child("cacheSize"), l.CacheSize, "must not be negative"))
	}
	return errs
}

func (l *eventLimit) open() {
	if l.Type == limitServer {
		l.server = l.bucket()
		return
	}
	size := int(l.CacheSize)
	if size == 0 {
		size = standardBuckets
	}
	l.keyed = lru.New(size)
}

func (l *eventLimit) bucket() *rate.Limiter { return rate.NewLimiter(rate.Limit(l.QPS), int(l.Burst)) }

// take takes from the bucket of a key, and says whether there was something in it.
func (l *eventLimit) take(key string, now time.Time) bool {
	if l.server != nil {
		return l.server.AllowN(now, 1)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	b, ok := l.keyed.Get(key)
	if !ok {
		b = l.bucket()
		l.keyed.Add(key, b)
	}
	return b.(*rate.Limiter).AllowN(now, 1)
}

// key is which bucket a write takes from.
func (l *eventLimit) key(a *admission.Attributes) string {
	switch l.Type {
	case limitNamespace:
		return a.Namespace
	case limitUser:
		if a.User != nil {
			return a.User.Name
		}
	case limitSource:
		if e, ok := a.Object.(*corev1.Event); ok {
			o := &e.InvolvedObject
			return strings.Join([]string{e.Source.Component, e.Source.Host, o.Kind, o.Namespace, o.Name, string(o.UID), o.APIVersion}, "")
		}
	}
	return ""
}

// Validate takes from every bucket that an event has, also when one of them is empty already.
func (p *eventRateLimit) Validate(_ context.Context, a *admission.Attributes) error {
	if a.DryRun || a.Operation != admission.Create && a.Operation != admission.Update || a.Subresource != "" || a.Resource.GVK.Kind != "Event" {
		return nil
	}
	if g := a.Resource.GVK.Group; g != "" && g != "events.k8s.io" {
		return nil
	}
	now := p.now()
	var errs []error
	for _, l := range p.limits {
		if key := l.key(a); !l.take(key, now) {
			errs = append(errs, fmt.Errorf("limit reached on type %v for key %v", l.Type, key))
		}
	}
	if len(errs) > 0 {
		return apierrors.NewTooManyRequestsError(utilerrors.NewAggregate(errs).Error())
	}
	return nil
}
