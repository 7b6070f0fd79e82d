package node

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
)

// Events records what happens to the node.
type Events interface {
	Eventf(object runtime.Object, kind, reason, format string, args ...any)
}

// told is what an event was about: a condition as it was before it changed.
type told struct {
	status corev1.ConditionStatus
	since  time.Time
}

// words are the reasons that users of Kubernetes know, for a condition that is true and one that is not.
var words = map[corev1.NodeConditionType][2]string{
	corev1.NodeMemoryPressure: {"NodeHasInsufficientMemory", "NodeHasSufficientMemory"},
	corev1.NodeDiskPressure:   {"NodeHasDiskPressure", "NodeHasNoDiskPressure"},
	corev1.NodePIDPressure:    {"NodeHasInsufficientPID", "NodeHasSufficientPID"},
	corev1.NodeReady:          {"NodeReady", "NodeNotReady"},
}

// event is about this node.
func (n *Node) event(kind, reason, format string, args ...any) {
	if n.parts.Events == nil {
		return
	}
	n.parts.Events.Eventf(&corev1.ObjectReference{Kind: "Node", Name: n.cfg.Name, UID: types.UID(n.cfg.Name)}, kind, reason, format, args...)
}

// tell tells what changed from what the API had to what it has now: each change once, also while the informer still shows what was. That a
// new node is not ready at first is no news.
func (n *Node) tell(had, has *corev1.NodeStatus) {
	for i := range has.Conditions {
		c := &has.Conditions[i]
		reasons, ours := words[c.Type]
		if !ours {
			continue
		}
		old := condition(had, c.Type)
		was := told{old.Status, old.LastTransitionTime.Time}
		if last, said := n.last[c.Type]; was.status == c.Status || said && last.status == was.status && last.since.Equal(was.since) {
			continue
		}
		n.last[c.Type] = was
		reason := reasons[1]
		if c.Status == corev1.ConditionTrue {
			reason = reasons[0]
		} else if c.Type == corev1.NodeReady && was.status == "" {
			continue
		}
		n.event(corev1.EventTypeNormal, reason, "Node %s status is now: %s", n.cfg.Name, reason)
	}
	if boot := has.NodeInfo.BootID; had.NodeInfo.BootID != "" && had.NodeInfo.BootID != boot && n.boot != boot {
		n.boot = boot
		n.event(corev1.EventTypeWarning, "Rebooted", "Node %s has been rebooted, boot id: %s", n.cfg.Name, boot)
	}
}

// condition of that kind; one that is not there says nothing.
func condition(st *corev1.NodeStatus, kind corev1.NodeConditionType) corev1.NodeCondition {
	for _, c := range st.Conditions {
		if c.Type == kind {
			return c
		}
	}
	return corev1.NodeCondition{}
}

// tellEnforced tells once that what all pods together may use is enforced, and once that it cannot be yet.
func (n *Node) tellEnforced() {
	if n.parts.Enforced == nil || n.enforced == "yes" {
		return
	}
	err := n.parts.Enforced()
	switch {
	case err == nil:
		n.enforced = "yes"
		n.event(corev1.EventTypeNormal, "NodeAllocatableEnforced", "Updated Node Allocatable limit across pods")
	case n.enforced == "":
		n.enforced = "no"
		n.event(corev1.EventTypeWarning, "FailedNodeAllocatableEnforcement", "Failed to update Node Allocatable Limits: %v", err)
	}
}
