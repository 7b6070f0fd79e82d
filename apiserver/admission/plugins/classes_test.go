package plugins

import (
	"context"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	nodev1 "k8s.io/api/node/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"pilothouse.dev/apiserver/admission"
)

var (
	ingressKind       = define[*networkingv1.Ingress]("networking.k8s.io", "Ingress", "ingresses", true)
	volumeKind        = define[*corev1.PersistentVolume]("", "PersistentVolume", "persistentvolumes", false)
	priorityClassKind = define[*schedulingv1.PriorityClass]("scheduling.k8s.io", "PriorityClass", "priorityclasses", false)
)

// classes are all classes of a cluster.
type classes struct {
	priority []*schedulingv1.PriorityClass
	runtime  []*nodev1.RuntimeClass
	storage  []*storagev1.StorageClass
	ingress  []*networkingv1.IngressClass
}

func (c classes) PriorityClasses(context.Context) ([]*schedulingv1.PriorityClass, error) {
	return c.priority, nil
}

func (c classes) PriorityClass(_ context.Context, name string) (*schedulingv1.PriorityClass, error) {
	for _, p := range c.priority {
		if p.Name == name {
			return p, nil
		}
	}
	return nil, apierrors.NewNotFound(schedulingv1.Resource("priorityclasses"), name)
}

func (c classes) RuntimeClass(_ context.Context, name string) (*nodev1.RuntimeClass, error) {
	for _, r := range c.runtime {
		if r.Name == name {
			return r, nil
		}
	}
	return nil, apierrors.NewNotFound(nodev1.Resource("runtimeclasses"), name)
}

func (c classes) StorageClasses(context.Context) ([]*storagev1.StorageClass, error) {
	return c.storage, nil
}

func (c classes) IngressClasses(context.Context) ([]*networkingv1.IngressClass, error) {
	return c.ingress, nil
}

func TestPriorityClasses(t *testing.T) {
	class := func(name string, value int32, standard bool, policy *corev1.PreemptionPolicy) *schedulingv1.PriorityClass {
		return &schedulingv1.PriorityClass{ObjectMeta: metav1.ObjectMeta{Name: name}, Value: value, GlobalDefault: standard, PreemptionPolicy: policy}
	}
	all := classes{priority: []*schedulingv1.PriorityClass{
		class("high", 1000, false, nil), class("calm", 10, false, ptr.To(corev1.PreemptNever)), class("usual", 7, true, nil), class("rival", 9, true, nil),
	}}
	for _, c := range []struct {
		name, class string
		given       *corev1.PreemptionPolicy
		want        int32
		wantClass   string
		policy      corev1.PreemptionPolicy
		words       string
	}{
		{"by name", "high", nil, 1000, "high", corev1.PreemptLowerPriority, ""},
		{"one that does not preempt", "calm", nil, 10, "calm", corev1.PreemptNever, ""},
		{"the default", "", nil, 7, "usual", corev1.PreemptLowerPriority, ""},
		{"a policy of one's own", "high", ptr.To(corev1.PreemptNever), 0, "", "", "the string value of PreemptionPolicy (Never) must not be provided in pod spec; priority admission controller computed PreemptLowerPriority"},
		{"no such class", "low", nil, 0, "", "", "no PriorityClass with name low was found"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := aPod(func(p *corev1.Pod) { p.Spec.PriorityClassName, p.Spec.PreemptionPolicy = c.class, c.given })
			err := (&priority{all}).Mutate(t.Context(), attributes(admission.Create, podKind, p, nil))
			if c.words != "" {
				refused(t, err, metav1.StatusReasonForbidden, c.words)
				return
			}
			if err != nil || *p.Spec.Priority != c.want || p.Spec.PriorityClassName != c.wantClass || *p.Spec.PreemptionPolicy != c.policy {
				t.Errorf("got %+v, %v", p.Spec, err)
			}
		})
	}
	for name, words := range map[string]string{"usual": "", "another": "PriorityClass usual is already marked as default. Only one default can exist"} {
		reason := metav1.StatusReason("")
		if words != "" {
			reason = metav1.StatusReasonForbidden
		}
		refused(t, (&priority{all}).Validate(t.Context(), attributes(admission.Create, priorityClassKind, class(name, 1, true, nil), nil)), reason, words)
	}
	refused(t, (&priority{all}).Validate(t.Context(), attributes(admission.Create, priorityClassKind, class("x", 1, false, nil), nil)), "", "")
}

func TestRuntimeClass(t *testing.T) {
	p := &runtimeClass{classes{runtime: []*nodev1.RuntimeClass{
		{ObjectMeta: metav1.ObjectMeta{Name: "plain"}},
		{ObjectMeta: metav1.ObjectMeta{Name: "vm"}, Overhead: &nodev1.Overhead{PodFixed: list("cpu", "250m")},
			Scheduling: &nodev1.Scheduling{NodeSelector: map[string]string{"vm": "yes"}, Tolerations: []corev1.Toleration{{Key: "vm"}}}},
	}}}
	for _, c := range []struct {
		name  string
		pod   corev1.PodSpec
		words string
		want  corev1.PodSpec
	}{
		{"none", corev1.PodSpec{}, "", corev1.PodSpec{}},
		{"plain", corev1.PodSpec{RuntimeClassName: ptr.To("plain")}, "", corev1.PodSpec{}},
		{"missing", corev1.PodSpec{RuntimeClassName: ptr.To("gone")}, `pod rejected: RuntimeClass "gone" not found`, corev1.PodSpec{}},
		{"all of it", corev1.PodSpec{RuntimeClassName: ptr.To("vm"), NodeSelector: map[string]string{"a": "b"}, Tolerations: []corev1.Toleration{{Key: "x"}}}, "",
			corev1.PodSpec{Overhead: list("cpu", "250m"), NodeSelector: map[string]string{"a": "b", "vm": "yes"}, Tolerations: []corev1.Toleration{{Key: "x"}, {Key: "vm"}}}},
		{"said already", corev1.PodSpec{RuntimeClassName: ptr.To("vm"), Overhead: list("cpu", "0.25"), NodeSelector: map[string]string{"vm": "yes"}, Tolerations: []corev1.Toleration{{Key: "vm"}}}, "",
			corev1.PodSpec{Overhead: list("cpu", "250m"), NodeSelector: map[string]string{"vm": "yes"}, Tolerations: []corev1.Toleration{{Key: "vm"}}}},
		{"another overhead", corev1.PodSpec{RuntimeClassName: ptr.To("vm"), Overhead: list("cpu", "1")}, "Pod's Overhead doesn't match RuntimeClass's defined Overhead", corev1.PodSpec{}},
		{"overhead of nothing", corev1.PodSpec{Overhead: list("cpu", "1")}, "Pod Overhead set without corresponding RuntimeClass defined Overhead", corev1.PodSpec{}},
		{"overhead of a plain class", corev1.PodSpec{RuntimeClassName: ptr.To("plain"), Overhead: list("cpu", "1")}, "Pod Overhead set without corresponding", corev1.PodSpec{}},
		{"another place", corev1.PodSpec{RuntimeClassName: ptr.To("vm"), NodeSelector: map[string]string{"vm": "no"}}, "conflict: runtimeClass.scheduling.nodeSelector[vm] = yes; pod.spec.nodeSelector[vm] = no", corev1.PodSpec{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := aPod(func(p *corev1.Pod) { p.Spec = c.pod })
			a := attributes(admission.Create, podKind, o, nil)
			err := p.Mutate(t.Context(), a)
			if err == nil {
				err = p.Validate(t.Context(), a)
			}
			if c.words != "" {
				refused(t, err, metav1.StatusReasonForbidden, c.words)
				return
			}
			if err != nil || o.Spec.Overhead.Cpu().Cmp(*c.want.Overhead.Cpu()) != 0 || len(o.Spec.NodeSelector) != len(c.want.NodeSelector) ||
				!slices.Equal(o.Spec.Tolerations, c.want.Tolerations) {
				t.Errorf("got %+v, %v", o.Spec, err)
			}
		})
	}
}

func TestDefaultClasses(t *testing.T) {
	meta := func(name string, age time.Duration, mark string) metav1.ObjectMeta {
		m := metav1.ObjectMeta{Name: name, CreationTimestamp: metav1.NewTime(time.Unix(10000, 0).Add(-age))}
		if mark != "" {
			m.Annotations = map[string]string{mark: "true"}
		}
		return m
	}
	const storageMark, oldMark, ingressMark = "storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class", "ingressclass.kubernetes.io/is-default-class"
	all := classes{
		storage: []*storagev1.StorageClass{
			{ObjectMeta: meta("a", time.Hour, storageMark)}, {ObjectMeta: meta("c", 0, oldMark)}, {ObjectMeta: meta("b", 0, storageMark)}, {ObjectMeta: meta("new", -time.Hour, "")},
		},
		ingress: []*networkingv1.IngressClass{{ObjectMeta: meta("x", time.Hour, "")}, {ObjectMeta: meta("y", 0, ingressMark)}},
	}
	claim := func(class *string, annotation string) *corev1.PersistentVolumeClaim {
		c := &corev1.PersistentVolumeClaim{Spec: corev1.PersistentVolumeClaimSpec{StorageClassName: class}}
		if annotation != "" {
			c.Annotations = map[string]string{corev1.BetaStorageClassAnnotation: annotation}
		}
		return c
	}
	for _, c := range []struct {
		name  string
		claim *corev1.PersistentVolumeClaim
		from  classes
		want  string
	}{
		{"none named", claim(nil, ""), all, "b"},
		{"none wanted", claim(ptr.To(""), ""), all, ""},
		{"named", claim(ptr.To("a"), ""), all, "a"},
		{"named of old", claim(nil, "a"), all, "nil"},
		{"no default", claim(nil, ""), classes{}, "nil"},
	} {
		if err := (&defaultStorageClass{c.from}).Mutate(t.Context(), attributes(admission.Create, claimKind, c.claim, nil)); err != nil {
			t.Fatal(err)
		}
		if got := ptr.Deref(c.claim.Spec.StorageClassName, "nil"); got != c.want {
			t.Errorf("%s: got %s, want %s", c.name, got, c.want)
		}
	}
	for name, c := range map[string]struct {
		ingress networkingv1.Ingress
		want    string
	}{
		"none named":   {networkingv1.Ingress{}, "y"},
		"named":        {networkingv1.Ingress{Spec: networkingv1.IngressSpec{IngressClassName: ptr.To("x")}}, "x"},
		"named of old": {networkingv1.Ingress{ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{"kubernetes.io/ingress.class": "x"}}}, "nil"},
	} {
		if err := (&defaultIngressClass{all}).Mutate(t.Context(), attributes(admission.Create, ingressKind, &c.ingress, nil)); err != nil {
			t.Fatal(err)
		}
		if got := ptr.Deref(c.ingress.Spec.IngressClassName, "nil"); got != c.want {
			t.Errorf("%s: got %s, want %s", name, got, c.want)
		}
	}
}

func TestStorageProtection(t *testing.T) {
	claim, volume := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Finalizers: []string{"own"}}}, &corev1.PersistentVolume{}
	for range 2 {
		for _, a := range []*admission.Attributes{attributes(admission.Create, claimKind, claim, nil), attributes(admission.Create, volumeKind, volume, nil)} {
			if err := (storageProtection{}).Mutate(t.Context(), a); err != nil {
				t.Fatal(err)
			}
		}
	}
	if !slices.Equal(claim.Finalizers, []string{"own", "kubernetes.io/pvc-protection"}) || !slices.Equal(volume.Finalizers, []string{"kubernetes.io/pv-protection"}) {
		t.Errorf("got %v and %v", claim.Finalizers, volume.Finalizers)
	}
}

func TestClaimResize(t *testing.T) {
	all := classes{storage: []*storagev1.StorageClass{
		{ObjectMeta: metav1.ObjectMeta{Name: "grows"}, AllowVolumeExpansion: ptr.To(true)}, {ObjectMeta: metav1.ObjectMeta{Name: "stays"}},
	}}
	claim := func(class, size string, phase corev1.PersistentVolumeClaimPhase) *corev1.PersistentVolumeClaim {
		c := &corev1.PersistentVolumeClaim{Status: corev1.PersistentVolumeClaimStatus{Phase: phase}}
		c.Spec.StorageClassName, c.Spec.Resources.Requests = &class, list("storage", size)
		return c
	}
	for _, c := range []struct {
		name, class, size string
		phase             corev1.PersistentVolumeClaimPhase
		words             string
	}{
		{"grows", "grows", "2Gi", corev1.ClaimBound, ""},
		{"same", "stays", "1Gi", corev1.ClaimPending, ""},
		{"not bound", "grows", "2Gi", corev1.ClaimPending, "Only bound persistent volume claims can be expanded"},
		{"cannot grow", "stays", "2Gi", corev1.ClaimBound, "only dynamically provisioned pvc can be resized"},
		{"no such class", "none", "2Gi", corev1.ClaimBound, "only dynamically provisioned pvc can be resized"},
		{"no class", "", "2Gi", corev1.ClaimBound, "only dynamically provisioned pvc can be resized"},
	} {
		t.Run(c.name, func(t *testing.T) {
			reason := metav1.StatusReason("")
			if c.words != "" {
				reason = metav1.StatusReasonForbidden
			}
			a := attributes(admission.Update, claimKind, claim(c.class, c.size, c.phase), claim(c.class, "1Gi", c.phase))
			refused(t, (&claimResize{all}).Validate(t.Context(), a), reason, c.words)
		})
	}
}
