package policy

import (
	"fmt"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// established opens a connection and denies all new ones.
func established(t *testing.T, w *world) {
	from, to := pod{"w", "b"}, pod{"x", "a"}
	kept := []string{"kept=keep://" + w.pods[to].ip + ":80", "new=tcp://" + w.pods[to].ip + ":80"}
	if w.pods[from].ip == w.pods[to].ip {
		t.Fatal("two pods have one address")
	}
	got, err := w.pods[from].asker.reaches(kept)
	check(t, err, "opening a connection")
	if !got["kept"] || !got["new"] {
		t.Fatalf("before any policy: %v", got)
	}
	w.apply(t, in{"x", `{podSelector: {}, policyTypes: [Ingress, Egress]}`}, in{"w", `{podSelector: {}, policyTypes: [Ingress, Egress]}`})
	w.becomes(t, "both ends isolated", false, func(from, to pod, _ door) bool { return from.ns == "z" && to.ns == "z" })
	got, err = w.pods[from].asker.reaches(kept)
	check(t, err, "using the connection")
	if !got["kept"] || got["new"] {
		t.Errorf("a connection that was open before is usable: %v, want true; a new one: %v, want false", got["kept"], got["new"])
	}
}

// fromNodes lets the nodes themselves call: the one that a pod is on always reaches it, others do as far as their addresses may.
func fromNodes(t *testing.T, w *world) {
	var askers []*asker
	var addresses []string
	for i, node := range w.nodes {
		name := fmt.Sprintf("on-node-%d", i)
		_, err := w.kube.CoreV1().Pods(w.prefix+"z").Create(t.Context(), &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"pod": "host"}},
			Spec: corev1.PodSpec{HostNetwork: true, TerminationGracePeriodSeconds: new(int64), NodeSelector: map[string]string{corev1.LabelHostname: node},
				Containers: []corev1.Container{{Name: "c", Image: "testapp", Args: []string{"pause"}}}},
		}, metav1.CreateOptions{})
		check(t, err, "creating pod "+name)
		within(t, starting, "pod "+name+" is ready", func() error {
			got, err := w.kube.CoreV1().Pods(w.prefix+"z").Get(t.Context(), name, metav1.GetOptions{})
			if err != nil || !ready(got) {
				return fmt.Errorf("it is not: %w", err)
			}
			if len(addresses) == i {
				addresses = append(addresses, got.Status.HostIP)
			}
			return nil
		})
		a, err := ask(t.Context(), suite, w.prefix+"z", name)
		check(t, err, "beginning to ask "+name)
		t.Cleanup(a.close)
		askers = append(askers, a)
	}
	reach := func(when string, allowed func(node int, to pod, at door) bool) {
		t.Helper()
		for began := time.Now(); ; {
			var wrong []string
			for i, a := range askers {
				got, err := a.reaches(w.question(false))
				check(t, err, "asking "+w.nodes[i])
				for to := range all() {
					for _, at := range doors {
						if should := w.nodeOf(to) == i || allowed(i, to, at); got[cell(to, at)] != should {
							wrong = append(wrong, fmt.Sprintf("%s to %s: reached is %v", w.nodes[i], cell(to, at), !should))
						}
					}
				}
			}
			if len(wrong) == 0 {
				t.Logf("%s: as it should be after %v", when, time.Since(began).Round(time.Millisecond))
				return
			}
			if time.Since(began) > patience {
				t.Fatalf("%s: after %v: %q", when, patience, wrong)
			}
		}
	}
	reach("before any policy", func(int, pod, door) bool { return true })
	// A node is no pod: whatever is on it has the node's address, and no selector selects that.
	w.apply(t, in{"x", `{podSelector: {}, ingress: [{from: [{namespaceSelector: {}}]}]}`},
		in{"w", fmt.Sprintf(`{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: "%s"}}], ports: [{port: 80}]}]}`, block(addresses[0]))})
	reach("pods of all namespaces, or one node", func(node int, to pod, at door) bool { return to.ns == "z" || to.ns == "w" && node == 0 && at == web })
	if slices.Contains(addresses, w.pods[pod{"x", "a"}].ip) {
		t.Error("a pod has a node's address")
	}
}
