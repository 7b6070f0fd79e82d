package job

import (
	"fmt"
	"slices"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
)

// ruling is what a pod failure policy says of one failed pod.
type ruling struct {
	action  batchv1.PodFailurePolicyAction // of the first rule that matches; empty: none does
	message string                         // which rule matched, and why
	counts  bool                           // towards the backoff limits
}

// judge finds the first rule that matches a failed pod. Without a policy, or a rule, the failure counts. Rules with an action
// that we do not know are passed over, as the documentation of the field asks.
func judge(policy *batchv1.PodFailurePolicy, p *corev1.Pod) ruling {
	if policy == nil {
		return ruling{counts: true}
	}
	for i, r := range policy.Rules {
		switch r.Action {
		case batchv1.PodFailurePolicyActionIgnore, batchv1.PodFailurePolicyActionCount, batchv1.PodFailurePolicyActionFailIndex, batchv1.PodFailurePolicyActionFailJob:
		default:
			continue
		}
		why := ""
		if c := exited(r.OnExitCodes, p); c != nil {
			why = fmt.Sprintf("Container %s for pod %s/%s failed with exit code %d", c.Name, p.Namespace, p.Name, c.State.Terminated.ExitCode)
		} else if c := conditioned(r.OnPodConditions, p); c != "" {
			why = fmt.Sprintf("Pod %s/%s has condition %s", p.Namespace, p.Name, c)
		} else {
			continue
		}
		return ruling{
			action: r.Action, counts: r.Action != batchv1.PodFailurePolicyActionIgnore,
			message: fmt.Sprintf("%s matching %s rule at index %d", why, r.Action, i),
		}
	}
	return ruling{counts: true}
}

// exited finds a container that failed with a code the rule is about; those that ended well never match.
func exited(rule *batchv1.PodFailurePolicyOnExitCodesRequirement, p *corev1.Pod) *corev1.ContainerStatus {
	if rule == nil {
		return nil
	}
	for _, list := range [][]corev1.ContainerStatus{p.Status.ContainerStatuses, p.Status.InitContainerStatuses} {
		for i := range list {
			c := &list[i]
			if c.State.Terminated == nil || c.State.Terminated.ExitCode == 0 || rule.ContainerName != nil && *rule.ContainerName != c.Name {
				continue
			}
			listed := slices.Contains(rule.Values, c.State.Terminated.ExitCode)
			switch rule.Operator {
			case batchv1.PodFailurePolicyOnExitCodesOpIn:
				if listed {
					return c
				}
			case batchv1.PodFailurePolicyOnExitCodesOpNotIn:
				if !listed {
					return c
				}
			}
		}
	}
	return nil
}

// conditioned finds a condition of the pod that the rule is about, empty when there is none.
func conditioned(rule []batchv1.PodFailurePolicyOnPodConditionsPattern, p *corev1.Pod) corev1.PodConditionType {
	for _, r := range rule {
		for _, c := range p.Status.Conditions {
			if c.Type == r.Type && c.Status == r.Status {
				return c.Type
			}
		}
	}
	return ""
}
