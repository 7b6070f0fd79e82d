package node

import (
	"encoding/json"
	"net/netip"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/strategicpatch"

	"pilothouse.dev/pkg/testcluster"
)

func at(name string, ips ...string) []corev1.NodeAddress {
	var list []netip.Addr
	for _, ip := range ips {
		list = append(list, netip.MustParseAddr(ip))
	}
	return addresses(list, name)
}

// changes are what a node's addresses go through: from one list to the next.
var changes = [][]corev1.NodeAddress{
	at("n", "198.18.0.11"),
	at("n", "198.18.0.11", "fd00::11"),
	at("n", "fd00::11", "198.18.0.11"),
	at("n", "fd00::11", "198.18.0.12"),
	at("n", "fd00::12", "198.18.0.13"),
	at("n", "fd00::12"),
	at("n", "198.18.0.11", "fd00::12"),
}

func TestDifference(t *testing.T) {
	have := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n"}, Status: corev1.NodeStatus{Phase: corev1.NodePending}}
	for _, list := range changes {
		next := have.DeepCopy()
		next.Status.Addresses, next.Status.Phase = list, corev1.NodeRunning
		patch, err := difference(have, next)
		if err != nil {
			t.Fatal(err)
		}
		old, err := json.Marshal(have)
		if err != nil {
			t.Fatal(err)
		}
		data, err := strategicpatch.StrategicMergePatch(old, patch, corev1.Node{})
		if err != nil {
			t.Fatalf("%s: %v", patch, err)
		}
		got := &corev1.Node{}
		if err := json.Unmarshal(data, got); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(got.Status.Addresses, list) || got.Status.Phase != corev1.NodeRunning {
			t.Errorf("%s makes %+v of %+v, want %+v", patch, got.Status.Addresses, have.Status.Addresses, list)
		}
		have = got
	}
	if patch, err := difference(have, have); err != nil || string(patch) != "{}" {
		t.Errorf("no difference is %s, %v", patch, err)
	}
}

// The API server, too, makes of each list the next, also where others have written the node's status meanwhile.
func TestDifferenceReachesTheAPI(t *testing.T) {
	nodes := testcluster.Start(t).Kube.CoreV1().Nodes()
	have, err := nodes.Create(t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n"}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, list := range changes {
		next := have.DeepCopy()
		next.Status.Addresses = list
		patch, err := difference(have, next)
		if err != nil {
			t.Fatal(err)
		}
		if have, err = nodes.Patch(t.Context(), "n", types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status"); err != nil {
			t.Fatalf("%s: %v", patch, err)
		}
		if !slices.Equal(have.Status.Addresses, list) {
			t.Errorf("%s made %+v, want %+v", patch, have.Status.Addresses, list)
		}
	}
	data := []byte(`{"status":{"phase":"Running"}}`)
	if have, err = nodes.Patch(t.Context(), "n", types.MergePatchType, data, metav1.PatchOptions{}, "status"); err != nil || len(have.Status.Addresses) != 3 {
		t.Errorf("after somebody else's patch: %+v, %v", have.Status.Addresses, err)
	}
}
