package plugins

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"

	"pilothouse.dev/apiserver/admission"
	"pilothouse.dev/apiserver/request"
)

// How much is looked at when a namespace becomes stricter: a warning is not worth more.
const (
	mostPods    = 3000
	mostLooking = time.Second
)

// namespace refuses labels that mean nothing, and warns when pods that are there would not be let in any more.
func (p *podSecurity) namespace(ctx context.Context, a *admission.Attributes) error {
	ns, ok := a.Object.(*corev1.Namespace)
	if a.Subresource != "" || !ok {
		return nil
	}
	now, errs := api.PolicyToEvaluate(ns.Labels, p.defaults)
	var before api.Policy
	if old, ok := a.Old.(*corev1.Namespace); ok && a.Operation == admission.Update {
		was, oldErrs := api.PolicyToEvaluate(old.Labels, p.defaults)
		if len(errs) > 0 && errs.ToAggregate().Error() == fmt.Sprint(oldErrs.ToAggregate()) {
			errs = nil // it was wrong before; to change something else must be possible
		}
		before = was
	}
	if len(errs) > 0 {
		return apierrors.NewInvalid(a.Resource.GVK.GroupKind(), a.Name, errs)
	}
	if a.Operation == admission.Update && !stricter(before.Enforce, now.Enforce) {
		return nil
	}
	if p.exempt.namespaces.Has(a.Name) {
		if ignored := p.ignored(ns.Labels, now); ignored != "" {
			request.Warn(ctx, fmt.Sprintf("namespace %q is exempt from Pod Security, and the policy (%s) will be ignored", a.Name, ignored))
		}
		return nil
	}
	if a.Operation == admission.Update {
		for _, text := range p.violators(ctx, a.Name, now.Enforce) {
			request.Warn(ctx, text)
		}
	}
	return nil
}

// stricter says whether pods that were let in might not be any more. Of two versions nobody knows.
func stricter(before, now api.LevelVersion) bool {
	return now.Level != api.LevelPrivileged && now != before &&
		(now.Version != before.Version || api.CompareLevels(now.Level, before.Level) > 0)
}

// ignored tells what the labels of an exempt namespace ask for, empty when that is nothing.
func (p *podSecurity) ignored(labels map[string]string, now api.Policy) string {
	if now.FullyPrivileged() || now.Equivalent(&p.defaults) {
		return ""
	}
	var said []string
	for _, mode := range []struct {
		name, level, version string
		lv                   api.LevelVersion
	}{
		{"enforce", api.EnforceLevelLabel, api.EnforceVersionLabel, now.Enforce},
		{"audit", api.AuditLevelLabel, api.AuditVersionLabel, now.Audit},
		{"warn", api.WarnLevelLabel, api.WarnVersionLabel, now.Warn},
	} {
		_, level := labels[mode.level]
		_, version := labels[mode.version]
		if mode.lv.Level != api.LevelPrivileged && (level || version) {
			said = append(said, mode.name+"="+mode.lv.String())
		}
	}
	return strings.Join(said, ", ")
}

// violators words which pods of a namespace would not be let in, those that have the same faults together.
func (p *podSecurity) violators(ctx context.Context, namespace string, lv api.LevelVersion) []string {
	within := mostLooking
	if end, ok := ctx.Deadline(); ok {
		within = min(within, time.Until(end)/2)
	}
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	pods, all, err := p.pods.PodsIn(ctx, namespace, mostPods)
	if err != nil {
		return []string{"failed to list pods while checking new PodSecurity enforce level"}
	}
	faults := map[string][]string{} // names of pods by what is wrong with them
	looked := 0
	for _, o := range oneOfEach(pods) {
		if ctx.Err() != nil {
			break
		}
		looked++
		if o.Spec.RuntimeClassName != nil && p.exempt.runtimeClasses.Has(*o.Spec.RuntimeClassName) {
			continue
		}
		if r := policy.AggregateCheckResults(p.levels.EvaluatePod(lv, &o.ObjectMeta, &o.Spec)); !r.Allowed {
			faults[r.ForbiddenReason()] = append(faults[r.ForbiddenReason()], o.Name)
		}
	}
	var out []string
	if looked < all {
		out = append(out, fmt.Sprintf("new PodSecurity enforce level only checked against the first %d of %d existing pods", looked, all))
	}
	if len(faults) == 0 {
		return out
	}
	out = append(out, fmt.Sprintf("existing pods in namespace %q violate the new PodSecurity enforce level %q", namespace, lv.String()))
	var lines []string
	for fault, names := range faults {
		who := slices.Min(names)
		switch n := len(names) - 1; n {
		case 0:
		case 1:
			who += " (and 1 other pod)"
		default:
			who += fmt.Sprintf(" (and %d other pods)", n)
		}
		lines = append(lines, who+": "+fault)
	}
	slices.Sort(lines)
	return append(out, lines...)
}

// oneOfEach puts one pod of each controller first, since its siblings mostly are like it.
func oneOfEach(pods []*corev1.Pod) []*corev1.Pod {
	seen := map[types.UID]bool{}
	out := make([]*corev1.Pod, 0, len(pods))
	var siblings []*corev1.Pod
	for _, o := range pods {
		if owner := metav1.GetControllerOfNoCopy(o); owner == nil {
			out = append(out, o)
		} else if seen[owner.UID] {
			siblings = append(siblings, o)
		} else {
			seen[owner.UID] = true
			out = append(out, o)
		}
	}
	return append(out, siblings...)
}
