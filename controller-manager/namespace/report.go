package namespace

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// report is what one look at a namespace found. Kinds report side by side.
type report struct {
	discovery error // of some groups; set once
	waited    bool  // for those long enough; set once

	mu         sync.Mutex
	failures   map[string]error // guarded by mu, as all below; by kind
	objects    map[string]int   // left, by kind
	finalizers map[string]int   // of objects left, by finalizer
}

func newReport() *report {
	return &report{failures: map[string]error{}, objects: map[string]int{}, finalizers: map[string]int{}}
}

func (r *report) failed(k schema.GroupResource, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failures[k.String()] = err
}

func (r *report) left(k schema.GroupResource, items []metav1.PartialObjectMetadata) {
	if len(items) == 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.objects[k.String()] += len(items)
	for i := range items {
		for _, f := range items[i].Finalizers {
			r.finalizers[f]++
		}
	}
}

// empty: nothing was found and nothing went wrong.
func (r *report) empty() bool { return len(r.objects) == 0 && len(r.failures) == 0 }

// done: and there can be nothing that was not looked at.
func (r *report) done() bool { return r.empty() && (r.discovery == nil || r.waited) }

// err joins what went wrong; things that are merely left are no error.
func (r *report) err() error {
	errs := []error{r.discovery}
	for _, k := range slices.Sorted(maps.Keys(r.failures)) {
		errs = append(errs, fmt.Errorf("emptying of %s: %w", k, r.failures[k]))
	}
	return errors.Join(errs...)
}

// conditions tell the report in the form users know: each says True when it is what holds the namespace up.
func conditions(have []corev1.NamespaceCondition, r *report, now time.Time) []corev1.NamespaceCondition {
	out := slices.Clone(have)
	say := func(t corev1.NamespaceConditionType, held bool, reason, message, fine, fineMessage string) {
		c := corev1.NamespaceCondition{Type: t, Status: corev1.ConditionFalse, Reason: fine, Message: fineMessage, LastTransitionTime: metav1.NewTime(now)}
		if held {
			c.Status, c.Reason, c.Message = corev1.ConditionTrue, reason, message
		}
		i := slices.IndexFunc(out, func(o corev1.NamespaceCondition) bool { return o.Type == t })
		switch {
		case i < 0:
			out = append(out, c)
		case out[i].Status != c.Status:
			out[i] = c
		case out[i].Reason != c.Reason || out[i].Message != c.Message:
			out[i].Reason, out[i].Message = c.Reason, c.Message
		}
	}
	discovery, failures := "", ""
	if r.discovery != nil {
		discovery = "Discovery failed for some groups: " + r.discovery.Error()
	}
	for _, k := range slices.Sorted(maps.Keys(r.failures)) {
		failures += fmt.Sprintf("Failed to delete all resource types, %s: %v; ", k, r.failures[k])
	}
	say(corev1.NamespaceDeletionDiscoveryFailure, r.discovery != nil, "DiscoveryFailed", discovery,
		"ResourcesDiscovered", "All resources successfully discovered")
	say(corev1.NamespaceDeletionGVParsingFailure, false, "", "", "ParsedGroupVersions", "All legacy kube types successfully parsed")
	say(corev1.NamespaceDeletionContentFailure, failures != "", "ContentDeletionFailed", strings.TrimSuffix(failures, "; "),
		"ContentDeleted", "All content successfully deleted, may be waiting on finalization")
	say(corev1.NamespaceContentRemaining, len(r.objects) > 0, "SomeResourcesRemain", "Some resources are remaining: "+list(r.objects, "%s has %d resource instances"),
		"ContentRemoved", "All content successfully removed")
	say(corev1.NamespaceFinalizersRemaining, len(r.finalizers) > 0, "SomeFinalizersRemain",
		"Some content in the namespace has finalizers remaining: "+list(r.finalizers, "%s in %d resource instances"),
		"ContentHasNoFinalizers", "All content-preserving finalizers finished")
	return out
}

func list(counts map[string]int, form string) string {
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(counts)) {
		parts = append(parts, fmt.Sprintf(form, k, counts[k]))
	}
	return strings.Join(parts, ", ")
}
