package plugins

import (
	"context"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"

	"pilothouse.dev/apiserver/admission"
	"pilothouse.dev/apiserver/registry"
	"pilothouse.dev/apiserver/request"
)

// podSecurity holds pods to the level that the labels of their namespace set, warns of templates whose pods would be refused, and
// tells audit (https://kubernetes.io/docs/concepts/security/pod-security-admission/). What a level demands is upstream's library's to
// say; nothing else of it is used.
type podSecurity struct {
	namespaces Namespaces
	pods       PodLists
	counts     *podSecurityCounts

	// Set by configure, before it runs.
	defaults api.Policy
	exempt   exemptions
	levels   policy.Evaluator
}

// PodLists finds pods of a namespace.
type PodLists interface {
	// PodsIn reads at most so many, those that are at hand, and says how many there are.
	PodsIn(ctx context.Context, namespace string, most int) (pods []*corev1.Pod, all int, err error)
}

func (*podSecurity) Name() string { return "PodSecurity" }

func (p *podSecurity) Validate(ctx context.Context, a *admission.Attributes) error {
	if a.Operation != admission.Create && a.Operation != admission.Update {
		return nil
	}
	switch a.Resource.GVK.Group {
	case "":
		switch a.Resource.Plural {
		case "pods":
			return p.pod(ctx, a)
		case "namespaces":
			return p.namespace(ctx, a)
		case "replicationcontrollers", "podtemplates":
			return p.template(ctx, a)
		}
	case "apps":
		switch a.Resource.Plural {
		case "deployments", "replicasets", "statefulsets", "daemonsets":
			return p.template(ctx, a)
		}
	case "batch":
		switch a.Resource.Plural {
		case "jobs", "cronjobs":
			return p.template(ctx, a)
		}
	}
	return nil
}

// harmless are the subresources of pods that change nothing a level looks at. What is not listed is looked at.
var harmless = map[string]bool{
	"attach": true, "binding": true, "eviction": true, "exec": true, "log": true, "portforward": true, "proxy": true, "status": true,
}

func (p *podSecurity) pod(ctx context.Context, a *admission.Attributes) error {
	if harmless[a.Subresource] || p.exempted(ctx, a, a.Namespace) {
		return nil
	}
	rules, err := p.rules(ctx, a)
	if err != nil {
		return err
	}
	if rules.wrong == nil && rules.FullyPrivileged() {
		if request.Audited(ctx) {
			note(ctx, api.EnforcedPolicyAnnotationKey, rules.Enforce.String())
		}
		p.counts.evaluated(a, "allow", rules.Enforce, "enforce")
		return nil
	}
	o, ok := a.Object.(*corev1.Pod)
	if !ok {
		return apierrors.NewBadRequest("failed to decode pod")
	}
	if old, ok := a.Old.(*corev1.Pod); ok && a.Operation == admission.Update && !runsOther(o, old) {
		return nil
	}
	return p.judge(ctx, a, rules, &o.ObjectMeta, &o.Spec, true)
}

// template warns of what makes pods: they themselves will be refused.
func (p *podSecurity) template(ctx context.Context, a *admission.Attributes) error {
	if a.Subresource != "" {
		return nil
	}
	t := templateOf(a.Object)
	if t == nil || p.exempted(ctx, a, a.Namespace) {
		return nil
	}
	rules, err := p.rules(ctx, a)
	if err != nil {
		return err
	}
	if rules.wrong == nil && rules.Warn.Level == api.LevelPrivileged && rules.Audit.Level == api.LevelPrivileged {
		return nil
	}
	return p.judge(ctx, a, rules, &t.ObjectMeta, &t.Spec, false)
}

func templateOf(obj registry.Object) *corev1.PodTemplateSpec {
	switch o := obj.(type) {
	case *corev1.PodTemplate:
		return &o.Template
	case *corev1.ReplicationController:
		return o.Spec.Template
	case *appsv1.Deployment:
		return &o.Spec.Template
	case *appsv1.ReplicaSet:
		return &o.Spec.Template
	case *appsv1.StatefulSet:
		return &o.Spec.Template
	case *appsv1.DaemonSet:
		return &o.Spec.Template
	case *batchv1.Job:
		return &o.Spec.Template
	case *batchv1.CronJob:
		return &o.Spec.JobTemplate.Spec.Template
	}
	return nil
}

// rules are what a namespace demands. With wrong labels, what they would say is the strictest where it refuses.
type rules struct {
	api.Policy
	wrong error
}

func (p *podSecurity) rules(ctx context.Context, a *admission.Attributes) (rules, error) {
	ns, err := p.namespaces.Namespace(ctx, a.Namespace)
	if err != nil {
		p.counts.failed(a, true)
		return rules{}, apierrors.NewInternalError(fmt.Errorf("failed to lookup namespace %q", a.Namespace))
	}
	r, errs := api.PolicyToEvaluate(ns.Labels, p.defaults)
	return rules{r, errs.ToAggregate()}, nil
}

// judge refuses what the namespace does not allow, tells audit, and warns of what is not refused.
func (p *podSecurity) judge(ctx context.Context, a *admission.Attributes, r rules, meta *metav1.ObjectMeta, spec *corev1.PodSpec, enforce bool) error {
	if spec.RuntimeClassName != nil && p.exempt.runtimeClasses.Has(*spec.RuntimeClassName) {
		p.counts.exempted(a)
		note(ctx, api.ExemptionReasonAnnotationKey, "runtimeClass")
		return nil
	}
	if r.wrong != nil {
		p.counts.failed(a, false)
		note(ctx, "error", "Failed to parse policy: "+r.wrong.Error())
	}
	seen := make(map[api.LevelVersion]string, 3) // what is wrong, by level; mostly they are the same
	wrong := func(lv api.LevelVersion) string {
		what, ok := seen[lv]
		if !ok {
			if all := policy.AggregateCheckResults(p.levels.EvaluatePod(lv, meta, spec)); !all.Allowed {
				what = fmt.Sprintf("PodSecurity %q: %s", lv.String(), all.ForbiddenDetail())
			}
			seen[lv] = what
		}
		return what
	}
	var refusal error
	if enforce {
		if request.Audited(ctx) {
			note(ctx, api.EnforcedPolicyAnnotationKey, r.Enforce.String())
		}
		if what := wrong(r.Enforce); what != "" {
			refusal = forbid(a, "violates %s", what)
			p.counts.evaluated(a, "deny", r.Enforce, "enforce")
		} else {
			p.counts.evaluated(a, "allow", r.Enforce, "enforce")
		}
	}
	if what := wrong(r.Audit); what != "" {
		note(ctx, api.AuditViolationsAnnotationKey, "would violate "+what)
		p.counts.evaluated(a, "deny", r.Audit, "audit")
	}
	if refusal != nil { // who is refused needs no warning
		return refusal
	}
	if what := wrong(r.Warn); what != "" {
		request.Warn(ctx, "would violate "+what)
		p.counts.evaluated(a, "deny", r.Warn, "warn")
	}
	return nil
}

// exempted says whether a namespace or the user is exempt.
func (p *podSecurity) exempted(ctx context.Context, a *admission.Attributes, namespace string) bool {
	why := ""
	switch {
	case p.exempt.namespaces.Has(namespace):
		why = "namespace"
	case a.User != nil && p.exempt.users.Has(a.User.Name):
		why = "user"
	default:
		return false
	}
	p.counts.exempted(a)
	note(ctx, api.ExemptionReasonAnnotationKey, why)
	return true
}

// note tells audit.
func note(ctx context.Context, key, value string) {
	request.Note(ctx, api.AuditAnnotationPrefix+key, value)
}

// runsOther says whether an update lets a pod run something else than before. Nothing else that can change is looked at by a level,
// so a pod that was there before its namespace became strict goes on.
func runsOther(o, old *corev1.Pod) bool {
	if len(o.Spec.Containers) != len(old.Spec.Containers) || len(o.Spec.InitContainers) != len(old.Spec.InitContainers) {
		return true
	}
	for i := range o.Spec.Containers {
		if o.Spec.Containers[i].Image != old.Spec.Containers[i].Image {
			return true
		}
	}
	for i := range o.Spec.InitContainers {
		if o.Spec.InitContainers[i].Image != old.Spec.InitContainers[i].Image {
			return true
		}
	}
	had := make(map[string]string, len(old.Spec.EphemeralContainers))
	for _, c := range old.Spec.EphemeralContainers {
		had[c.Name] = c.Image
	}
	for _, c := range o.Spec.EphemeralContainers {
		if image, ok := had[c.Name]; !ok || image != c.Image {
			return true
		}
	}
	return false
}
