package node

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// health is what conditions are made of.
type health struct {
	runtime, network   error // nil: works
	memory, disk, pids bool  // short
}

// conditions says how the node is, without times.
func conditions(h health) []corev1.NodeCondition {
	pressure := func(kind corev1.NodeConditionType, short bool, resource, has, hasNot string) corev1.NodeCondition {
		if short {
			return corev1.NodeCondition{Type: kind, Status: corev1.ConditionTrue, Reason: "KubeletHas" + resource, Message: has}
		}
		return corev1.NodeCondition{Type: kind, Status: corev1.ConditionFalse, Reason: hasNot, Message: "kubelet has " + map[string]string{
			"InsufficientMemory": "sufficient memory available", "DiskPressure": "no disk pressure", "InsufficientPID": "sufficient PID available"}[resource]}
	}
	ready := corev1.NodeCondition{Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "KubeletReady", Message: "kubelet is posting ready status"}
	var wrong []string
	if h.runtime != nil {
		wrong = append(wrong, "container runtime is down: "+h.runtime.Error())
	}
	if h.network != nil {
		wrong = append(wrong, "container runtime network not ready: "+h.network.Error())
	}
	if len(wrong) > 0 {
		ready.Status, ready.Reason, ready.Message = corev1.ConditionFalse, "KubeletNotReady", strings.Join(wrong, "; ")
	}
	return []corev1.NodeCondition{
		pressure(corev1.NodeMemoryPressure, h.memory, "InsufficientMemory", "kubelet has insufficient memory available", "KubeletHasSufficientMemory"),
		pressure(corev1.NodeDiskPressure, h.disk, "DiskPressure", "kubelet has disk pressure", "KubeletHasNoDiskPressure"),
		pressure(corev1.NodePIDPressure, h.pids, "InsufficientPID", "kubelet has insufficient PID available", "KubeletHasSufficientPID"),
		ready,
	}
}

// beat puts times to conditions: the heartbeat now, the transition when the status changed. Conditions of others stay.
func beat(have, want []corev1.NodeCondition, now metav1.Time) []corev1.NodeCondition {
	out := slices.Clone(have)
	for _, c := range want {
		c.LastHeartbeatTime, c.LastTransitionTime = now, now
		i := slices.IndexFunc(out, func(o corev1.NodeCondition) bool { return o.Type == c.Type })
		if i < 0 {
			out = append(out, c)
			continue
		}
		if out[i].Status == c.Status {
			c.LastTransitionTime = out[i].LastTransitionTime
		}
		out[i] = c
	}
	return out
}

// same says whether two statuses differ in nothing but heartbeat times.
func same(a, b *corev1.NodeStatus) bool {
	strip := func(st *corev1.NodeStatus) *corev1.NodeStatus {
		out := st.DeepCopy()
		for i := range out.Conditions {
			out.Conditions[i].LastHeartbeatTime = metav1.Time{}
		}
		return out
	}
	return equality.Semantic.DeepEqual(strip(a), strip(b))
}

func isReady(n *corev1.Node) bool {
	return slices.ContainsFunc(n.Status.Conditions, func(c corev1.NodeCondition) bool {
		return c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue
	})
}
