package node

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
)

// addresses are where a node is found: at those of its families in its own order, and by name.
func addresses(ips []netip.Addr, name string) (list []corev1.NodeAddress) {
	for _, ip := range ips {
		list = append(list, corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: ip.String()})
	}
	return append(list, corev1.NodeAddress{Type: corev1.NodeHostName, Address: name})
}

// difference is the patch that makes one status of the other. The addresses are put in place of those that are there: by the API's type their
// kind tells them apart, which is not true of a node that has two internal ones, and a patch made by the type would lose or mix them.
func difference(have, next *corev1.Node) ([]byte, error) {
	bare := func(n *corev1.Node) ([]byte, error) {
		st := n.Status
		st.Addresses = nil
		return json.Marshal(corev1.Node{Status: st})
	}
	old, err := bare(have)
	if err != nil {
		return nil, fmt.Errorf("encoding the old status: %w", err)
	}
	now, err := bare(next)
	if err != nil {
		return nil, fmt.Errorf("encoding the new status: %w", err)
	}
	patch, err := strategicpatch.CreateTwoWayMergePatch(old, now, corev1.Node{})
	if err != nil {
		return nil, fmt.Errorf("comparing statuses: %w", err)
	}
	if slices.Equal(have.Status.Addresses, next.Status.Addresses) {
		return patch, nil
	}
	var p struct {
		Status map[string]any `json:"status"`
	}
	if err := json.Unmarshal(patch, &p); err != nil {
		return nil, fmt.Errorf("reading the difference of statuses: %w", err)
	}
	if p.Status == nil {
		p.Status = map[string]any{}
	}
	list := []any{map[string]string{"$patch": "replace"}}
	for _, a := range next.Status.Addresses {
		list = append(list, a)
	}
	p.Status["addresses"] = list
	if patch, err = json.Marshal(p); err != nil {
		return nil, fmt.Errorf("encoding the difference of statuses: %w", err)
	}
	return patch, nil
}
