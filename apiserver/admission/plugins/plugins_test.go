package plugins

import (
	"context"
	"errors"
	"strings"
	"testing"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/utils/ptr"

	"pilothouse.dev/apiserver/admission"
	"pilothouse.dev/apiserver/registry"
	"pilothouse.dev/pkg/pod"
)

var (
	podKind       = define[*corev1.Pod]("", "Pod", "pods", true)
	nodeKind      = define[*corev1.Node]("", "Node", "nodes", false)
	namespaceKind = define[*corev1.Namespace]("", "Namespace", "namespaces", false)
	serviceKind   = define[*corev1.Service]("", "Service", "services", true)
	leaseKind     = define[*coordinationv1.Lease]("coordination.k8s.io", "Lease", "leases", true)
)

func define[T registry.Object](group, kind, plural string, namespaced bool) *registry.Resource {
	return registry.Define(registry.Kind[T]{Group: group, Version: "v1", Kind: kind, Plural: plural, Namespaced: namespaced})
}

// cluster is what the plugins see of one: strict, nothing exists but what is in it.
type cluster struct {
	namespaces map[string]*corev1.Namespace
	accounts   map[string]*corev1.ServiceAccount
}

func (c cluster) Namespace(_ context.Context, name string) (*corev1.Namespace, error) {
	if ns := c.namespaces[name]; ns != nil {
		return ns, nil
	}
	return nil, apierrors.NewNotFound(schema.GroupResource{Resource: "namespaces"}, name)
}

func (c cluster) ServiceAccount(_ context.Context, ns, name string) (*corev1.ServiceAccount, error) {
	if ns == "broken" {
		return nil, errors.New("etcd is away")
	}
	if sa := c.accounts[ns+"/"+name]; sa != nil {
		return sa, nil
	}
	return nil, apierrors.NewNotFound(schema.GroupResource{Resource: "serviceaccounts"}, name)
}

func attributes(op admission.Operation, r *registry.Resource, obj, old registry.Object) *admission.Attributes {
	a := &admission.Attributes{Operation: op, Resource: r, Object: obj, Old: old}
	for _, o := range []registry.Object{old, obj} {
		if o != nil {
			a.Namespace, a.Name = o.GetNamespace(), o.GetName()
		}
	}
	return a
}

func aPod(change func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "p"}}
	if change != nil {
		change(p)
	}
	return p
}

// refused checks an error's reason and words; an empty reason means none.
func refused(t *testing.T, err error, reason metav1.StatusReason, words string) {
	t.Helper()
	if reason == "" {
		if err != nil {
			t.Fatalf("refused: %v", err)
		}
		return
	}
	if got := apierrors.ReasonForError(err); got != reason {
		t.Fatalf("reason %q (%v), want %q", got, err, reason)
	}
	if !strings.Contains(err.Error(), words) {
		t.Fatalf("refused with %q, want %q in it", err, words)
	}
}

func TestNamespaceLifecycle(t *testing.T) {
	c := cluster{namespaces: map[string]*corev1.Namespace{
		"a":    {},
		"gone": {Status: corev1.NamespaceStatus{Phase: corev1.NamespaceTerminating}},
	}}
	in := func(ns string) *corev1.Pod {
		return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "p"}}
	}
	ns := func(name string) *corev1.Namespace {
		return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
	}
	for _, c2 := range []struct {
		name   string
		a      *admission.Attributes
		reason metav1.StatusReason
		words  string
	}{
		{"create where there is a namespace", attributes(admission.Create, podKind, in("a"), nil), "", ""},
		{"create where there is none", attributes(admission.Create, podKind, in("no"), nil), metav1.StatusReasonNotFound, `namespaces "no" not found`},
		{"create in a terminating one", attributes(admission.Create, podKind, in("gone"), nil), metav1.StatusReasonForbidden,
			`pods "p" is forbidden: unable to create new content in namespace gone because it is being terminated`},
		{"update in a terminating one", attributes(admission.Update, podKind, in("gone"), in("gone")), "", ""},
		{"create what has no namespace", attributes(admission.Create, nodeKind, &corev1.Node{}, nil), "", ""},
		{"delete a namespace", attributes(admission.Delete, namespaceKind, nil, ns("a")), "", ""},
		{"delete default", attributes(admission.Delete, namespaceKind, nil, ns("default")), metav1.StatusReasonForbidden,
			`namespaces "default" is forbidden: this namespace may not be deleted`},
		{"delete kube-system", attributes(admission.Delete, namespaceKind, nil, ns("kube-system")), metav1.StatusReasonForbidden, "may not be deleted"},
	} {
		t.Run(c2.name, func(t *testing.T) {
			refused(t, (&namespaceLifecycle{c}).Mutate(t.Context(), c2.a), c2.reason, c2.words)
		})
	}
	err := (&namespaceLifecycle{c}).Mutate(t.Context(), attributes(admission.Create, podKind, in("gone"), nil))
	if !apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
		t.Errorf("no cause %s in %v", corev1.NamespaceTerminatingCause, err)
	}
}

func TestServiceAccount(t *testing.T) {
	c := cluster{accounts: map[string]*corev1.ServiceAccount{
		"a/default": {ImagePullSecrets: []corev1.LocalObjectReference{{Name: "pull"}}},
		"a/other":   {},
	}}
	for _, c2 := range []struct {
		name    string
		pod     *corev1.Pod
		account string
		reason  metav1.StatusReason
		words   string
	}{
		{"none named", aPod(nil), "default", "", ""},
		{"one named", aPod(func(p *corev1.Pod) { p.Spec.ServiceAccountName = "other" }), "other", "", ""},
		{"one that is not", aPod(func(p *corev1.Pod) { p.Spec.ServiceAccountName = "no" }), "", metav1.StatusReasonForbidden,
			`pods "p" is forbidden: error looking up service account a/no: serviceaccounts "no" not found`},
		{"no answer", aPod(func(p *corev1.Pod) { p.Namespace = "broken" }), "", metav1.StatusReasonInternalError, "etcd is away"},
		{"mirror", aPod(func(p *corev1.Pod) { p.Annotations = map[string]string{pod.AnnotationMirror: "x"} }), "", "", ""},
		{"mirror with one", aPod(func(p *corev1.Pod) {
			p.Annotations = map[string]string{pod.AnnotationMirror: "x"}
			p.Spec.ServiceAccountName = "default"
		}), "", metav1.StatusReasonForbidden, "a mirror pod may not reference service accounts"},
	} {
		t.Run(c2.name, func(t *testing.T) {
			err := (&serviceAccount{c}).Mutate(t.Context(), attributes(admission.Create, podKind, c2.pod, nil))
			refused(t, err, c2.reason, c2.words)
			if err == nil && (c2.pod.Spec.ServiceAccountName != c2.account || c2.pod.Spec.DeprecatedServiceAccount != c2.account) {
				t.Errorf("acts as %q and %q, want %q", c2.pod.Spec.ServiceAccountName, c2.pod.Spec.DeprecatedServiceAccount, c2.account)
			}
		})
	}
	p := aPod(nil)
	if err := (&serviceAccount{c}).Mutate(t.Context(), attributes(admission.Create, podKind, p, nil)); err != nil || len(p.Spec.ImagePullSecrets) != 1 {
		t.Errorf("pull secrets %v (%v), want the account's", p.Spec.ImagePullSecrets, err)
	}
}

func TestDefaultTolerations(t *testing.T) {
	own := corev1.Toleration{Key: corev1.TaintNodeNotReady, Operator: corev1.TolerationOpExists, TolerationSeconds: ptr.To[int64](5)}
	for _, c := range []struct {
		name string
		has  []corev1.Toleration
		want map[string]int64
	}{
		{"none", nil, map[string]int64{corev1.TaintNodeNotReady: 30, corev1.TaintNodeUnreachable: 40}},
		{"its own", []corev1.Toleration{own}, map[string]int64{corev1.TaintNodeNotReady: 5, corev1.TaintNodeUnreachable: 40}},
		{"everything", []corev1.Toleration{{Operator: corev1.TolerationOpExists}}, map[string]int64{"": -1}},
		{"another effect", []corev1.Toleration{{Key: corev1.TaintNodeNotReady, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoSchedule}},
			map[string]int64{corev1.TaintNodeNotReady: 30, corev1.TaintNodeUnreachable: 40}},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := aPod(func(p *corev1.Pod) { p.Spec.Tolerations = c.has })
			if err := (&tolerateForAWhile{30, 40}).Mutate(t.Context(), attributes(admission.Create, podKind, p, nil)); err != nil {
				t.Fatal(err)
			}
			got := map[string]int64{}
			for _, t := range p.Spec.Tolerations {
				if t.Effect == corev1.TaintEffectNoSchedule {
					continue
				}
				got[t.Key] = ptr.Deref(t.TolerationSeconds, -1)
			}
			if len(got) != len(c.want) {
				t.Fatalf("got %v, want %v", got, c.want)
			}
			for k, v := range c.want {
				if got[k] != v {
					t.Errorf("%q for %d s, want %d", k, got[k], v)
				}
			}
		})
	}
}

func TestNewNodesAreTainted(t *testing.T) {
	n := &corev1.Node{}
	for range 2 { // a node that has the taint already gets no second
		if err := (taintNewNodes{}).Mutate(t.Context(), attributes(admission.Create, nodeKind, n, nil)); err != nil {
			t.Fatal(err)
		}
	}
	if len(n.Spec.Taints) != 1 || n.Spec.Taints[0].ToString() != "node.kubernetes.io/not-ready:NoSchedule" {
		t.Errorf("taints %v", n.Spec.Taints)
	}
}

func TestPriority(t *testing.T) {
	for _, c := range []struct {
		name   string
		class  string
		given  *int32
		want   int32
		reason metav1.StatusReason
		words  string
	}{
		{"none", "", nil, 0, "", ""},
		{"critical", "system-cluster-critical", nil, 2000000000, "", ""},
		{"more critical", "system-node-critical", nil, 2000001000, "", ""},
		{"no such class", "high", nil, 0, metav1.StatusReasonForbidden, "no PriorityClass with name high was found"},
		{"a number of one's own", "", ptr.To[int32](7), 0, metav1.StatusReasonForbidden, "the integer value of priority (7) must not be provided in pod spec"},
		{"the right number", "system-node-critical", ptr.To[int32](2000001000), 2000001000, "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := aPod(func(p *corev1.Pod) { p.Spec.PriorityClassName, p.Spec.Priority = c.class, c.given })
			err := (&priority{classes{}}).Mutate(t.Context(), attributes(admission.Create, podKind, p, nil))
			refused(t, err, c.reason, c.words)
			if err == nil && (*p.Spec.Priority != c.want || *p.Spec.PreemptionPolicy != corev1.PreemptLowerPriority) {
				t.Errorf("priority %d, %s", *p.Spec.Priority, *p.Spec.PreemptionPolicy)
			}
		})
	}
	old := aPod(func(p *corev1.Pod) { p.Spec.Priority = ptr.To[int32](3) })
	p := aPod(nil)
	if err := (&priority{classes{}}).Mutate(t.Context(), attributes(admission.Update, podKind, p, old)); err != nil || ptr.Deref(p.Spec.Priority, 0) != 3 {
		t.Errorf("an update that names no priority has %v (%v)", p.Spec.Priority, err)
	}
}

func TestTableIsComplete(t *testing.T) {
	seen := map[string]bool{}
	for _, p := range table(Parts{}) {
		_, mutates := p.Plugin.(admission.Mutator)
		_, validates := p.Plugin.(admission.Validator)
		if !mutates && !validates || seen[p.Name()] {
			t.Errorf("%s does nothing, or stands twice", p.Name())
		}
		seen[p.Name()] = true
	}
}
