package plugins

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"pilothouse.dev/apiserver/admission"
	"pilothouse.dev/apiserver/configfile"
	"pilothouse.dev/apiserver/registry"
	"pilothouse.dev/apiserver/request"
)

var eventKind = define[*corev1.Event]("", "Event", "events", true)

// configured gives a plugin a file that says text.
func configured(t *testing.T, p configurable, text string) error {
	t.Helper()
	d, err := configfile.Read(write(t, t.TempDir(), "config.yaml", text))
	if err != nil {
		t.Fatal(err)
	}
	return p.configure(d)
}

// both runs a plugin as the chain does.
func both(ctx context.Context, p admission.Plugin, a *admission.Attributes) error {
	if m, ok := p.(admission.Mutator); ok {
		if err := m.Mutate(ctx, a); err != nil {
			return err
		}
	}
	if v, ok := p.(admission.Validator); ok {
		return v.Validate(ctx, a)
	}
	return nil
}

func TestAlways(t *testing.T) {
	a := attributes(admission.Create, podKind, aPod(nil), nil)
	refused(t, both(t.Context(), alwaysAdmit{}, a), "", "")
	refused(t, both(t.Context(), alwaysDeny{}, a), metav1.StatusReasonForbidden, `pods "p" is forbidden: admission control is denying all modifications`)
	refused(t, alwaysDeny{}.Validate(t.Context(), a), metav1.StatusReasonForbidden, "is denying all modifications")
}

func TestAlwaysPullImages(t *testing.T) {
	pulls := func(image string, policy corev1.PullPolicy) *corev1.Pod {
		return aPod(func(p *corev1.Pod) {
			c := corev1.Container{Name: "c", Image: image, ImagePullPolicy: policy}
			p.Spec.InitContainers, p.Spec.Containers = []corev1.Container{c}, []corev1.Container{c}
			p.Spec.Volumes = []corev1.Volume{{VolumeSource: corev1.VolumeSource{Image: &corev1.ImageVolumeSource{Reference: image, PullPolicy: policy}}}}
		})
	}
	debug := pulls("i", corev1.PullNever)
	debug.Spec.EphemeralContainers = []corev1.EphemeralContainer{{EphemeralContainerCommon: corev1.EphemeralContainerCommon{Image: "d", ImagePullPolicy: corev1.PullNever}}}
	policies := func(p *corev1.Pod) string {
		all := []string{string(p.Spec.InitContainers[0].ImagePullPolicy), string(p.Spec.Containers[0].ImagePullPolicy), string(p.Spec.Volumes[0].Image.PullPolicy)}
		for _, c := range p.Spec.EphemeralContainers {
			all = append(all, string(c.ImagePullPolicy))
		}
		return strings.Join(all, " ")
	}
	for _, c := range []struct {
		name     string
		op       admission.Operation
		sub      string
		pod, old *corev1.Pod
		want     string
	}{
		{"create", admission.Create, "", pulls("i", corev1.PullNever), nil, "Always Always Always"},
		{"the same images", admission.Update, "", pulls("i", corev1.PullNever), pulls("i", corev1.PullNever), "Never Never Never"},
		{"another image", admission.Update, "", pulls("j", corev1.PullNever), pulls("i", corev1.PullNever), "Always Always Always"},
		{"a debugger", admission.Update, "ephemeralcontainers", debug, pulls("i", corev1.PullNever), "Always Always Always Always"},
		{"its status", admission.Update, "status", pulls("j", corev1.PullNever), pulls("i", corev1.PullNever), "Never Never Never"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var old registry.Object
			if c.old != nil {
				old = c.old
			}
			a := attributes(c.op, podKind, c.pod, old)
			a.Subresource = c.sub
			refused(t, both(t.Context(), alwaysPullImages{}, a), "", "")
			if got := policies(c.pod); got != c.want {
				t.Errorf("policies %s, want %s", got, c.want)
			}
		})
	}
	err := alwaysPullImages{}.Validate(t.Context(), attributes(admission.Create, podKind, pulls("i", corev1.PullNever), nil))
	refused(t, err, metav1.StatusReasonForbidden, `spec.containers[0].imagePullPolicy: Unsupported value: "Never": supported values: "Always"`)
	refused(t, err, metav1.StatusReasonForbidden, "spec.volumes[0].image.pullPolicy")
}

func TestAntiAffinity(t *testing.T) {
	apart := func(key string) *corev1.Pod {
		return aPod(func(p *corev1.Pod) {
			p.Spec.Affinity = &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{
				PreferredDuringSchedulingIgnoredDuringExecution: []corev1.WeightedPodAffinityTerm{{PodAffinityTerm: corev1.PodAffinityTerm{TopologyKey: "zone"}}},
				RequiredDuringSchedulingIgnoredDuringExecution:  []corev1.PodAffinityTerm{{TopologyKey: key}},
			}}
		})
	}
	refused(t, both(t.Context(), limitAntiAffinity{}, attributes(admission.Create, podKind, apart("kubernetes.io/hostname"), nil)), "", "")
	refused(t, both(t.Context(), limitAntiAffinity{}, attributes(admission.Create, podKind, aPod(nil), nil)), "", "")
	refused(t, both(t.Context(), limitAntiAffinity{}, attributes(admission.Create, podKind, apart("zone"), nil)), metav1.StatusReasonForbidden,
		"affinity.PodAntiAffinity.RequiredDuringScheduling has TopologyKey zone but only key kubernetes.io/hostname is allowed")
}

func TestDenyExternalIPs(t *testing.T) {
	with := func(ips ...string) *corev1.Service {
		return &corev1.Service{Spec: corev1.ServiceSpec{ExternalIPs: ips}}
	}
	for _, c := range []struct {
		name     string
		old, new *corev1.Service
		reason   metav1.StatusReason
	}{
		{"none", nil, with(), ""},
		{"new", nil, with("1.2.3.4"), metav1.StatusReasonForbidden},
		{"kept", with("1.2.3.4", "1.2.3.5"), with("1.2.3.5"), ""},
		{"one more", with("1.2.3.4"), with("1.2.3.4", "1.2.3.5"), metav1.StatusReasonForbidden},
		{"another", with("1.2.3.4"), with("1.2.3.5"), metav1.StatusReasonForbidden},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := attributes(admission.Create, serviceKind, c.new, nil)
			if c.old != nil {
				a = attributes(admission.Update, serviceKind, c.new, c.old)
			}
			refused(t, both(t.Context(), denyExternalIPs{}, a), c.reason, "Use of external IPs is denied by admission control.")
		})
	}
}

func TestExtendedResourceToleration(t *testing.T) {
	p := aPod(func(p *corev1.Pod) {
		one := resource.MustParse("1")
		p.Spec.InitContainers = []corev1.Container{{Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{"example.com/fpga": one}}}}
		p.Spec.Containers = []corev1.Container{{Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{
			"cpu": one, "hugepages-2Mi": one, "kubernetes.io/x": one, "node.kubernetes.io/y": one, "requests.example.com/z": one, "example.com/gpu": one, "example.com/fpga": one,
		}}}}
	})
	for range 2 { // what is there is not added again
		refused(t, both(t.Context(), tolerateExtended{}, attributes(admission.Create, podKind, p, nil)), "", "")
	}
	var keys []string
	for _, t := range p.Spec.Tolerations {
		keys = append(keys, t.Key+" "+string(t.Operator)+" "+string(t.Effect))
	}
	if want := []string{"example.com/fpga Exists NoSchedule", "example.com/gpu Exists NoSchedule"}; !slices.Equal(keys, want) {
		t.Errorf("tolerates %q, want %q", keys, want)
	}
}

func TestNamespaceExists(t *testing.T) {
	p := &namespaceExists{cluster{namespaces: map[string]*corev1.Namespace{"a": {}}}}
	in := func(ns string) *corev1.Pod { return aPod(func(p *corev1.Pod) { p.Namespace = ns }) }
	for _, c := range []struct {
		name   string
		a      *admission.Attributes
		reason metav1.StatusReason
	}{
		{"there", attributes(admission.Create, podKind, in("a"), nil), ""},
		{"not there", attributes(admission.Create, podKind, in("b"), nil), metav1.StatusReasonNotFound},
		{"an update", attributes(admission.Update, podKind, in("b"), in("b")), metav1.StatusReasonNotFound},
		{"a delete", attributes(admission.Delete, podKind, nil, in("b")), metav1.StatusReasonNotFound},
		{"in none", attributes(admission.Create, nodeKind, &corev1.Node{}, nil), ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			refused(t, both(t.Context(), p, c.a), c.reason, `namespaces "b" not found`)
		})
	}
}

func TestNamespaceAutoProvision(t *testing.T) {
	var made []string
	p := &namespaceAutoProvision{cluster{namespaces: map[string]*corev1.Namespace{"a": {}}}, func(_ context.Context, name string) error {
		made = append(made, name)
		return nil
	}}
	in := func(ns string) *corev1.Pod { return aPod(func(p *corev1.Pod) { p.Namespace = ns }) }
	dry := attributes(admission.Create, podKind, in("c"), nil)
	dry.DryRun = true
	for _, a := range []*admission.Attributes{
		attributes(admission.Create, podKind, in("a"), nil), attributes(admission.Create, podKind, in("b"), nil), attributes(admission.Update, podKind, in("c"), in("c")),
		attributes(admission.Create, nodeKind, &corev1.Node{}, nil), dry,
	} {
		refused(t, both(t.Context(), p, a), "", "")
	}
	if !slices.Equal(made, []string{"b"}) {
		t.Errorf("made %q, want b", made)
	}
}

// annotated is a namespace a with annotations, and one without.
func annotated(pairs ...string) cluster {
	m := map[string]string{}
	for i := 0; i < len(pairs); i += 2 {
		m[pairs[i]] = pairs[i+1]
	}
	return cluster{namespaces: map[string]*corev1.Namespace{"a": {ObjectMeta: metav1.ObjectMeta{Annotations: m}}}}
}

func TestPodNodeSelector(t *testing.T) {
	const config = "podNodeSelectorPluginConfig:\n  clusterDefaultNodeSelector: \"region=west\"\n  a: \"env=test,region=west\"\n"
	const annotation = "scheduler.alpha.kubernetes.io/node-selector"
	for _, c := range []struct {
		name   string
		c      cluster
		config string
		has    map[string]string
		want   string
		words  string
	}{
		{"nothing", annotated(), "", nil, "", ""},
		{"the annotation's", annotated(annotation, "infra=fixed"), "", map[string]string{"x": "y"}, "infra=fixed,x=y", ""},
		{"a conflict", annotated(annotation, "infra=fixed"), "", map[string]string{"infra": "other"}, "", "pod node label selector conflicts with its namespace node label selector"},
		{"the cluster's", annotated(), config, nil, "region=west", ""},
		{"what is allowed", annotated(), config, map[string]string{"env": "test"}, "env=test,region=west", ""},
		{"what is not", annotated(), config, map[string]string{"env": "production"}, "", "pod node label selector labels conflict with its namespace whitelist"},
		{"an empty annotation", annotated(annotation, ""), config, nil, "", ""},
		{"no selector", annotated(annotation, "a in (b)"), "", nil, "", "annotation " + annotation},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := &podNodeSelector{namespaces: c.c}
			if c.config != "" {
				failed(t, configured(t, p, c.config))
			}
			o := aPod(func(p *corev1.Pod) { p.Spec.NodeSelector = c.has })
			reason := metav1.StatusReason("")
			if c.words != "" {
				reason = metav1.StatusReasonForbidden
			}
			refused(t, both(t.Context(), p, attributes(admission.Create, podKind, o, nil)), reason, c.words)
			if got := metav1.FormatLabelSelector(&metav1.LabelSelector{MatchLabels: o.Spec.NodeSelector}); c.words == "" && strings.ReplaceAll(got, "<none>", "") != c.want {
				t.Errorf("selects %s, want %s", got, c.want)
			}
		})
	}
	p := &podNodeSelector{namespaces: annotated()}
	failed(t, configured(t, p, config))
	with := func(value string) *corev1.Pod {
		return aPod(func(p *corev1.Pod) { p.Spec.NodeSelector = map[string]string{"env": value} })
	}
	refused(t, both(t.Context(), p, attributes(admission.Update, podKind, with("x"), with("x"))), "", "")
	refused(t, both(t.Context(), p, attributes(admission.Update, podKind, with("x"), with("test"))), metav1.StatusReasonForbidden, "whitelist")
	failed(t, configured(t, p, "podNodeSelectorPluginConfig:\n  a: \"b in (c)\"\n"), "line 2", "podNodeSelectorPluginConfig.a: Invalid value")
}

func TestPodTolerationRestriction(t *testing.T) {
	const (
		standard = "scheduler.alpha.kubernetes.io/defaultTolerations"
		allowed  = "scheduler.alpha.kubernetes.io/tolerationsWhitelist"
		config   = "apiVersion: podtolerationrestriction.admission.k8s.io/v1alpha1\nkind: Configuration\ndefault:\n- {key: c, operator: Exists}\nwhitelist:\n- {key: c, operator: Exists}\n"
	)
	exists := func(key string) corev1.Toleration {
		return corev1.Toleration{Key: key, Operator: corev1.TolerationOpExists}
	}
	within := func(seconds int64) corev1.Toleration {
		return corev1.Toleration{Key: "k", Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute, TolerationSeconds: &seconds}
	}
	const briefly = `[{"key":"k","operator":"Exists","effect":"NoExecute","tolerationSeconds":60}]`
	for _, c := range []struct {
		name   string
		c      cluster
		config string
		has    []corev1.Toleration
		want   string
		words  string
	}{
		{"nothing", annotated(), "", []corev1.Toleration{exists("x")}, "x", ""},
		{"the annotation's", annotated(standard, `[{"key":"n","operator":"Exists"}]`), "", []corev1.Toleration{exists("x")}, "x n", ""},
		{"what it has already", annotated(standard, `[{"key":"n","value":"v","effect":"NoSchedule"}]`), "", []corev1.Toleration{exists("n")}, "n", ""},
		{"what covers its own", annotated(standard, `[{"operator":"Exists"}]`), "", []corev1.Toleration{exists("n")}, "", ""},
		{"the cluster's", annotated(), config, nil, "c", ""},
		{"not the cluster's", annotated(standard, "", allowed, ""), config, []corev1.Toleration{exists("x")}, "x", ""},
		{"not allowed by the cluster", annotated(), config, []corev1.Toleration{exists("x")}, "",
			"pod tolerations (possibly merged with namespace default tolerations) conflict with its namespace whitelist"},
		{"allowed", annotated(allowed, `[{"key":"x","operator":"Exists","effect":"NoSchedule"}]`), "",
			[]corev1.Toleration{{Key: "x", Value: "1", Effect: corev1.TaintEffectNoSchedule}}, "x", ""},
		{"not that effect", annotated(allowed, `[{"key":"x","operator":"Exists","effect":"NoSchedule"}]`), "", []corev1.Toleration{exists("x")}, "", "whitelist"},
		{"not that value", annotated(allowed, `[{"key":"x","value":"1"}]`), "", []corev1.Toleration{{Key: "x", Value: "2"}}, "", "whitelist"},
		{"not everything", annotated(allowed, `[{"key":"x","operator":"Exists"}]`), "", []corev1.Toleration{exists("")}, "", "whitelist"},
		{"as long as allowed", annotated(allowed, briefly), "", []corev1.Toleration{within(30)}, "k", ""},
		{"longer", annotated(allowed, briefly), "", []corev1.Toleration{within(90)}, "", "whitelist"},
		{"for ever", annotated(allowed, briefly), "", []corev1.Toleration{{Key: "k", Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute}}, "", "whitelist"},
		{"no list", annotated(standard, "{"), "", nil, "", "annotation " + standard},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := &podTolerations{namespaces: c.c}
			if c.config != "" {
				failed(t, configured(t, p, c.config))
			}
			o := aPod(func(p *corev1.Pod) { p.Spec.Tolerations = c.has })
			reason := metav1.StatusReason("")
			if c.words != "" {
				reason = metav1.StatusReasonForbidden
			}
			refused(t, both(t.Context(), p, attributes(admission.Create, podKind, o, nil)), reason, c.words)
			var keys []string
			for _, t := range o.Spec.Tolerations {
				keys = append(keys, t.Key)
			}
			if got := strings.Join(keys, " "); c.words == "" && got != c.want {
				t.Errorf("tolerates %q, want %q", got, c.want)
			}
		})
	}
	burstable := aPod(func(p *corev1.Pod) {
		p.Spec.Containers = []corev1.Container{{Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{"cpu": resource.MustParse("1")}}}}
	})
	refused(t, both(t.Context(), &podTolerations{namespaces: annotated()}, attributes(admission.Create, podKind, burstable, nil)), "", "")
	if len(burstable.Spec.Tolerations) != 1 || burstable.Spec.Tolerations[0].Key != corev1.TaintNodeMemoryPressure {
		t.Errorf("a burstable pod tolerates %v", burstable.Spec.Tolerations)
	}
}

func TestEventRateLimit(t *testing.T) {
	const head = "apiVersion: eventratelimit.admission.k8s.io/v1alpha1\nkind: Configuration\nlimits:\n"
	at := time.Unix(1000, 0)
	event := func(ns, user, about string) *admission.Attributes {
		a := attributes(admission.Create, eventKind, &corev1.Event{
			ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "e"}, InvolvedObject: corev1.ObjectReference{Name: about},
		}, nil)
		a.User = &request.User{Name: user}
		return a
	}
	dry := event("a", "u", "x")
	dry.DryRun = true
	for _, c := range []struct {
		name, limit string
		others      []*admission.Attributes // after which x is refused
		x           *admission.Attributes
		free        []*admission.Attributes // not refused then
		words       string
	}{
		{"server", "- {type: Server, qps: 1, burst: 2}", []*admission.Attributes{event("a", "u", "x"), event("b", "v", "y")}, event("c", "w", "z"),
			[]*admission.Attributes{attributes(admission.Create, podKind, aPod(nil), nil), dry, attributes(admission.Delete, eventKind, nil, &corev1.Event{})}, "limit reached on type Server for key "},
		{"namespace", "- {type: Namespace, qps: 1, burst: 1}", []*admission.Attributes{event("a", "u", "x")}, event("a", "v", "y"), []*admission.Attributes{event("b", "u", "x")},
			"limit reached on type Namespace for key a"},
		{"user", "- {type: User, qps: 1, burst: 1}", []*admission.Attributes{event("a", "u", "x")}, event("b", "u", "y"), []*admission.Attributes{event("a", "v", "x")}, "limit reached on type User for key u"},
		{"source and object", "- {type: SourceAndObject, qps: 1, burst: 1}", []*admission.Attributes{event("a", "u", "x")}, event("a", "v", "x"), []*admission.Attributes{event("a", "u", "y")},
			"limit reached on type SourceAndObject for key x"},
		{"two limits", "- {type: User, qps: 1, burst: 1}\n- {type: Namespace, qps: 1, burst: 1}", []*admission.Attributes{event("a", "u", "x")}, event("a", "u", "x"), nil,
			"[limit reached on type User for key u, limit reached on type Namespace for key a]"},
		{"few buckets", "- {type: User, qps: 1, burst: 1, cacheSize: 1}", []*admission.Attributes{event("a", "u", "x"), event("a", "v", "x")}, event("a", "v", "x"),
			[]*admission.Attributes{event("a", "u", "x")}, "limit reached on type User for key v"},
	} {
		t.Run(c.name, func(t *testing.T) {
			now := at
			p := &eventRateLimit{now: func() time.Time { return now }}
			failed(t, configured(t, p, head+c.limit+"\n"))
			for _, a := range c.others {
				refused(t, both(t.Context(), p, a), "", "")
			}
			err := both(t.Context(), p, c.x)
			refused(t, err, metav1.StatusReasonTooManyRequests, c.words)
			var status apierrors.APIStatus
			if !errors.As(err, &status) || status.Status().Code != 429 {
				t.Errorf("code of %v", err)
			}
			for _, a := range c.free {
				refused(t, both(t.Context(), p, a), "", "")
			}
			now = now.Add(time.Second) // a second later there is one more in each bucket
			refused(t, both(t.Context(), p, c.x), "", "")
		})
	}
	for _, c := range []struct{ text, words string }{
		{"[]", "limits: Invalid value"},
		{"- {type: Pod, qps: 1, burst: 1}", `limits[0].type: Unsupported value: "Pod"`},
		{"- {type: User, qps: 0, burst: 1}", "limits[0].qps: Invalid value: 0: must be positive"},
		{"- {type: User, qps: 1}", "limits[0].burst: Invalid value: 0: must be positive"},
		{"- {type: User, qps: 1, burst: 1, cacheSize: -1}", "limits[0].cacheSize: Invalid value: -1: must not be negative"},
		{"- {type: User, qps: many, burst: 1}", "cannot unmarshal string"},
		{"-", "limits[0]: Required value"},
	} {
		text := head + c.text + "\n"
		if c.text == "[]" {
			text = strings.TrimSuffix(head, "\n") + " []\n"
		}
		failed(t, configured(t, &eventRateLimit{}, text), c.words, "config.yaml: line")
	}
	_, err := Table(Parts{}, Choice{Enable: []string{"EventRateLimit"}})
	failed(t, err, "EventRateLimit", "it needs limits")
}

// may allows what is listed as "verb plural/subresource namespace/name".
type may []string

func (m may) Allow(_ context.Context, _ *request.User, i *request.Info) (bool, string) {
	what := i.Verb + " " + i.Resource
	if i.Subresource != "" {
		what += "/" + i.Subresource
	}
	return slices.Contains(m, what+" "+i.Namespace+"/"+i.Name), "because"
}

func (may) PluralOf(k schema.GroupVersionKind) (string, bool, bool) {
	switch k.String() {
	case "apps/v1, Kind=ReplicaSet":
		return "replicasets", true, true
	case "/v1, Kind=Node":
		return "nodes", false, true
	}
	return "", false, false
}

func TestOwnerReferences(t *testing.T) {
	owned := func(refs ...metav1.OwnerReference) *corev1.Pod {
		return aPod(func(p *corev1.Pod) { p.OwnerReferences = refs })
	}
	ref := func(api, kind, name string, block bool) metav1.OwnerReference {
		return metav1.OwnerReference{APIVersion: api, Kind: kind, Name: name, UID: types.UID(name), BlockOwnerDeletion: ptr.To(block)}
	}
	rs, free := ref("apps/v1", "ReplicaSet", "rs", true), ref("apps/v1", "ReplicaSet", "rs", false)
	node, odd, wrong := ref("v1", "Node", "n", true), ref("x/v1", "Odd", "o", true), ref("a/b/c", "Odd", "o", true)
	status := attributes(admission.Update, podKind, owned(rs), owned())
	status.Subresource = "status"
	for _, c := range []struct {
		name  string
		may   may
		a     *admission.Attributes
		words string
	}{
		{"a new one", nil, attributes(admission.Create, podKind, owned(free), nil), ""},
		{"a new one that blocks", nil, attributes(admission.Create, podKind, owned(rs), nil),
			"cannot set blockOwnerDeletion if an ownerReference refers to a resource you can't set finalizers on: because"},
		{"and may", may{"update replicasets/finalizers a/rs"}, attributes(admission.Create, podKind, owned(rs), nil), ""},
		{"blocks what is in no namespace", may{"update nodes/finalizers /n"}, attributes(admission.Create, podKind, owned(node), nil), ""},
		{"nothing changes", nil, attributes(admission.Update, podKind, owned(rs), owned(rs)), ""},
		{"another owner", nil, attributes(admission.Update, podKind, owned(free), owned()), "cannot set an ownerRef on a resource you can't delete: because"},
		{"no owner", nil, attributes(admission.Update, podKind, owned(), owned(free)), "cannot set an ownerRef on a resource you can't delete"},
		{"another owner, and may", may{"delete pods a/p"}, attributes(admission.Update, podKind, owned(free), owned()), ""},
		{"begins to block", may{"delete pods a/p"}, attributes(admission.Update, podKind, owned(rs), owned(free)), "cannot set blockOwnerDeletion"},
		{"blocked already", may{"delete pods a/p"}, attributes(admission.Update, podKind, owned(rs, ref("v1", "Node", "n", false)), owned(rs)), ""},
		{"an unknown kind", nil, attributes(admission.Create, podKind, owned(odd), nil), "cannot find RESTMapping for APIVersion x/v1 Kind Odd"},
		{"no version", nil, attributes(admission.Create, podKind, owned(wrong), nil), "APIVersion a/b/c"},
		{"a status", nil, status, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			reason := metav1.StatusReason("")
			if c.words != "" {
				reason = metav1.StatusReasonForbidden
			}
			refused(t, both(t.Context(), &ownerReferences{c.may, c.may}, c.a), reason, c.words)
		})
	}
}
