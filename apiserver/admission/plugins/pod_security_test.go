package plugins

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"pilothouse.dev/apiserver/admission"
	"pilothouse.dev/apiserver/configfile"
	"pilothouse.dev/apiserver/registry"
	"pilothouse.dev/apiserver/request"
)

var (
	deploymentKind = define[*appsv1.Deployment]("apps", "Deployment", "deployments", true)
	cronJobKind    = define[*batchv1.CronJob]("batch", "CronJob", "cronjobs", true)
	rcKind         = define[*corev1.ReplicationController]("", "ReplicationController", "replicationcontrollers", true)
)

// heard is what a client and audit were told.
type heard struct {
	warnings []string
	notes    map[string]string
}

// listening is a context that hears.
func listening(ctx context.Context, h *heard) (context.Context, func()) {
	ctx = request.Begin(ctx, &request.Info{}, nil, func(text string) { h.warnings = append(h.warnings, text) })
	request.Listen(ctx)
	return ctx, func() { h.notes = request.RecordOf(ctx).Facts().Notes }
}

// spaces are namespaces by their labels.
type spaces map[string]map[string]string

func (s spaces) Namespace(_ context.Context, name string) (*corev1.Namespace, error) {
	if labels, ok := s[name]; ok {
		return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}}, nil
	}
	return nil, errors.New("etcd is away")
}

// residents are the pods of every namespace.
type residents []*corev1.Pod

func (r residents) PodsIn(_ context.Context, _ string, most int) ([]*corev1.Pod, int, error) {
	if r == nil {
		return nil, 0, errors.New("etcd is away")
	}
	return r[:min(most, len(r))], len(r), nil
}

// secure is the plugin with a configuration, "" for none.
func secure(t *testing.T, config string, s spaces, r residents) *podSecurity {
	t.Helper()
	p := &podSecurity{namespaces: s, pods: r}
	d := configfile.Document{}
	if config != "" {
		var err error
		if d, err = configfile.Read(write(t, t.TempDir(), "podsecurity.yaml", podSecurityHead+config)); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.configure(d); err != nil {
		t.Fatal(err)
	}
	return p
}

const podSecurityHead = "apiVersion: pod-security.admission.config.k8s.io/v1\nkind: PodSecurityConfiguration\n"

func levels(pairs ...string) map[string]string {
	m := map[string]string{}
	for i := 0; i < len(pairs); i += 2 {
		m["pod-security.kubernetes.io/"+pairs[i]] = pairs[i+1]
	}
	return m
}

func running(c *corev1.SecurityContext) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Spec.Containers = []corev1.Container{{Name: "c", Image: "i", SecurityContext: c}}
	}
}

// The three levels' pods.
var (
	plainPod      = running(nil)
	privilegedPod = running(&corev1.SecurityContext{Privileged: ptr.To(true)})
	restrictedPod = running(&corev1.SecurityContext{
		AllowPrivilegeEscalation: ptr.To(false), RunAsNonRoot: ptr.To(true),
		Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}}, SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
	})
)

const plainFaults = `PodSecurity "restricted:latest": allowPrivilegeEscalation != false (container "c" must set securityContext.allowPrivilegeEscalation=false), ` +
	`unrestricted capabilities (container "c" must set securityContext.capabilities.drop=["ALL"]), ` +
	`runAsNonRoot != true (pod or container "c" must set securityContext.runAsNonRoot=true), ` +
	`seccompProfile (pod or container "c" must set securityContext.seccompProfile.type to "RuntimeDefault" or "Localhost")`

func TestPodSecurityOfPods(t *testing.T) {
	s := spaces{
		"a": nil, "restricted": levels("enforce", "restricted"), "baseline": levels("enforce", "baseline"),
		"old": levels("enforce", "baseline", "enforce-version", "v1.0"), "watched": levels("audit", "restricted", "warn", "baseline"), "wrong": levels("enforce", "none"),
		"exempt": levels("enforce", "restricted"),
	}
	p := secure(t, "exemptions:\n  usernames: [root]\n  namespaces: [exempt]\n  runtimeClasses: [vm]\n", s, nil)
	in := func(ns string, change ...func(*corev1.Pod)) *corev1.Pod {
		return aPod(func(p *corev1.Pod) {
			p.Namespace = ns
			for _, c := range change {
				c(p)
			}
		})
	}
	create := func(o *corev1.Pod) *admission.Attributes { return attributes(admission.Create, podKind, o, nil) }
	update := func(sub string, o, old *corev1.Pod) *admission.Attributes {
		a := attributes(admission.Update, podKind, o, old)
		a.Subresource = sub
		return a
	}
	vm := func(p *corev1.Pod) { p.Spec.RuntimeClassName = ptr.To("vm") }
	image := func(p *corev1.Pod) { p.Spec.Containers[0].Image = "other" }
	debug := func(p *corev1.Pod) {
		p.Spec.EphemeralContainers = []corev1.EphemeralContainer{{EphemeralContainerCommon: corev1.EphemeralContainerCommon{Name: "d", Image: "x"}}}
	}
	asRoot := create(in("restricted", privilegedPod))
	asRoot.User = &request.User{Name: "root"}
	for _, c := range []struct {
		name    string
		a       *admission.Attributes
		refusal string
		warning string
		notes   map[string]string
	}{
		{"where all may", create(in("a", privilegedPod)), "", "", map[string]string{"enforce-policy": "privileged:latest"}},
		{"plain in restricted", create(in("restricted", plainPod)), `pods "p" is forbidden: violates ` + plainFaults, "", map[string]string{"enforce-policy": "restricted:latest"}},
		{"restricted in restricted", create(in("restricted", restrictedPod)), "", "", nil},
		{"plain in baseline", create(in("baseline", plainPod)), "", "", nil},
		{"privileged in baseline", create(in("baseline", privilegedPod)),
			`violates PodSecurity "baseline:latest": privileged (container "c" must not set securityContext.privileged=true)`, "", nil},
		{"an old level", create(in("old", privilegedPod)), `violates PodSecurity "baseline:v1.0": privileged`, "", nil},
		{"watched", create(in("watched", privilegedPod)), "", `would violate PodSecurity "baseline:latest": privileged (container "c" must not set securityContext.privileged=true)`,
			map[string]string{"enforce-policy": "privileged:latest", "audit-violations": `would violate PodSecurity "restricted:latest": privileged`}},
		{"wrong labels are strict", create(in("wrong", plainPod)), `violates ` + plainFaults, "", map[string]string{"error": "Failed to parse policy: metadata.labels[pod-security.kubernetes.io/enforce]"}},
		{"no answer", create(in("away", plainPod)), `failed to lookup namespace "away"`, "", nil},
		{"an exempt namespace", create(in("exempt", privilegedPod)), "", "", map[string]string{"exempt": "namespace"}},
		{"an exempt user", asRoot, "", "", map[string]string{"exempt": "user"}},
		{"an exempt runtime", create(in("restricted", privilegedPod, vm)), "", "", map[string]string{"exempt": "runtimeClass"}},
		{"nothing new", update("", in("restricted", plainPod), in("restricted", plainPod)), "", "", nil},
		{"another image", update("", in("restricted", plainPod, image), in("restricted", plainPod)), "violates PodSecurity", "", nil},
		{"a debugger", update("ephemeralcontainers", in("restricted", restrictedPod, debug), in("restricted", restrictedPod)),
			`container "d" must set securityContext.allowPrivilegeEscalation=false`, "", nil},
		{"the same debugger", update("ephemeralcontainers", in("restricted", restrictedPod, debug), in("restricted", restrictedPod, debug)), "", "", nil},
		{"a resize", update("resize", in("restricted", plainPod), in("restricted", plainPod)), "", "", nil},
		{"a resize that smuggles", update("resize", in("restricted", plainPod, image), in("restricted", plainPod)), "violates PodSecurity", "", nil},
		{"its status", update("status", in("restricted", plainPod, image), in("restricted", plainPod)), "", "", nil},
		{"its end", attributes(admission.Delete, podKind, nil, in("restricted", plainPod)), "", "", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			var h heard
			ctx, done := listening(t.Context(), &h)
			err := p.Validate(ctx, c.a)
			done()
			if c.refusal == "" && err != nil || c.refusal != "" && (err == nil || !strings.Contains(err.Error(), c.refusal)) {
				t.Errorf("got %v, want %q", err, c.refusal)
			}
			if got := strings.Join(h.warnings, "\n"); got != c.warning {
				t.Errorf("warned %q, want %q", got, c.warning)
			}
			for key, value := range c.notes {
				if got := h.notes["pod-security.kubernetes.io/"+key]; !strings.HasPrefix(got, value) {
					t.Errorf("audit is told %s=%q, want %q", key, got, value)
				}
			}
		})
	}
}

func TestPodSecurityOfTemplates(t *testing.T) {
	p := secure(t, "", spaces{"a": levels("enforce", "restricted"), "b": levels("enforce", "restricted", "warn", "privileged")}, nil)
	spec := aPod(plainPod).Spec
	template := corev1.PodTemplateSpec{Spec: spec}
	deployment := func(ns string) *appsv1.Deployment {
		return &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "d"}, Spec: appsv1.DeploymentSpec{Template: template}}
	}
	scaled := attributes(admission.Update, deploymentKind, deployment("a"), deployment("a"))
	scaled.Subresource = "status"
	for _, c := range []struct {
		name  string
		a     *admission.Attributes
		warns bool
	}{
		{"deployment", attributes(admission.Create, deploymentKind, deployment("a"), nil), true},
		{"update", attributes(admission.Update, deploymentKind, deployment("a"), deployment("a")), true},
		{"its status", scaled, false},
		{"where nobody is warned", attributes(admission.Create, deploymentKind, deployment("b"), nil), false},
		{"cron job", attributes(admission.Create, cronJobKind, &batchv1.CronJob{ObjectMeta: metav1.ObjectMeta{Namespace: "a"},
			Spec: batchv1.CronJobSpec{JobTemplate: batchv1.JobTemplateSpec{Spec: batchv1.JobSpec{Template: template}}}}, nil), true},
		{"replication controller without a template", attributes(admission.Create, rcKind, &corev1.ReplicationController{ObjectMeta: metav1.ObjectMeta{Namespace: "a"}}, nil), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			var h heard
			ctx, _ := listening(t.Context(), &h)
			if err := p.Validate(ctx, c.a); err != nil {
				t.Fatal(err)
			}
			var want []string
			if c.warns {
				want = []string{"would violate " + plainFaults}
			}
			if !slices.Equal(h.warnings, want) {
				t.Errorf("warned %q, want %q", h.warnings, want)
			}
		})
	}
}

func TestPodSecurityOfNamespaces(t *testing.T) {
	named := func(name, owner string, change func(*corev1.Pod)) *corev1.Pod {
		return aPod(func(p *corev1.Pod) {
			change(p)
			p.Name = name
			if owner != "" {
				p.OwnerReferences = []metav1.OwnerReference{{UID: types.UID(owner), Controller: ptr.To(true)}}
			}
		})
	}
	few := residents{named("z", "", privilegedPod), named("b", "rs", plainPod), named("a", "rs", plainPod), named("c", "rs", plainPod), named("ok", "", restrictedPod)}
	var many residents
	for i := range mostPods + 1 {
		many = append(many, named(fmt.Sprint("p", i), "", restrictedPod))
	}
	const plain = "allowPrivilegeEscalation != false, unrestricted capabilities, runAsNonRoot != true, seccompProfile"
	for _, c := range []struct {
		name     string
		pods     residents
		ns       string
		old, new map[string]string // no old: a create
		refusal  string
		warnings []string
	}{
		{"a new one", few, "a", nil, levels("enforce", "restricted"), "", nil},
		{"a new one with a wrong level", few, "a", nil, levels("enforce", "none"),
			`Namespace "a" is invalid: metadata.labels[pod-security.kubernetes.io/enforce]: Invalid value: "none": must be one of privileged, baseline, restricted`, nil},
		{"a new one with a wrong version", few, "a", nil, levels("warn-version", "1.2"), `must be "latest" or "v1.x"`, nil},
		{"becomes wrong", few, "a", levels(), levels("audit", "none"), "Invalid value", nil},
		{"stays wrong", few, "a", levels("audit", "none"), levels("audit", "none"), "", nil},
		{"stays wrong and gets worse", few, "a", levels("audit", "none"), levels("audit", "nothing"), "Invalid value", nil},
		{"becomes strict", few, "a", levels(), levels("enforce", "restricted"), "", []string{
			`existing pods in namespace "a" violate the new PodSecurity enforce level "restricted:latest"`,
			"a (and 2 other pods): " + plain, "z: privileged, " + plain,
		}},
		{"becomes less strict", few, "a", levels("enforce", "restricted"), levels("enforce", "baseline"), "", nil},
		{"becomes as strict as it was", few, "a", levels("enforce", "baseline"), levels("enforce", "baseline"), "", nil},
		{"another version", few, "a", levels("enforce", "restricted"), levels("enforce", "baseline", "enforce-version", "v1.25"), "",
			[]string{`existing pods in namespace "a" violate the new PodSecurity enforce level "baseline:v1.25"`, "z: privileged"}},
		{"nobody there", residents{}, "a", levels(), levels("enforce", "restricted"), "", nil},
		{"too many", many, "a", levels(), levels("enforce", "restricted"), "",
			[]string{"new PodSecurity enforce level only checked against the first 3000 of 3001 existing pods"}},
		{"no answer", nil, "a", levels(), levels("enforce", "restricted"), "", []string{"failed to list pods while checking new PodSecurity enforce level"}},
		{"exempt", few, "exempt", levels(), levels("enforce", "restricted", "warn-version", "v1.30"), "",
			[]string{`namespace "exempt" is exempt from Pod Security, and the policy (enforce=restricted:latest, warn=restricted:v1.30) will be ignored`}},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := secure(t, "exemptions: {namespaces: [exempt]}", nil, c.pods)
			ns := func(labels map[string]string) registry.Object {
				return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: c.ns, Labels: labels}}
			}
			a := attributes(admission.Create, namespaceKind, ns(c.new), nil)
			if c.old != nil {
				a = attributes(admission.Update, namespaceKind, ns(c.new), ns(c.old))
			}
			var h heard
			ctx, _ := listening(t.Context(), &h)
			err := p.Validate(ctx, a)
			reason := metav1.StatusReason("")
			if c.refusal != "" {
				reason = metav1.StatusReasonInvalid
			}
			refused(t, err, reason, c.refusal)
			if !slices.Equal(h.warnings, c.warnings) {
				t.Errorf("warned %q, want %q", h.warnings, c.warnings)
			}
		})
	}
}

func TestPodSecurityConfiguration(t *testing.T) {
	for _, c := range []struct {
		name, text string
		words      []string
	}{
		{"all of it", "defaults:\n  enforce: baseline\n  enforce-version: latest\n  audit: restricted\n  audit-version: v1.30\n  warn: restricted\n  warn-version: latest\n" +
			"exemptions:\n  usernames: [a, 'system:b']\n  namespaces: [kube-system]\n  runtimeClasses: [vm]\n", nil},
		{"nothing", "", nil},
		{"a wrong level", "defaults:\n  enforce: none\n", []string{"line 4", `defaults.enforce: Invalid value: "none": must be one of privileged, baseline, restricted`}},
		{"a wrong version", "defaults:\n  warn-version: \"1.30\"\n", []string{"line 4", `defaults.warn-version: Invalid value: "1.30": must be "latest" or "v1.x"`}},
		{"a mode that is none", "defaults:\n  deny: restricted\n", []string{`defaults: Unsupported value: "deny"`}},
		{"a namespace twice", "exemptions:\n  namespaces: [a, a]\n", []string{"line 4", `exemptions.namespaces[1]: Duplicate value: "a"`}},
		{"a name that is none", "exemptions:\n  namespaces:\n  - a\n  - A_b\n", []string{"line 6", `exemptions.namespaces[1]: Invalid value: "A_b"`}},
		{"a nameless user", "exemptions: {usernames: ['']}\n", []string{"username must not be empty"}},
		{"an unknown field", "exemption: {}\n", []string{"line 3", `unknown field "exemption"`}},
	} {
		t.Run(c.name, func(t *testing.T) {
			d, err := configfile.Read(write(t, t.TempDir(), "podsecurity.yaml", podSecurityHead+c.text))
			if err != nil {
				t.Fatal(err)
			}
			failed(t, (&podSecurity{}).configure(d), c.words...)
		})
	}
	p := secure(t, "defaults: {enforce: baseline}", spaces{"a": nil}, nil)
	refused(t, p.Validate(t.Context(), attributes(admission.Create, podKind, aPod(privilegedPod), nil)), metav1.StatusReasonForbidden, `violates PodSecurity "baseline:latest"`)
}

func TestPodSecurityCounts(t *testing.T) {
	all := prometheus.NewRegistry()
	p := secure(t, "exemptions: {usernames: [root]}", spaces{"a": levels("enforce", "baseline", "warn", "restricted", "warn-version", "v1.99")}, nil)
	p.counts = newPodSecurityCounts(all)
	for _, change := range []func(*corev1.Pod){plainPod, plainPod, privilegedPod} {
		_ = p.Validate(t.Context(), attributes(admission.Create, podKind, aPod(change), nil)) // what it says is not the question
	}
	asRoot := attributes(admission.Create, podKind, aPod(privilegedPod), nil)
	asRoot.User = &request.User{Name: "root"}
	if err := p.Validate(t.Context(), asRoot); err != nil {
		t.Fatal(err)
	}
	want := `# HELP pod_security_evaluations_total Number of policy evaluations that occurred, not counting ignored or exempt requests.
# TYPE pod_security_evaluations_total counter
pod_security_evaluations_total{decision="allow",mode="enforce",policy_level="baseline",policy_version="latest",request_operation="create",resource="pod",subresource=""} 2
pod_security_evaluations_total{decision="deny",mode="enforce",policy_level="baseline",policy_version="latest",request_operation="create",resource="pod",subresource=""} 1
pod_security_evaluations_total{decision="deny",mode="warn",policy_level="restricted",policy_version="future",request_operation="create",resource="pod",subresource=""} 2
# HELP pod_security_exemptions_total Number of exempt requests, not counting ignored or out of scope requests.
# TYPE pod_security_exemptions_total counter
pod_security_exemptions_total{request_operation="create",resource="pod",subresource=""} 1
`
	if err := testutil.GatherAndCompare(all, strings.NewReader(want)); err != nil {
		t.Error(err)
	}
}
