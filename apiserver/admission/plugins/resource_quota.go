package plugins

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/sets"

	"pilothouse.dev/apiserver/admission"
	"pilothouse.dev/apiserver/registry"
	"pilothouse.dev/pkg/quota"
)

// Quotas finds the resource quotas of a namespace, as at hand. What it returns is shared.
type Quotas interface {
	ResourceQuotas(ctx context.Context, namespace string) ([]*corev1.ResourceQuota, error)
}

// ChangeQuota changes what a quota's status says is used, all or nothing. change is called again with the newer quota when another
// write came between; what it decides without changing anything, it has decided on the newest. A quota that does not exist is an
// apierrors NotFound.
type ChangeQuota func(ctx context.Context, namespace, name string, change func(q *corev1.ResourceQuota)) error

// resourceQuota keeps namespaces within their quotas (https://kubernetes.io/docs/concepts/policy/resource-quotas/): what a write will
// use is charged to every quota that it concerns before it is stored, and given back when it is not. It is the last to be asked, so
// that nothing is charged for what others refuse. What is deleted the controller of quotas gives back.
//
// What always holds: what a quota says is used is no less than what is stored and what is about to be, so its bounds are kept
// however many writers and servers there are.
type resourceQuota struct {
	quotas  Quotas
	ledger  *ledger
	limited []LimitedResource // what may be used only where a quota covers it
}

func newResourceQuota(p Parts) *resourceQuota {
	return &resourceQuota{quotas: p.Quotas, ledger: newLedger(p.ChangeQuota), limited: p.LimitedResources}
}

func (*resourceQuota) Name() string { return "ResourceQuota" }

func (p *resourceQuota) Validate(ctx context.Context, a *admission.Attributes) error {
	if a.Namespace == "" || !a.Resource.Namespaced || a.Resource.Virtual {
		return nil
	}
	quotas, err := p.quotas.ResourceQuotas(ctx, a.Namespace)
	if err != nil {
		return err
	}
	if len(quotas) == 0 && len(p.limited) == 0 {
		return nil
	}
	of := a.Resource.GroupResource()
	if quota.Ignored(of) {
		return nil
	}
	meter := quota.Of(of)
	switch {
	case a.Operation == admission.Create && a.Subresource == "":
	case a.Operation == admission.Update && meter.Changes(a.Subresource, a.Object, a.Old):
	default:
		return nil
	}
	r := reckon(meter, a, quotas, time.Now())
	if r.refusal != "" {
		return forbid(a, "%s", r.refusal)
	}
	if !r.any {
		return nil
	}
	if err := p.covered(a, meter, r, quotas); err != nil {
		return err
	}
	return p.take(ctx, a, r)
}

// reckoning is what a write means to the quotas of its namespace.
type reckoning struct {
	usage   corev1.ResourceList // of the object as it will be
	bills   []bill              // to the quotas that it concerns
	any     bool                // it uses more than before
	covered []corev1.ResourceName
	refusal string // it does not say what a quota demands
}

// bill is what one quota is to be charged.
type bill struct {
	of   *corev1.ResourceQuota
	need corev1.ResourceList // of every name that the resource has, positive; the quota's own choice of them is made when it is charged
}

// reckon is pure. The quotas may be a moment old: they decide which quotas are concerned, and none is charged by what they say is used.
func reckon(m quota.Meter, a *admission.Attributes, quotas []*corev1.ResourceQuota, now time.Time) reckoning {
	r := reckoning{usage: m.Usage(a.Object, now)}
	for name, q := range r.usage {
		if q.Sign() < 0 {
			r.refusal = "quota usage is negative for resource(s): " + string(name)
			return r
		}
	}
	all := quota.Positive(r.usage)
	more := all
	if a.Old != nil {
		more = quota.More(r.usage, m.Usage(a.Old, now))
	}
	r.any = len(more) > 0
	for _, q := range quotas {
		names := m.Names(q.Status.Hard)
		if len(names) == 0 || !m.InScopes(q, a.Object) {
			continue
		}
		if lack := m.Missing(names, a.Object); lack != "" {
			r.refusal = "failed quota: " + q.Name + ": " + lack
			return r
		}
		r.covered = append(r.covered, names...)
		need := more
		if a.Old != nil && !m.InScopes(q, a.Old) {
			need = all // it comes into the quota's scope
		}
		if len(need) > 0 {
			r.any = true
			r.bills = append(r.bills, bill{q, need})
		}
	}
	return r
}

// covered refuses what the configuration limits and no quota covers.
func (p *resourceQuota) covered(a *admission.Attributes, m quota.Meter, r reckoning, quotas []*corev1.ResourceQuota) error {
	uncovered := sets.New[corev1.ResourceName]()
	var scopes []corev1.ScopedResourceSelectorRequirement
	for _, l := range p.limited {
		if l.APIGroup != m.Resource().Group || l.Resource != m.Resource().Resource {
			continue
		}
		for name, q := range r.usage {
			if q.Sign() > 0 && !slices.Contains(r.covered, name) &&
				slices.ContainsFunc(l.MatchContains, func(part string) bool { return strings.Contains(string(name), part) }) {
				uncovered.Insert(name)
			}
		}
		for _, s := range l.MatchScopes {
			if m.InScope(s, a.Object) && !scopeCovered(m, a.Object, s.ScopeName, quotas) {
				scopes = append(scopes, s)
			}
		}
	}
	if len(uncovered) > 0 {
		return forbid(a, "insufficient quota to consume: %s", quota.Join(sets.List(uncovered)))
	}
	if len(scopes) > 0 {
		return forbid(a, "insufficient quota to match these scopes: %v", scopes)
	}
	return nil
}

// scopeCovered says whether some quota is about objects like this one by that scope.
func scopeCovered(m quota.Meter, o registry.Object, name corev1.ResourceQuotaScope, quotas []*corev1.ResourceQuota) bool {
	return slices.ContainsFunc(quotas, func(q *corev1.ResourceQuota) bool {
		return slices.ContainsFunc(quota.Scopes(q), func(s corev1.ScopedResourceSelectorRequirement) bool {
			return s.ScopeName == name && m.InScope(s, o)
		})
	})
}

// take charges the bills one after another; what was charged is given back should the write fail, also at a later bill.
func (p *resourceQuota) take(ctx context.Context, a *admission.Attributes, r reckoning) error {
	// Those that seem to be at their bounds come first, so that what they refuse was charged to none.
	slices.SortStableFunc(r.bills, func(x, y bill) int { return rank(x) - rank(y) })
	for _, b := range r.bills {
		e := &entry{
			resource: quota.Of(a.Resource.GroupResource()), need: b.need, dry: a.DryRun,
			unbounded: a.Subresource == "status", // what is so already cannot be refused
		}
		err := p.ledger.enter(ctx, account{b.of.Namespace, b.of.Name}, e)
		var no refusal
		var status apierrors.APIStatus
		switch {
		case errors.As(err, &no):
			return forbid(a, "%w", no)
		case errors.As(err, &status):
			return err
		case err != nil:
			return apierrors.NewInternalError(fmt.Errorf("charging quota %s: %w", b.of.Name, err))
		}
		if len(e.taken) > 0 {
			back := &entry{resource: e.resource, back: e.taken, uid: e.uid}
			a.OnUndo(func(ctx context.Context) {
				// What cannot be given back now, the controller of quotas will.
				_ = p.ledger.enter(ctx, account{b.of.Namespace, b.of.Name}, back)
			})
		}
	}
	return nil
}

func rank(b bill) int {
	if need := quota.Only(b.need, keys(b.of.Status.Hard)); len(quota.Beyond(quota.Add(b.of.Status.Used, need), b.of.Status.Hard)) > 0 {
		return 0
	}
	return 1
}

func keys(list corev1.ResourceList) []corev1.ResourceName {
	names := make([]corev1.ResourceName, 0, len(list))
	for name := range list {
		names = append(names, name)
	}
	return names
}
