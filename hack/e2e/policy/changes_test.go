package policy

import (
	"fmt"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// changes are of policies, namespaces and pods while policies are at work.
func changes(t *testing.T, w *world) {
	w.apply(t, in{"x", `{podSelector: {matchLabels: {pod: a}}, ingress: [{from: [{namespaceSelector: {matchLabels: {ns: w}}}]}]}`})
	guarded := pod{"x", "a"}
	w.becomes(t, "at first", false, func(from, to pod, _ door) bool { return to != guarded || from.ns == "w" })

	w.label(t, "z", "", "ns", "w")
	w.becomes(t, "another namespace has the label", false, func(from, to pod, _ door) bool { return to != guarded || from.ns != "x" })
	w.label(t, "z", "", "ns", "z")
	w.becomes(t, "it has it no more", false, func(from, to pod, _ door) bool { return to != guarded || from.ns == "w" })

	w.edit(t, in{"x", `{podSelector: {}, ingress: [{from: [{podSelector: {matchLabels: {pod: b}}}], ports: [{port: 80}]}]}`})
	w.becomes(t, "the policy says something else", false, func(from, to pod, at door) bool { return to.ns != "x" || from == pod{"x", "b"} && at == web })

	w.label(t, "x", "c", "pod", "b")
	w.becomes(t, "another pod has the label", false, func(from, to pod, at door) bool {
		return to.ns != "x" || (from == pod{"x", "b"} || from == pod{"x", "c"}) && at == web
	})
	w.label(t, "x", "c", "pod", "c")

	w.edit(t, in{"x", `{podSelector: {matchLabels: {pod: a}}, policyTypes: [Ingress, Egress], ingress: [{from: [{namespaceSelector: {}, podSelector: {matchLabels: {pod: b}}}]}]}`})
	w.label(t, "x", "a", "pod", "free")
	w.becomes(t, "the pod is not selected any more", false, everything)
	w.label(t, "x", "a", "pod", "a")
	isolated := func(from, to pod, _ door) bool { return (to != guarded || from.name == "b") && from != guarded }
	w.becomes(t, "it is again", false, isolated)

	for _, p := range []pod{guarded, {"w", "b"}} {
		w.replace(t, p)
		w.becomes(t, fmt.Sprintf("%s is another pod of that name", p), false, isolated)
	}
}

// label sets a label of a namespace or of a pod in it.
func (w *world) label(t *testing.T, ns, name, key, value string) {
	t.Helper()
	patch := fmt.Appendf(nil, `{"metadata":{"labels":{%q:%q}}}`, key, value)
	var err error
	if name == "" {
		_, err = w.kube.CoreV1().Namespaces().Patch(t.Context(), w.prefix+ns, types.MergePatchType, patch, metav1.PatchOptions{})
	} else {
		_, err = w.kube.CoreV1().Pods(w.prefix+ns).Patch(t.Context(), name, types.MergePatchType, patch, metav1.PatchOptions{})
	}
	check(t, err, "labelling "+ns+"/"+name)
}

// edit gives the first policy of a namespace another spec.
func (w *world) edit(t *testing.T, p in) {
	t.Helper()
	policies := w.kube.NetworkingV1().NetworkPolicies(w.prefix + p.ns)
	got, err := policies.Get(t.Context(), "policy-1", metav1.GetOptions{})
	check(t, err, "getting the policy")
	got.Spec = w.spec(t, p)
	_, err = policies.Update(t.Context(), got, metav1.UpdateOptions{})
	check(t, err, "updating the policy")
}

// replace deletes a pod and makes another one like it.
func (w *world) replace(t *testing.T, p pod) {
	t.Helper()
	w.pods[p].asker.close()
	pods := w.kube.CoreV1().Pods(w.prefix + p.ns)
	check(t, pods.Delete(t.Context(), p.name, metav1.DeleteOptions{}), "deleting pod "+p.String())
	within(t, starting, "pod "+p.String()+" is gone", func() error {
		if _, err := pods.Get(t.Context(), p.name, metav1.GetOptions{}); err == nil {
			return fmt.Errorf("it is there")
		}
		return nil
	})
	w.start(t, p)
	w.await(t, p)
}
