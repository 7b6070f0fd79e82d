package core

import (
	"fmt"
	"sort"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"pilothouse.dev/apiserver/registry"
)

// Nodes are the machines that run pods.
var Nodes = registry.Define(registry.Kind[*corev1.Node]{
	Version: "v1", Kind: "Node", Plural: "nodes", Short: []string{"no"},
	Status:         true,
	Default:        defaultNode,
	BeforeStatus:   func(n, _ *corev1.Node) { defaultNode(n) },
	Validate:       validateNode,
	ValidateUpdate: validateNodeUpdate,
	ValidateStatus: validateNodeStatus,
	Warn: func(n, _ *corev1.Node) []string {
		var out []string
		for i, cidr := range n.Spec.PodCIDRs {
			out = append(out, validation.GetWarningsForCIDR(field.NewPath("spec", "podCIDRs").Index(i), cidr)...)
		}
		return out
	},
	FieldNames: []string{"spec.unschedulable"},
	Fields: func(n *corev1.Node) fields.Set {
		return fields.Set{"spec.unschedulable": strconv.FormatBool(n.Spec.Unschedulable)}
	},
	Columns: []registry.Column[*corev1.Node]{
		{Name: "Status", Description: "The status of the node.", Value: func(n *corev1.Node) any { return nodeStatus(n) }},
		{Name: "Roles", Description: "The roles of the node.", Value: func(n *corev1.Node) any { return nodeRoles(n) }},
		registry.Age[*corev1.Node](),
		{Name: "Version", Description: "Kubelet version reported by the node.", Value: func(n *corev1.Node) any { return n.Status.NodeInfo.KubeletVersion }},
		{Name: "Internal-IP", Priority: 1, Description: "Internal address of the node.", Value: func(n *corev1.Node) any { return nodeAddress(n, corev1.NodeInternalIP) }},
		{Name: "External-IP", Priority: 1, Description: "External address of the node.", Value: func(n *corev1.Node) any { return nodeAddress(n, corev1.NodeExternalIP) }},
		{Name: "OS-Image", Priority: 1, Description: "Operating system reported by the node.", Value: func(n *corev1.Node) any { return orElse(n.Status.NodeInfo.OSImage, unknown) }},
		{Name: "Kernel-Version", Priority: 1, Description: "Kernel reported by the node.", Value: func(n *corev1.Node) any { return orElse(n.Status.NodeInfo.KernelVersion, unknown) }},
		{Name: "Container-Runtime", Priority: 1, Description: "Container runtime reported by the node.", Value: func(n *corev1.Node) any { return orElse(n.Status.NodeInfo.ContainerRuntimeVersion, unknown) }},
	},
})

// defaultNode takes what a node can give to be all it has, when it says nothing else, and keeps the two names of its first
// range of pod addresses alike.
func defaultNode(n *corev1.Node) {
	switch s := &n.Spec; {
	case len(s.PodCIDRs) > 0:
		s.PodCIDR = s.PodCIDRs[0]
	case s.PodCIDR != "":
		s.PodCIDRs = []string{s.PodCIDR}
	}
	if n.Status.Allocatable == nil && n.Status.Capacity != nil {
		n.Status.Allocatable = n.Status.Capacity.DeepCopy()
	}
	for i := range n.Spec.Taints {
		if t := &n.Spec.Taints[i]; t.TimeAdded != nil && t.TimeAdded.IsZero() {
			t.TimeAdded = nil
		}
	}
}

func nodeStatus(n *corev1.Node) string {
	out := "Unknown"
	for _, c := range n.Status.Conditions {
		if c.Type != corev1.NodeReady {
			continue
		}
		if c.Status == corev1.ConditionTrue {
			out = "Ready"
		} else {
			out = "NotReady"
		}
	}
	if n.Spec.Unschedulable {
		out += ",SchedulingDisabled"
	}
	return out
}

const (
	roleLabelPrefix = "node-role.kubernetes.io/" // the role is what follows
	roleLabel       = "kubernetes.io/role"       // the role is the value
)

func nodeRoles(n *corev1.Node) string {
	set := map[string]bool{}
	for k, v := range n.Labels {
		if role, ok := strings.CutPrefix(k, roleLabelPrefix); ok && role != "" {
			set[role] = true
		}
		if k == roleLabel && v != "" {
			set[v] = true
		}
	}
	roles := make([]string, 0, len(set))
	for r := range set {
		roles = append(roles, r)
	}
	sort.Strings(roles)
	return orElse(strings.Join(roles, ","), none)
}

func nodeAddress(n *corev1.Node, kind corev1.NodeAddressType) string {
	for _, a := range n.Status.Addresses {
		if a.Type == kind {
			return a.Address
		}
	}
	return none
}

// What a column shows where there is nothing to show.
const (
	none    = "<none>"
	unknown = "<unknown>"
	unset   = "<unset>"
)

func orElse(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// selectorText renders a plain selector as kubectl prints one.
func selectorText(m map[string]string) string {
	pairs := make([]string, 0, len(m))
	for k, v := range m {
		pairs = append(pairs, fmt.Sprintf("%s=%s", k, v))
	}
	sort.Strings(pairs)
	return orElse(strings.Join(pairs, ","), none)
}
