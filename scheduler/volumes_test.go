package main

import (
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// TestVolumes schedules pods with claims; the test stands in for the volume controller and for provisioners.
func TestVolumes(t *testing.T) {
	b := start(t)
	for _, name := range []string{"n1", "n2"} {
		b.addNode(name, "64")
	}
	for name, provisioner := range map[string]string{"hands": "kubernetes.io/no-provisioner", "disk": "example.com/disk"} {
		mode := storagev1.VolumeBindingWaitForFirstConsumer
		_, err := b.Kube.StorageV1().StorageClasses().Create(t.Context(), &storagev1.StorageClass{
			ObjectMeta: metav1.ObjectMeta{Name: name}, Provisioner: provisioner, VolumeBindingMode: &mode}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
	}
	for name, test := range map[string]func(*bench){
		"a claim comes late":           lateClaim,
		"a volume of one node":         localVolume,
		"a volume is made":             provisioned,
		"a provisioner gives up":       provisionerGivesUp,
		"a pod goes while it waits":    podGoes,
		"many pods, a volume for each": manyPods,
	} {
		t.Run(name, func(t *testing.T) {
			part := *b
			part.T = t
			test(&part)
		})
	}
}

func with(claim string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Spec.Volumes = []corev1.Volume{{Name: "data", VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: claim}}}}
	}
}

func (b *bench) addClaim(name, class string) *corev1.PersistentVolumeClaim {
	b.Helper()
	c := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Name: name}}
	c.Spec.StorageClassName = &class
	c.Spec.AccessModes = []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}
	c.Spec.Resources.Requests = corev1.ResourceList{"storage": resource.MustParse("1Gi")}
	c, err := b.Kube.CoreV1().PersistentVolumeClaims("default").Create(b.Context(), c, metav1.CreateOptions{})
	if err != nil {
		b.Fatal(err)
	}
	return c
}

// addVolume makes a volume that can be reached from one node only.
func (b *bench) addVolume(name, class, node string, claim *corev1.PersistentVolumeClaim) {
	b.Helper()
	v := &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: name}}
	v.Spec.StorageClassName = class
	v.Spec.AccessModes = []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}
	v.Spec.Capacity = corev1.ResourceList{"storage": resource.MustParse("1Gi")}
	v.Spec.Local = &corev1.LocalVolumeSource{Path: "/tmp/" + name}
	v.Spec.NodeAffinity = &corev1.VolumeNodeAffinity{Required: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{
		MatchExpressions: []corev1.NodeSelectorRequirement{{Key: corev1.LabelHostname, Operator: corev1.NodeSelectorOpIn, Values: []string{node}}}}}}}
	if claim != nil {
		v.Spec.ClaimRef = &corev1.ObjectReference{Namespace: claim.Namespace, Name: claim.Name, UID: claim.UID}
	}
	v, err := b.Kube.CoreV1().PersistentVolumes().Create(b.Context(), v, metav1.CreateOptions{})
	if err != nil {
		b.Fatal(err)
	}
	v.Status.Phase = corev1.VolumeAvailable
	if _, err := b.Kube.CoreV1().PersistentVolumes().UpdateStatus(b.Context(), v, metav1.UpdateOptions{}); err != nil {
		b.Fatal(err)
	}
}

// complete binds a claim to its volume, as the volume controller does in the end.
func (b *bench) complete(claim, volume string) {
	b.Helper()
	patch := fmt.Sprintf(`{"metadata":{"annotations":{"pv.kubernetes.io/bind-completed":"yes"}},"spec":{"volumeName":%q}}`, volume)
	b.patchClaim(claim, patch)
	if _, err := b.Kube.CoreV1().PersistentVolumeClaims("default").Patch(b.Context(), claim, types.MergePatchType, []byte(`{"status":{"phase":"Bound"}}`), metav1.PatchOptions{}, "status"); err != nil {
		b.Fatal(err)
	}
}

func (b *bench) patchClaim(name, patch string) {
	b.Helper()
	if _, err := b.Kube.CoreV1().PersistentVolumeClaims("default").Patch(b.Context(), name, types.MergePatchType, []byte(patch), metav1.PatchOptions{}); err != nil {
		b.Fatal(err)
	}
}

// nodeFor waits until the scheduler has chosen a node for a claim.
func (b *bench) nodeFor(claim string) (node string) {
	b.Helper()
	b.eventually(func() (string, bool) {
		c, err := b.Kube.CoreV1().PersistentVolumeClaims("default").Get(b.Context(), claim, metav1.GetOptions{})
		if err != nil {
			return err.Error(), false
		}
		node = c.Annotations["volume.kubernetes.io/selected-node"]
		return fmt.Sprint(c.Annotations), node != ""
	})
	return node
}

func (b *bench) unplaced(pod string) {
	b.Helper()
	p, err := b.Kube.CoreV1().Pods("default").Get(b.Context(), pod, metav1.GetOptions{})
	if err != nil || p.Spec.NodeName != "" {
		b.Errorf("%s is on %q before its volume is there: %v", pod, p.Spec.NodeName, err)
	}
}

func lateClaim(b *bench) {
	b.addPod("late", "1", with("late"))
	b.waitRefused("late", `0/2 nodes are available: persistentvolumeclaim "late" not found.`)
	c := b.addClaim("late", "now")
	b.waitRefused("late", "0/2 nodes are available: pod has unbound immediate PersistentVolumeClaims.")
	b.addVolume("late", "now", "n2", c)
	b.complete("late", "late")
	if got := b.waitNode("late"); got != "n2" {
		b.Errorf("on %s", got)
	}
}

func localVolume(b *bench) {
	c := b.addClaim("local", "hands")
	b.addPod("local", "1", with("local"))
	b.waitRefused("local", "0/2 nodes are available: 2 node(s) didn't find available persistent volumes to bind.")
	b.addVolume("local", "hands", "n1", nil)
	b.eventually(func() (string, bool) {
		v, err := b.Kube.CoreV1().PersistentVolumes().Get(b.Context(), "local", metav1.GetOptions{})
		if err != nil {
			return err.Error(), false
		}
		ref := v.Spec.ClaimRef
		return fmt.Sprintf("%+v %v", ref, v.Annotations), ref != nil && ref.UID == c.UID && v.Annotations["pv.kubernetes.io/bound-by-controller"] == "yes"
	})
	b.unplaced("local")
	b.complete("local", "local")
	if got := b.waitNode("local"); got != "n1" {
		b.Errorf("on %s", got)
	}
}

func provisioned(b *bench) {
	c := b.addClaim("made", "disk")
	b.addPod("made", "1", with("made"), func(p *corev1.Pod) { p.Spec.NodeSelector = map[string]string{corev1.LabelHostname: "n2"} })
	if got := b.nodeFor("made"); got != "n2" {
		b.Errorf("a volume is wanted for %s", got)
	}
	b.unplaced("made")
	b.addVolume("made", "disk", "n2", c)
	b.complete("made", "made")
	if got := b.waitNode("made"); got != "n2" {
		b.Errorf("on %s", got)
	}
}

func provisionerGivesUp(b *bench) {
	c := b.addClaim("moved", "disk")
	b.addPod("moved", "1", with("moved"))
	first := b.nodeFor("moved")
	// As provisioners do that cannot make it there: and somebody sees to it that the next choice is another.
	b.patchNode(first, `{"spec":{"unschedulable":true}}`)
	b.patchClaim("moved", `{"metadata":{"annotations":{"volume.kubernetes.io/selected-node":null}}}`)
	var second string
	b.eventually(func() (string, bool) {
		second = b.nodeFor("moved")
		return second, second != first
	})
	b.patchNode(first, `{"spec":{"unschedulable":false}}`)
	b.addVolume("moved", "disk", second, c)
	b.complete("moved", "moved")
	if got := b.waitNode("moved"); got != second {
		b.Errorf("on %s", got)
	}
}

func podGoes(b *bench) {
	c := b.addClaim("orphan", "disk")
	b.addPod("short", "1", with("orphan"))
	node := b.nodeFor("orphan")
	if err := b.Kube.CoreV1().Pods("default").Delete(b.Context(), "short", metav1.DeleteOptions{GracePeriodSeconds: new(int64)}); err != nil {
		b.Fatal(err)
	}
	b.addPod("heir", "1", with("orphan"))
	b.addVolume("orphan", "disk", node, c)
	b.complete("orphan", "orphan")
	if got := b.waitNode("heir"); got != node {
		b.Errorf("on %s", got)
	}
}

// manyPods is ten pods with ten claims and ten volumes, five on each node, all at once: each claim gets one, and its pod goes there.
func manyPods(b *bench) {
	const pods = 10
	name := func(i int) string { return fmt.Sprintf("many-%d", i) }
	for i := range pods {
		b.addVolume(name(i), "hands", []string{"n1", "n2"}[i%2], nil)
	}
	for i := range pods {
		b.addClaim(name(i), "hands")
		b.addPod(name(i), "1", with(name(i)))
	}
	done := map[string]string{} // claim → volume
	b.eventually(func() (string, bool) {
		list, err := b.Kube.CoreV1().PersistentVolumes().List(b.Context(), metav1.ListOptions{})
		if err != nil {
			return err.Error(), false
		}
		for _, v := range list.Items {
			if !strings.HasPrefix(v.Name, "many-") || v.Spec.ClaimRef == nil {
				continue
			}
			switch had := done[v.Spec.ClaimRef.Name]; had {
			case "":
				done[v.Spec.ClaimRef.Name] = v.Name
				b.complete(v.Spec.ClaimRef.Name, v.Name)
			case v.Name:
			default:
				b.Fatalf("claim %s was given %s and %s", v.Spec.ClaimRef.Name, had, v.Name)
			}
		}
		return fmt.Sprint(done), len(done) == pods
	})
	for claim, volume := range done {
		v, err := b.Kube.CoreV1().PersistentVolumes().Get(b.Context(), volume, metav1.GetOptions{})
		if err != nil {
			b.Fatal(err)
		}
		want := v.Spec.NodeAffinity.Required.NodeSelectorTerms[0].MatchExpressions[0].Values[0]
		if got := b.waitNode(claim); got != want {
			b.Errorf("pod %s is on %s, its volume %s on %s", claim, got, volume, want)
		}
	}
}
