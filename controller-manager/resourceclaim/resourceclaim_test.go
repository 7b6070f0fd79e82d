package resourceclaim

import (
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation"

	"pilothouse.dev/controller-manager/loop"
)

func user(name string, claims ...corev1.PodResourceClaim) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, UID: types.UID("uid-" + name)}}
	p.Spec.ResourceClaims = claims
	return p
}

func claim(finalizers []string, allocated bool, users ...string) *resourcev1.ResourceClaim {
	c := &resourcev1.ResourceClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "c", Finalizers: finalizers}}
	if allocated {
		c.Status.Allocation = &resourcev1.AllocationResult{}
	}
	for _, u := range users {
		c.Status.ReservedFor = append(c.Status.ReservedFor, resourcev1.ResourceClaimConsumerReference{Resource: "pods", Name: u, UID: types.UID("uid-" + u)})
	}
	return c
}

func TestNameOf(t *testing.T) {
	direct := corev1.PodResourceClaim{Name: "a", ResourceClaimName: new("shared")}
	made := corev1.PodResourceClaim{Name: "b", ResourceClaimTemplateName: new("t")}
	p := user("p", direct, made)
	p.Status.ResourceClaimStatuses = []corev1.PodResourceClaimStatus{{Name: "b", ResourceClaimName: new("p-b-x")}, {Name: "none"}}
	for entry, want := range map[string]string{"a": "shared true", "b": "p-b-x true", "none": " true", "other": " false"} {
		e := corev1.PodResourceClaim{Name: entry, ResourceClaimTemplateName: new("t")}
		if entry == "a" {
			e = direct
		}
		name, said := nameOf(p, &e)
		if got := name + map[bool]string{true: " true", false: " false"}[said]; got != want {
			t.Errorf("%s is %q, want %q", entry, got, want)
		}
	}
	if got := named(p); !slices.Equal(got, []string{"ns/shared", "ns/p-b-x"}) {
		t.Errorf("names %v", got)
	}
}

func TestFromTemplate(t *testing.T) {
	tmpl := &resourcev1.ResourceClaimTemplate{ObjectMeta: metav1.ObjectMeta{Name: "t"}}
	tmpl.Spec.Labels, tmpl.Spec.Annotations = map[string]string{"l": "1"}, map[string]string{"a": "2"}
	tmpl.Spec.Spec.Devices.Requests = []resourcev1.DeviceRequest{{Name: "r", Exactly: &resourcev1.ExactDeviceRequest{AdminAccess: new(true)}}}
	c := fromTemplate(tmpl, user("web"), "gpu")
	ref := metav1.GetControllerOf(c)
	if c.GenerateName != "web-gpu-" || c.Labels["l"] != "1" || c.Annotations["a"] != "2" || c.Annotations["resource.kubernetes.io/pod-claim-name"] != "gpu" ||
		ref == nil || ref.Kind != "Pod" || ref.UID != "uid-web" || !*ref.BlockOwnerDeletion || len(c.Spec.Devices.Requests) != 1 || !forAdmins(&c.Spec) {
		t.Errorf("made %+v", c)
	}
	if len(tmpl.Spec.Annotations) != 1 {
		t.Error("the template was changed")
	}
	if owner(c) == nil || madeFor(c, user("web")) != nil || madeFor(c, user("other")) == nil {
		t.Error("it is not known whose it is")
	}
	long := fromTemplate(tmpl, user(strings.Repeat("p", 200)), strings.Repeat("c", 60)).GenerateName
	if len(long) > longest+1 || !strings.HasPrefix(long, "ppp") || !strings.Contains(long, "-ccc") || !strings.HasSuffix(long, "c-") {
		t.Errorf("long names become %q", long)
	}
}

func TestCutNamesAreNames(t *testing.T) {
	for _, name := range []string{strings.Repeat("p", 27) + "." + strings.Repeat("q", 100), strings.Repeat("p", 26) + "-x" + strings.Repeat("q", 100), strings.Repeat("p", 26) + "--" + strings.Repeat("q", 100)} {
		made := fromTemplate(&resourcev1.ResourceClaimTemplate{}, user(name), strings.Repeat("c", 26)+"-"+strings.Repeat("c", 30)).GenerateName + "abcde"
		if errs := validation.IsDNS1123Subdomain(made); len(errs) > 0 {
			t.Errorf("%s: %v", made, errs)
		}
	}
}

func TestReleased(t *testing.T) {
	ours, going := []string{resourcev1.Finalizer}, metav1.Now()
	deleted := func(c *resourcev1.ResourceClaim) *resourcev1.ResourceClaim { c.DeletionTimestamp = &going; return c }
	for _, c := range []struct {
		name      string
		claim     *resourcev1.ResourceClaim
		ended     []string
		users     int
		allocated bool
		kept      bool // by its finalizer
	}{
		{"all use it", claim(ours, true, "a", "b"), nil, 2, true, true},
		{"one has ended", claim(ours, true, "a", "b"), []string{"a"}, 1, true, true},
		{"all have ended", claim(ours, true, "a", "b"), []string{"a", "b"}, 0, false, false},
		{"allocated for somebody who comes yet", claim(ours, true), nil, 0, true, true},
		{"about to be allocated", claim(ours, false), nil, 0, false, true},
		{"allocated by somebody else", claim(nil, true, "a"), []string{"a"}, 0, true, false},
		{"deleted and used", deleted(claim(ours, true, "a")), nil, 1, true, true},
		{"deleted and unused", deleted(claim(ours, true)), nil, 0, false, false},
		{"deleted and never allocated", deleted(claim(ours, false)), nil, 0, false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			ended := map[string]bool{}
			for _, e := range c.ended {
				ended["uid-"+e] = true
			}
			got := released(c.claim, ended)
			if len(got.Status.ReservedFor) != c.users || (got.Status.Allocation != nil) != c.allocated {
				t.Errorf("status %+v", got.Status)
			}
			if got = freed(got, c.claim); slices.Contains(got.Finalizers, resourcev1.Finalizer) != c.kept {
				t.Errorf("finalizers %v", got.Finalizers)
			}
		})
	}
}

func TestReserved(t *testing.T) {
	p, going := user("p"), metav1.Now()
	full := claim(nil, true)
	for range resourcev1.ResourceClaimReservedForMaxSize {
		full.Status.ReservedFor = append(full.Status.ReservedFor, resourcev1.ResourceClaimConsumerReference{UID: "x"})
	}
	leaves := claim(nil, true)
	leaves.DeletionTimestamp = &going
	for name, c := range map[string]*resourcev1.ResourceClaim{"not allocated": claim(nil, false), "its user already": claim(nil, true, "p"), "full": full, "going": leaves} {
		if got := reserved(c, p); got != nil {
			t.Errorf("%s: %+v", name, got.Status)
		}
	}
	if got := reserved(claim(nil, true, "q"), p); got == nil || len(got.Status.ReservedFor) != 2 || got.Status.ReservedFor[1].UID != p.UID || got.Status.ReservedFor[1].Resource != "pods" {
		t.Errorf("reserved: %+v", got)
	}
}

func TestOver(t *testing.T) {
	going, now := user("going"), metav1.Now()
	going.DeletionTimestamp = &now
	onNode := going.DeepCopy()
	onNode.Spec.NodeName = "n"
	ended := user("ended")
	ended.Status.Phase = corev1.PodSucceeded
	for want, pods := range map[bool][]*corev1.Pod{true: {going, ended}, false: {onNode, user("new")}} {
		for _, p := range pods {
			if over(p) != want {
				t.Errorf("%s on %q is over: %v", p.Name, p.Spec.NodeName, !want)
			}
		}
	}
}

func TestTally(t *testing.T) {
	reg := prometheus.NewRegistry()
	f := loop.NewFamilies(reg)
	n := newTally(f.Gauge("claims", "Claims.", "allocated", "admin_access", "source"))
	c := claim(nil, false)
	n.set(loop.Key{Name: "a"}, class(c))
	n.set(loop.Key{Name: "b"}, class(c))
	c.Status.Allocation = &resourcev1.AllocationResult{}
	c.Annotations = map[string]string{resourcev1.PodResourceClaimAnnotation: "x"}
	n.set(loop.Key{Name: "b"}, class(c))
	n.set(loop.Key{Name: "b"}, class(c))
	n.set(loop.Key{Name: "gone"}, "")
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, m := range families[0].Metric {
		text := ""
		for _, l := range m.Label {
			text += l.GetValue() + ","
		}
		got = append(got, text+map[float64]string{0: "0", 1: "1"}[m.Gauge.GetValue()])
	}
	slices.Sort(got)
	if want := []string{"false,false,,1", "false,true,resource_claim_template,1"}; !slices.Equal(got, want) {
		t.Errorf("counts %q, want %q", got, want)
	}
}
