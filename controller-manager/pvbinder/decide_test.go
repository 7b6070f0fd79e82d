package pvbinder

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

const (
	completed = "pv.kubernetes.io/bind-completed"
	byUs      = "pv.kubernetes.io/bound-by-controller"
	madeBy    = "pv.kubernetes.io/provisioned-by"
	selected  = "volume.kubernetes.io/selected-node"
)

type claimChange func(*corev1.PersistentVolumeClaim)

func claim(size string, change ...claimChange) *corev1.PersistentVolumeClaim {
	c := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "c", UID: "c1", Annotations: map[string]string{}}}
	c.Spec.AccessModes = []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}
	c.Spec.Resources.Requests = corev1.ResourceList{"storage": resource.MustParse(size)}
	none := ""
	c.Spec.StorageClassName = &none
	for _, f := range change {
		f(c)
	}
	return c
}

func ofClass(name string) claimChange {
	return func(c *corev1.PersistentVolumeClaim) { c.Spec.StorageClassName = &name }
}
func classless(c *corev1.PersistentVolumeClaim) { c.Spec.StorageClassName = nil }
func named(v string) claimChange {
	return func(c *corev1.PersistentVolumeClaim) { c.Spec.VolumeName = v }
}
func noted(key string) claimChange {
	return func(c *corev1.PersistentVolumeClaim) { c.Annotations[key] = "yes" }
}
func modes(m ...corev1.PersistentVolumeAccessMode) claimChange {
	return func(c *corev1.PersistentVolumeClaim) { c.Spec.AccessModes = m }
}
func block(c *corev1.PersistentVolumeClaim) {
	m := corev1.PersistentVolumeBlock
	c.Spec.VolumeMode = &m
}
func selecting(k, v string) claimChange {
	return func(c *corev1.PersistentVolumeClaim) {
		c.Spec.Selector = &metav1.LabelSelector{MatchLabels: map[string]string{k: v}}
	}
}
func going(c *corev1.PersistentVolumeClaim) {
	c.DeletionTimestamp = &metav1.Time{Time: time.Unix(1, 0)}
}
func attributes(name string) claimChange {
	return func(c *corev1.PersistentVolumeClaim) { c.Spec.VolumeAttributesClassName = &name }
}

type volumeChange func(*corev1.PersistentVolume)

func volume(name, size string, change ...volumeChange) *corev1.PersistentVolume {
	v := &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: map[string]string{}}}
	v.Spec.AccessModes = []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}
	v.Spec.Capacity = corev1.ResourceList{"storage": resource.MustParse(size)}
	v.Status.Phase = corev1.VolumeAvailable
	for _, f := range change {
		f(v)
	}
	return v
}

func inClass(name string) volumeChange {
	return func(v *corev1.PersistentVolume) { v.Spec.StorageClassName = name }
}
func of(name string, uid types.UID) volumeChange {
	return func(v *corev1.PersistentVolume) {
		v.Spec.ClaimRef = &corev1.ObjectReference{Namespace: "ns", Name: name, UID: uid}
	}
}
func phase(p corev1.PersistentVolumePhase) volumeChange {
	return func(v *corev1.PersistentVolume) { v.Status.Phase = p }
}
func offers(m ...corev1.PersistentVolumeAccessMode) volumeChange {
	return func(v *corev1.PersistentVolume) { v.Spec.AccessModes = m }
}
func labelled(k, val string) volumeChange {
	return func(v *corev1.PersistentVolume) { v.Labels = map[string]string{k: val} }
}
func reclaimed(p corev1.PersistentVolumeReclaimPolicy) volumeChange {
	return func(v *corev1.PersistentVolume) { v.Spec.PersistentVolumeReclaimPolicy = p }
}
func annotated(key, val string) volumeChange {
	return func(v *corev1.PersistentVolume) { v.Annotations[key] = val }
}
func raw(v *corev1.PersistentVolume) {
	m := corev1.PersistentVolumeBlock
	v.Spec.VolumeMode = &m
}
func leaving(v *corev1.PersistentVolume) { v.DeletionTimestamp = &metav1.Time{Time: time.Unix(1, 0)} }
func tuned(name string) volumeChange {
	return func(v *corev1.PersistentVolume) { v.Spec.VolumeAttributesClassName = &name }
}

func class(name, provisioner string, mode storagev1.VolumeBindingMode) *storagev1.StorageClass {
	return &storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: name}, Provisioner: provisioner, VolumeBindingMode: &mode}
}

var (
	fast  = class("fast", "example.com/disk", storagev1.VolumeBindingImmediate)
	later = class("later", "example.com/disk", storagev1.VolumeBindingWaitForFirstConsumer)
	hands = class("hands", "kubernetes.io/no-provisioner", storagev1.VolumeBindingImmediate)
)

type volumes = []*corev1.PersistentVolume

func TestDecideClaim(t *testing.T) {
	const rwx, rox = corev1.ReadWriteMany, corev1.ReadOnlyMany
	for _, tc := range []struct {
		name  string
		f     claimFacts
		bind  string
		phase corev1.PersistentVolumeClaimPhase
		event string // reason, and the beginning of the message
		ask   string // provisioner
		class string
	}{
		// Matching.
		{name: "the only one", f: claimFacts{claim: claim("1Gi"), candidates: volumes{volume("a", "1Gi")}}, bind: "a"},
		{name: "the smallest that fits", f: claimFacts{claim: claim("2Gi"), candidates: volumes{volume("a", "9Gi"), volume("b", "3Gi"), volume("c", "1Gi"), volume("d", "4Gi")}}, bind: "b"},
		{name: "among equals the first by name", f: claimFacts{claim: claim("1Gi"), candidates: volumes{volume("b", "1Gi"), volume("a", "1Gi")}}, bind: "a"},
		{name: "too small", f: claimFacts{claim: claim("2Gi"), candidates: volumes{volume("a", "1Gi")}}, phase: "Pending", event: "FailedBinding no persistent volumes available for this claim and no storage class is set"},
		{name: "not yet available", f: claimFacts{claim: claim("1Gi"), candidates: volumes{volume("a", "1Gi", phase("Pending"))}}, phase: "Pending", event: "FailedBinding no persistent"},
		{name: "released", f: claimFacts{claim: claim("1Gi"), candidates: volumes{volume("a", "1Gi", phase("Released"), of("c", "older"))}}, phase: "Pending", event: "FailedBinding no persistent"},
		{name: "being deleted", f: claimFacts{claim: claim("1Gi"), candidates: volumes{volume("a", "1Gi", leaving)}}, phase: "Pending", event: "FailedBinding no persistent"},
		{name: "another's", f: claimFacts{claim: claim("1Gi"), candidates: volumes{volume("a", "1Gi", of("d", "d1"), phase("Bound"))}}, phase: "Pending", event: "FailedBinding no persistent"},
		{name: "of another class", f: claimFacts{claim: claim("1Gi", ofClass("fast")), class: fast, candidates: volumes{volume("a", "1Gi", inClass("slow"))}}, phase: "Pending", event: "ExternalProvisioning Waiting", ask: "example.com/disk"},
		{name: "of its class", f: claimFacts{claim: claim("1Gi", ofClass("fast")), class: fast, candidates: volumes{volume("a", "1Gi", inClass("fast"))}}, bind: "a"},
		{name: "of a class that does not exist", f: claimFacts{claim: claim("1Gi", ofClass("gone")), candidates: volumes{volume("a", "1Gi", inClass("gone"))}}, bind: "a"},
		{name: "without the access mode", f: claimFacts{claim: claim("1Gi", modes(rwx)), candidates: volumes{volume("a", "1Gi")}}, phase: "Pending", event: "FailedBinding no persistent"},
		{name: "with the access mode among others", f: claimFacts{claim: claim("1Gi", modes(rwx)), candidates: volumes{volume("a", "1Gi", offers("ReadWriteOnce", rwx))}}, bind: "a"},
		{name: "fewer access modes before size", f: claimFacts{claim: claim("1Gi"), candidates: volumes{volume("a", "1Gi", offers("ReadWriteOnce", rwx, rox)), volume("b", "5Gi")}}, bind: "b"},
		{name: "more access modes when nothing else fits", f: claimFacts{claim: claim("6Gi"), candidates: volumes{volume("a", "9Gi", offers("ReadWriteOnce", rwx, rox)), volume("b", "5Gi")}}, bind: "a"},
		{name: "the selector decides", f: claimFacts{claim: claim("1Gi", selecting("disk", "ssd")), candidates: volumes{volume("a", "1Gi"), volume("b", "2Gi", labelled("disk", "ssd"))}}, bind: "b"},
		{name: "the selector fits none", f: claimFacts{claim: claim("1Gi", selecting("disk", "ssd")), candidates: volumes{volume("a", "1Gi", labelled("disk", "hdd"))}}, phase: "Pending", event: "FailedBinding no persistent"},
		{name: "a block device for a file system", f: claimFacts{claim: claim("1Gi"), candidates: volumes{volume("a", "1Gi", raw)}}, phase: "Pending", event: "FailedBinding no persistent"},
		{name: "a block device", f: claimFacts{claim: claim("1Gi", block), candidates: volumes{volume("a", "1Gi"), volume("b", "2Gi", raw)}}, bind: "b"},
		{name: "of another attributes class", f: claimFacts{claim: claim("1Gi", attributes("gold")), candidates: volumes{volume("a", "1Gi"), volume("b", "2Gi", tuned("gold"))}}, bind: "b"},
		{name: "an attributes class that nobody asked for", f: claimFacts{claim: claim("1Gi"), candidates: volumes{volume("a", "1Gi", tuned("gold"))}}, phase: "Pending", event: "FailedBinding no persistent"},

		// Volumes that name the claim.
		{name: "one that names the claim before a smaller one", f: claimFacts{claim: claim("1Gi"), candidates: volumes{volume("a", "1Gi"), volume("b", "5Gi", of("c", ""))}}, bind: "b"},
		{name: "one that names it, with access modes that nobody asked for", f: claimFacts{claim: claim("1Gi"), candidates: volumes{volume("a", "1Gi"), volume("b", "5Gi", of("c", ""), offers("ReadWriteOnce", rwx))}}, bind: "b"},
		{name: "one that names it with its UID", f: claimFacts{claim: claim("1Gi"), candidates: volumes{volume("b", "5Gi", of("c", "c1"), phase("Bound"))}}, bind: "b"},
		{name: "one that names a former claim of that name", f: claimFacts{claim: claim("1Gi"), candidates: volumes{volume("b", "5Gi", of("c", "c0"))}}, phase: "Pending", event: "FailedBinding no persistent"},
		{name: "one that names it and is too small", f: claimFacts{claim: claim("9Gi"), candidates: volumes{volume("b", "5Gi", of("c", ""))}}, phase: "Pending", event: "FailedBinding no persistent"},
		{name: "one that names it, of another class", f: claimFacts{claim: claim("1Gi", ofClass("fast")), class: fast, candidates: volumes{volume("b", "5Gi", of("c", ""), inClass("slow"))}}, bind: "b"},
		{name: "two name it: one volume only", f: claimFacts{claim: claim("1Gi"), candidates: volumes{volume("b", "5Gi", of("c", "")), volume("a", "6Gi", of("c", ""))}}, bind: "a"},

		// Waiting for the first consumer.
		{name: "waits, though one would do", f: claimFacts{claim: claim("1Gi", ofClass("later")), class: later, candidates: volumes{volume("a", "1Gi", inClass("later"))}}, phase: "Pending", event: "WaitForFirstConsumer waiting for first consumer to be created before binding"},
		{name: "waits for a pod", f: claimFacts{claim: claim("1Gi", ofClass("later")), class: later, consumers: []string{"p"}}, phase: "Pending", event: "WaitForPodScheduled waiting for pod p to be scheduled"},
		{name: "waits for pods", f: claimFacts{claim: claim("1Gi", ofClass("later")), class: later, consumers: []string{"p", "q"}}, phase: "Pending", event: "WaitForPodScheduled waiting for pods p,q to be scheduled"},
		{name: "the scheduler has chosen a volume", f: claimFacts{claim: claim("1Gi", ofClass("later")), class: later, candidates: volumes{volume("a", "1Gi", inClass("later"), of("c", "c1"))}}, bind: "a"},
		{name: "the scheduler has chosen a node", f: claimFacts{claim: claim("1Gi", ofClass("later"), noted(selected)), class: later}, phase: "Pending", event: "ExternalProvisioning Waiting for a volume to be created either by the external provisioner 'example.com/disk' or manually", ask: "example.com/disk"},

		// Provisioning.
		{name: "asks the provisioner", f: claimFacts{claim: claim("1Gi", ofClass("fast")), class: fast}, phase: "Pending", event: "ExternalProvisioning Waiting", ask: "example.com/disk"},
		{name: "its class is not there", f: claimFacts{claim: claim("1Gi", ofClass("gone"))}, phase: "Pending", event: `ProvisioningFailed storageclass.storage.k8s.io "gone" not found`},
		{name: "its class has no provisioner", f: claimFacts{claim: claim("1Gi", ofClass("hands")), class: hands}, phase: "Pending", event: "ProvisioningFailed no volume plugin matched name: kubernetes.io/no-provisioner"},
		{name: "gets the default class", f: claimFacts{claim: claim("1Gi", classless), fallback: fast}, class: "fast"},
		{name: "takes what is there before the default class", f: claimFacts{claim: claim("1Gi", classless), fallback: fast, candidates: volumes{volume("a", "1Gi")}}, bind: "a"},
		{name: "wants no class, not the default one", f: claimFacts{claim: claim("1Gi"), fallback: fast}, phase: "Pending", event: "FailedBinding no persistent"},
		{name: "there is no default class", f: claimFacts{claim: claim("1Gi", classless)}, phase: "Pending", event: "FailedBinding no persistent"},
		{name: "is going, and gets nothing", f: claimFacts{claim: claim("1Gi", ofClass("fast"), going), class: fast, candidates: volumes{volume("a", "1Gi", inClass("fast"))}}},

		// Claims that name their volume.
		{name: "names one that is not there", f: claimFacts{claim: claim("1Gi", named("a"))}, phase: "Pending"},
		{name: "names one that is free", f: claimFacts{claim: claim("1Gi", named("a")), volume: volume("a", "5Gi")}, bind: "a"},
		{name: "names one that is not available yet", f: claimFacts{claim: claim("1Gi", named("a")), volume: volume("a", "5Gi", phase("Pending"))}, bind: "a"},
		{name: "names one that is too small", f: claimFacts{claim: claim("9Gi", named("a")), volume: volume("a", "5Gi")}, phase: "Pending", event: `VolumeMismatch Cannot bind to requested volume "a": requested PV is too small`},
		{name: "names one of another class", f: claimFacts{claim: claim("1Gi", named("a"), ofClass("fast")), volume: volume("a", "5Gi")}, phase: "Pending", event: `VolumeMismatch Cannot bind to requested volume "a": storageClassName does not match`},
		{name: "names a block device", f: claimFacts{claim: claim("1Gi", named("a")), volume: volume("a", "5Gi", raw)}, phase: "Pending", event: `VolumeMismatch Cannot bind to requested volume "a": incompatible volumeMode`},
		{name: "names one without its access mode", f: claimFacts{claim: claim("1Gi", named("a"), modes(rwx)), volume: volume("a", "5Gi")}, phase: "Pending", event: `VolumeMismatch Cannot bind to requested volume "a": incompatible accessMode`},
		{name: "names one that is being deleted", f: claimFacts{claim: claim("1Gi", named("a")), volume: volume("a", "5Gi", leaving)}, phase: "Pending", event: `VolumeMismatch Cannot bind to requested volume "a": the volume is marked for deletion "a"`},
		{name: "names one that names it", f: claimFacts{claim: claim("1Gi", named("a")), volume: volume("a", "5Gi", of("c", ""))}, bind: "a"},
		{name: "names one that is its own: a binding broken off", f: claimFacts{claim: claim("1Gi", named("a")), volume: volume("a", "5Gi", of("c", "c1"))}, bind: "a"},
		{name: "names another's", f: claimFacts{claim: claim("1Gi", named("a")), volume: volume("a", "5Gi", of("d", "d1"))}, phase: "Pending", event: `FailedBinding volume "a" already bound to a different claim.`},

		// Claims that were bound.
		{name: "bound, and all is well", f: claimFacts{claim: claim("1Gi", named("a"), noted(completed)), volume: volume("a", "5Gi", of("c", "c1"), phase("Bound"))}, bind: "a"},
		{name: "bound, the volume forgot", f: claimFacts{claim: claim("1Gi", named("a"), noted(completed)), volume: volume("a", "5Gi")}, bind: "a"},
		{name: "bound, the volume names it without UID", f: claimFacts{claim: claim("1Gi", named("a"), noted(completed)), volume: volume("a", "5Gi", of("c", ""))}, bind: "a"},
		{name: "bound, and going", f: claimFacts{claim: claim("1Gi", named("a"), noted(completed), going), volume: volume("a", "5Gi", of("c", "c1"))}, bind: "a"},
		{name: "bound, the name is gone", f: claimFacts{claim: claim("1Gi", noted(completed))}, phase: "Lost", event: "ClaimLost Bound claim has lost reference to PersistentVolume. Data on the volume is lost!"},
		{name: "bound, the volume is gone", f: claimFacts{claim: claim("1Gi", named("a"), noted(completed))}, phase: "Lost", event: "ClaimLost Bound claim has lost its PersistentVolume. Data on the volume is lost!"},
		{name: "bound, the volume is another's", f: claimFacts{claim: claim("1Gi", named("a"), noted(completed)), volume: volume("a", "5Gi", of("d", "d1"))}, phase: "Lost", event: "ClaimMisbound Two claims are bound to the same volume, this one is bound incorrectly"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := decideClaim(tc.f)
			bind := ""
			if p.bind != nil {
				bind = p.bind.Name
			}
			if bind != tc.bind || p.phase != tc.phase || p.provisioner != tc.ask || p.class != tc.class {
				t.Errorf("bind %q, phase %q, provisioner %q, class %q", bind, p.phase, p.provisioner, p.class)
			}
			if got := strings.TrimSpace(p.event.reason + " " + p.event.message); !strings.HasPrefix(got, tc.event) || tc.event == "" && got != "" {
				t.Errorf("event %q", got)
			}
		})
	}
}

func TestDecideVolume(t *testing.T) {
	const (
		retain, del, recycle = corev1.PersistentVolumeReclaimRetain, corev1.PersistentVolumeReclaimDelete, corev1.PersistentVolumeReclaimRecycle
	)
	for _, tc := range []struct {
		name   string
		v      *corev1.PersistentVolume
		claim  *corev1.PersistentVolumeClaim
		phase  corev1.PersistentVolumePhase
		unbind bool
		event  string
	}{
		{name: "nobody's", v: volume("a", "1Gi", phase("Pending")), phase: "Available"},
		{name: "promised by name", v: volume("a", "1Gi", of("c", "")), phase: "Available"},
		{name: "its claim names nothing yet", v: volume("a", "1Gi", of("c", "c1")), claim: claim("1Gi")},
		{name: "its claim names nothing and wants a block device", v: volume("a", "1Gi", of("c", "c1")), claim: claim("1Gi", block), event: `VolumeMismatch Cannot bind PersistentVolume to requested PersistentVolumeClaim "ns/c" due to incompatible volumeMode`},
		{name: "its claim names it", v: volume("a", "1Gi", of("c", "c1")), claim: claim("1Gi", named("a")), phase: "Bound"},
		{name: "its claim has another: ours is taken back", v: volume("a", "1Gi", of("c", "c1"), annotated(byUs, "yes")), claim: claim("1Gi", named("b")), unbind: true},
		{name: "its claim has another: made for it and kept", v: volume("a", "1Gi", of("c", "c1"), annotated(madeBy, "x"), reclaimed(retain)), claim: claim("1Gi", named("b")), unbind: true},
		{name: "its claim has another: made for it and to be deleted", v: volume("a", "1Gi", of("c", "c1"), annotated(madeBy, "x"), reclaimed(del)), claim: claim("1Gi", named("b")), phase: "Released"},
		{name: "its claim is gone, kept", v: volume("a", "1Gi", of("c", "c1"), phase("Bound"), reclaimed(retain)), phase: "Released"},
		{name: "its claim is another by that name", v: volume("a", "1Gi", of("c", "c0"), phase("Bound"), reclaimed(retain)), claim: claim("1Gi", named("a")), phase: "Released"},
		{name: "released already", v: volume("a", "1Gi", of("c", "c1"), phase("Released"), reclaimed(retain)), phase: "Released"},
		{name: "to be deleted by who made it", v: volume("a", "1Gi", of("c", "c1"), phase("Bound"), reclaimed(del), annotated(madeBy, "example.com/disk")), phase: "Released"},
		{name: "to be deleted by who is no longer there", v: volume("a", "1Gi", of("c", "c1"), phase("Bound"), reclaimed(del), annotated(madeBy, "kubernetes.io/old")), phase: "Failed", event: "VolumeFailedDelete error getting deleter volume plugin"},
		{name: "moved to a driver", v: volume("a", "1Gi", of("c", "c1"), phase("Bound"), reclaimed(del), annotated(madeBy, "kubernetes.io/old"), annotated("pv.kubernetes.io/migrated-to", "d")), phase: "Released"},
		{name: "to be deleted, made by hand", v: volume("a", "1Gi", of("c", "c1"), phase("Bound"), reclaimed(del)), phase: "Failed", event: "VolumeFailedDelete error getting deleter volume plugin"},
		{name: "to be recycled", v: volume("a", "1Gi", of("c", "c1"), phase("Bound"), reclaimed(recycle)), phase: "Failed", event: "VolumeFailedRecycle No recycler plugin found for the volume!"},
		{name: "failed already", v: volume("a", "1Gi", of("c", "c1"), phase("Failed"), reclaimed(recycle))},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := decideVolume(tc.v, tc.claim)
			if p.phase != tc.phase || p.unbind != tc.unbind {
				t.Errorf("phase %q, unbind %v", p.phase, p.unbind)
			}
			if got := strings.TrimSpace(p.event.reason + " " + p.event.message); !strings.HasPrefix(got, tc.event) || tc.event == "" && got != "" {
				t.Errorf("event %q", got)
			}
		})
	}
}

func TestUnbind(t *testing.T) {
	ours, users := volume("a", "1Gi", of("c", "c1"), annotated(byUs, "yes")), volume("a", "1Gi", of("c", "c1"))
	unbind(ours)
	unbind(users)
	if ours.Spec.ClaimRef != nil || ours.Annotations[byUs] != "" {
		t.Errorf("ours: %+v", ours)
	}
	if r := users.Spec.ClaimRef; r == nil || r.Name != "c" || r.UID != "" {
		t.Errorf("the user's: %+v", r)
	}
}

func TestWithPhase(t *testing.T) {
	gold := "gold"
	v := volume("a", "5Gi", tuned("gold"))
	pending := claim("1Gi", func(c *corev1.PersistentVolumeClaim) { c.Status.Phase = corev1.ClaimPending })
	bound := withPhase(pending, corev1.ClaimBound, v)
	if s := bound.Status; s.Phase != corev1.ClaimBound || s.Capacity.Storage().String() != "5Gi" || len(s.AccessModes) != 1 || s.CurrentVolumeAttributesClassName == nil || *s.CurrentVolumeAttributesClassName != gold {
		t.Errorf("bound: %+v", s)
	}
	larger := volume("a", "9Gi")
	if s := withPhase(bound, corev1.ClaimBound, larger).Status; s.Capacity.Storage().String() != "5Gi" {
		t.Errorf("a claim that is bound already took the capacity %s: that is for resizing", s.Capacity.Storage())
	}
	if s := withPhase(bound, corev1.ClaimLost, nil).Status; s.Capacity != nil || s.AccessModes != nil {
		t.Errorf("lost: %+v", s)
	}
	if pending.Status.Capacity != nil {
		t.Error("the claim that was read has been changed")
	}
}

func TestChooseDefault(t *testing.T) {
	at := func(name string, second int64, annotation string) *storagev1.StorageClass {
		c := class(name, "p", storagev1.VolumeBindingImmediate)
		c.CreationTimestamp = metav1.Unix(second, 0)
		c.Annotations = map[string]string{annotation: "true"}
		return c
	}
	for _, tc := range []struct {
		name    string
		classes []*storagev1.StorageClass
		want    string
	}{
		{"none", []*storagev1.StorageClass{fast, later}, ""},
		{"one", []*storagev1.StorageClass{fast, at("x", 1, defaultClass)}, "x"},
		{"by the old annotation", []*storagev1.StorageClass{at("x", 1, defaultClassBeta)}, "x"},
		{"the newest", []*storagev1.StorageClass{at("x", 1, defaultClass), at("y", 2, defaultClass), at("z", 1, defaultClass)}, "y"},
		{"the first by name of one second", []*storagev1.StorageClass{at("y", 1, defaultClass), at("x", 1, defaultClass)}, "x"},
	} {
		got := ""
		if c := chooseDefault(tc.classes); c != nil {
			got = c.Name
		}
		if got != tc.want {
			t.Errorf("%s: %q", tc.name, got)
		}
	}
}
