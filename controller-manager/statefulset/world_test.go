package statefulset

import (
	"fmt"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
)

var now = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

type change func(*appsv1.StatefulSet)

// web is a set of three pods, by the changes.
func web(changes ...change) *appsv1.StatefulSet {
	three, none, one := int32(3), int32(0), intstr.FromInt32(1)
	labels := map[string]string{"app": "web"}
	set := &appsv1.StatefulSet{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "web", UID: "web", Generation: 7},
		Spec: appsv1.StatefulSetSpec{
			Replicas: &three, ServiceName: "peers", Selector: &metav1.LabelSelector{MatchLabels: labels},
			PodManagementPolicy: appsv1.OrderedReadyPodManagement,
			UpdateStrategy: appsv1.StatefulSetUpdateStrategy{Type: appsv1.RollingUpdateStatefulSetStrategyType,
				RollingUpdate: &appsv1.RollingUpdateStatefulSetStrategy{Partition: &none, MaxUnavailable: &one}},
			PersistentVolumeClaimRetentionPolicy: &appsv1.StatefulSetPersistentVolumeClaimRetentionPolicy{
				WhenDeleted: appsv1.RetainPersistentVolumeClaimRetentionPolicyType, WhenScaled: appsv1.RetainPersistentVolumeClaimRetentionPolicyType},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "b"}}}},
		},
	}
	for _, c := range changes {
		c(set)
	}
	return set
}

func size(n int32) change            { return func(s *appsv1.StatefulSet) { s.Spec.Replicas = &n } }
func minReady(n int32) change        { return func(s *appsv1.StatefulSet) { s.Spec.MinReadySeconds = n } }
func parallel(s *appsv1.StatefulSet) { s.Spec.PodManagementPolicy = appsv1.ParallelPodManagement }
func parted(n int32) change {
	return func(s *appsv1.StatefulSet) { s.Spec.UpdateStrategy.RollingUpdate.Partition = &n }
}
func from(n int32) change {
	return func(s *appsv1.StatefulSet) { s.Spec.Ordinals = &appsv1.StatefulSetOrdinals{Start: n} }
}
func goneScaled(s *appsv1.StatefulSet) {
	s.Spec.PersistentVolumeClaimRetentionPolicy.WhenScaled = "Delete"
}
func goneDeleted(s *appsv1.StatefulSet) {
	s.Spec.PersistentVolumeClaimRetentionPolicy.WhenDeleted = "Delete"
}
func noPolicy(s *appsv1.StatefulSet)     { s.Spec.PersistentVolumeClaimRetentionPolicy = nil }
func plainRolling(s *appsv1.StatefulSet) { s.Spec.UpdateStrategy.RollingUpdate = nil }

func onDelete(s *appsv1.StatefulSet) {
	s.Spec.UpdateStrategy = appsv1.StatefulSetUpdateStrategy{Type: appsv1.OnDeleteStatefulSetStrategyType}
}

func atMost(v string) change {
	return func(s *appsv1.StatefulSet) {
		n := intstr.Parse(v)
		s.Spec.UpdateStrategy.RollingUpdate.MaxUnavailable = &n
	}
}

func claiming(names ...string) change {
	return func(s *appsv1.StatefulSet) {
		for _, n := range names {
			s.Spec.VolumeClaimTemplates = append(s.Spec.VolumeClaimTemplates, corev1.PersistentVolumeClaim{
				ObjectMeta: metav1.ObjectMeta{Name: n, Labels: map[string]string{"of": n}}})
		}
	}
}

// madePod reads NAME@REVISION:LIKE,…; one that says nothing else is available, and has all it should.
func madePod(t *testing.T, set *appsv1.StatefulSet, text string) (p *corev1.Pod, deleted bool) {
	t.Helper()
	text, like, _ := strings.Cut(text, ":")
	name, rev, _ := strings.Cut(text, "@")
	n, ok := ordinalOf(set, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name}})
	if !ok {
		t.Fatalf("no name for a pod of the set: %q", name)
	}
	p = newPod(set, revision{rev, &set.Spec.Template}, n)
	p.UID = types.UID(name)
	p.Status.Phase = corev1.PodRunning
	since := now.Add(-time.Hour)
	state := corev1.ConditionTrue
	for l := range strings.SplitSeq(like, ",") {
		switch l {
		case "":
		case "unready":
			state = corev1.ConditionFalse
		case "young":
			since = now.Add(-4 * time.Second)
		case "pending":
			p.Status.Phase, state = corev1.PodPending, corev1.ConditionFalse
		case "failed":
			p.Status.Phase, state = corev1.PodFailed, corev1.ConditionFalse
		case "stopped": // and its conditions are behind
			p.Status.Phase = corev1.PodFailed
		case "succeeded":
			p.Status.Phase, state = corev1.PodSucceeded, corev1.ConditionFalse
		case "leaving":
			p.DeletionTimestamp = &metav1.Time{Time: now}
		case "deleted":
			deleted = true
		case "nameless":
			delete(p.Labels, appsv1.StatefulSetPodNameLabel)
		case "unindexed":
			delete(p.Labels, appsv1.PodIndexLabel)
		case "storeless":
			p.Spec.Volumes = nil
		default:
			t.Fatalf("no pod is like %q", l)
		}
	}
	p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: state, LastTransitionTime: metav1.NewTime(since)}}
	return p, deleted
}

// madeClaim reads NAME:LIKE,…, where LIKE is who it is owned by: the set (web), a pod of that UID (web-1), the former set or pod of a name
// (old-web, old-web-1), another controller (other) or another owner (friend); or that it is leaving.
func madeClaim(t *testing.T, text string) *corev1.PersistentVolumeClaim {
	t.Helper()
	name, like, _ := strings.Cut(text, ":")
	c := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name}}
	for l := range strings.SplitSeq(like, ",") {
		if l == "" {
			continue
		}
		if l == "leaving" {
			c.DeletionTimestamp = &metav1.Time{Time: now}
			continue
		}
		yes := l != "friend" && l != "loose"
		ref := metav1.OwnerReference{APIVersion: "v1", Kind: "Pod", Name: strings.TrimPrefix(l, "old-"), UID: types.UID(l), Controller: &yes}
		switch l {
		case "loose": // the set, but not as controller
			ref.Name, ref.UID = "web", "web"
			fallthrough
		case "web", "old-web":
			ref.APIVersion, ref.Kind = "apps/v1", "StatefulSet"
		case "other", "friend":
			ref.APIVersion, ref.Kind = "example.com/v1", "Keeper"
		}
		c.OwnerReferences = append(c.OwnerReferences, ref)
	}
	return c
}

// told writes a plan down.
func told(p plan) string {
	var out []string
	say := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	for _, h := range p.hindered {
		say("%s: %s", h.pod, h.why)
	}
	for _, c := range p.contested {
		say("contested %s", c)
	}
	for _, s := range p.steps {
		for _, w := range s.claims {
			var owners []string
			for _, ref := range w.want.OwnerReferences {
				owners = append(owners, string(ref.UID))
			}
			verb := "own"
			if w.have == nil {
				verb = "claim"
			}
			say("%s", strings.TrimSpace(fmt.Sprintf("%s %s %s", verb, w.want.Name, strings.Join(owners, "+"))))
		}
		switch s.do {
		case create:
			say("create %s@%s", s.pod.Name, revisionOf(s.pod))
		case update:
			say("update %s", s.pod.Name)
		case remove:
			say("remove %s", s.pod.Name)
		}
	}
	return strings.Join(out, "; ")
}
