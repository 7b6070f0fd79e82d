// Package quota reckons what objects use of a ResourceQuota (https://kubernetes.io/docs/concepts/policy/resource-quotas/): which of
// the names in a quota an object uses up, how much of each, and whether it is in the quota's scopes. Admission, which charges quotas
// before an object is stored, and the controller, which reckons anew from what is stored, use it, so that they never disagree.
//
// All functions are pure and safe for concurrent use. Objects are of the stored version of their kind; lists handed in are not
// changed, lists returned belong to the caller.
package quota

import (
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Meter measures the objects of one resource.
type Meter struct {
	resource schema.GroupResource
	count    corev1.ResourceName // count/…
	classic  corev1.ResourceName // the older name of the same, where there is one
	kind     *kind               // nil: objects are only counted
}

// kind is what a resource does whose objects use more than their number.
type kind struct {
	covers func(name corev1.ResourceName) bool // beside count/…
	// usage is what an object uses beside its number, which is in list already.
	usage   func(o metav1.Object, now time.Time, list corev1.ResourceList)
	scope   func(r corev1.ScopedResourceSelectorRequirement, o metav1.Object) bool // nil: in none
	changes func(subresource string, o, old metav1.Object) bool                    // whether an update may change usage or scope
	missing func(names []corev1.ResourceName, o metav1.Object) string              // nil: nothing is
}

// The resources whose objects use more than their number.
var (
	Pods     = schema.GroupResource{Resource: "pods"}
	Services = schema.GroupResource{Resource: "services"}
	Claims   = schema.GroupResource{Resource: "persistentvolumeclaims"}
	Devices  = schema.GroupResource{Group: resourcev1.GroupName, Resource: "resourceclaims"}
)

var kinds = map[schema.GroupResource]*kind{
	Pods:     {covers: coversPods, usage: podUsage, scope: podInScope, changes: podChanges, missing: podMissing},
	Services: {covers: coversServices, usage: serviceUsage, changes: whole},
	Claims:   {covers: coversClaims, usage: claimUsage, scope: claimInScope, changes: claimChanges},
	Devices:  {covers: coversDevices, usage: deviceUsage, changes: whole},
}

// classics are the names that are older than count/….
var classics = map[schema.GroupResource]corev1.ResourceName{
	{Resource: "configmaps"}:             corev1.ResourceConfigMaps,
	{Resource: "secrets"}:                corev1.ResourceSecrets,
	{Resource: "resourcequotas"}:         corev1.ResourceQuotas,
	{Resource: "replicationcontrollers"}: corev1.ResourceReplicationControllers,
}

// Of is the meter of a resource; every resource has one.
func Of(gr schema.GroupResource) Meter {
	return Meter{resource: gr, count: CountOf(gr), classic: classics[gr], kind: kinds[gr]}
}

const countPrefix = "count/"

// CountOf is the name by which the number of a resource's objects is limited.
func CountOf(gr schema.GroupResource) corev1.ResourceName {
	return corev1.ResourceName(countPrefix + gr.String())
}

// Ignored says whether quotas do not count a resource: events never were.
func Ignored(gr schema.GroupResource) bool {
	return gr.Resource == "events" && (gr.Group == "" || gr.Group == "events.k8s.io")
}

// ResourceOf finds whose objects use up a name of a quota; ok is false when nobody's do.
func ResourceOf(name corev1.ResourceName) (gr schema.GroupResource, ok bool) {
	if counted, found := strings.CutPrefix(string(name), countPrefix); found {
		gr = schema.ParseGroupResource(counted)
		return gr, gr.Resource != ""
	}
	for gr, classic := range classics {
		if classic == name {
			return gr, true
		}
	}
	for gr, k := range kinds {
		if k.covers(name) {
			return gr, true
		}
	}
	return gr, false
}

// Resource is what the meter measures.
func (m Meter) Resource() schema.GroupResource { return m.resource }

// Covers says whether objects of the resource use up a name of a quota.
func (m Meter) Covers(name corev1.ResourceName) bool {
	return name == m.count || name == m.classic && name != "" || m.kind != nil && m.kind.covers(name)
}

// Names are those names of a list that objects of the resource use up, sorted.
func (m Meter) Names(list corev1.ResourceList) []corev1.ResourceName {
	var names []corev1.ResourceName
	for name := range list {
		if m.Covers(name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// Usage is what an object uses of every name it could. Pods that are over use nothing but their number. Of kinds that are only
// counted, o may be nil.
func (m Meter) Usage(o metav1.Object, now time.Time) corev1.ResourceList {
	list := corev1.ResourceList{m.count: one()}
	if m.classic != "" {
		list[m.classic] = one()
	}
	if m.kind != nil {
		m.kind.usage(o, now, list)
	}
	return list
}

// Changes says whether an update of an object may change what it uses or which scopes it is in.
func (m Meter) Changes(subresource string, o, old metav1.Object) bool {
	return m.kind != nil && m.kind.changes(subresource, o, old)
}

// Missing says which of the names an object must say something about and does not, as users know it; empty when nothing is missing.
func (m Meter) Missing(names []corev1.ResourceName, o metav1.Object) string {
	if m.kind == nil || m.kind.missing == nil {
		return ""
	}
	return m.kind.missing(names, o)
}

// whole says yes to updates of whole objects.
func whole(subresource string, _, _ metav1.Object) bool { return subresource == "" }

func one() resource.Quantity { return number(1) }

func number(n int) resource.Quantity { return *resource.NewQuantity(int64(n), resource.DecimalSI) }
