package devices

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	api "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"

	"pilothouse.dev/kubelet/containers"
	"pilothouse.dev/pkg/logging"
)

// After a restart the kubelet knows which resources are devices before their plugins are back: no pod is let in, and no container started, without what
// it asks for, as if the resource were one that an operator wrote into the node.
func TestRestartRemembersResources(t *testing.T) {
	n := start(t)
	f := &fake{options: &api.DevicePluginOptions{}, lists: make(chan []*api.Device, 1)}
	f.lists <- healthy("1", "2")
	n.plug(f, "gpu.sock")
	n.shows("2/2")

	again := New(n.dir, logging.ForTest(t))
	again.Open()
	p := wanting("p", "a=1")
	if reason, message := again.Admit(p); reason != "UnexpectedAdmissionError" || !strings.Contains(message, "Requested: 1, Available: 0") {
		t.Errorf("admitted: %q %q", reason, message)
	}
	spec := containers.ContainerSpec{Labels: map[string]string{}}
	if err := again.Grant(t.Context(), p, &p.Spec.Containers[0], &spec); err == nil {
		t.Error("it would start without its device")
	}
	node := &corev1.Node{Status: corev1.NodeStatus{Capacity: corev1.ResourceList{gpu: resource.MustParse("2")}, Allocatable: corev1.ResourceList{gpu: resource.MustParse("2")}}}
	again.Contribute(node)
	if all, free := node.Status.Capacity[gpu], node.Status.Allocatable[gpu]; all.String() != "2" || free.String() != "0" {
		t.Errorf("the node shows %s/%s", all.String(), free.String())
	}

	// One that does not come back is forgotten, also by the next life.
	again.plugins[gpu].went = time.Now().Add(-2 * absence)
	again.Contribute(node)
	if len(node.Status.Capacity)+len(node.Status.Allocatable) != 0 {
		t.Errorf("the node still shows %v", node.Status.Capacity)
	}
	if len(again.plugins) != 1 {
		t.Error("it is forgotten before the API has heard that it went")
	}
	again.Contribute(node)
	third := New(n.dir, logging.ForTest(t))
	third.Open()
	if len(third.plugins) != 0 {
		t.Errorf("remembered: %v", third.plugins)
	}
}

// What a crash left of the note is no reason not to start.
func TestBrokenNote(t *testing.T) {
	m := New(t.TempDir(), logging.ForTest(t))
	for _, text := range []string{"", "[\"vendor", "{}", "null", "[\"cpu\"]"} {
		if err := os.WriteFile(filepath.Join(m.dir, noteName), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		m.Open()
		if len(m.plugins) != 0 {
			t.Errorf("%s: %v", text, m.plugins)
		}
	}
}

// A container may have more devices than one label holds.
func TestManyDevicesAreFoundAgain(t *testing.T) {
	n := start(t)
	var ids []string
	for i := range 400 {
		ids = append(ids, fmt.Sprintf("GPU-00000000-0000-0000-0000-%012d", i))
	}
	f := &fake{options: &api.DevicePluginOptions{}, lists: make(chan []*api.Device, 1)}
	f.lists <- healthy(ids...)
	n.plug(f, "gpu.sock")
	n.shows("400/400")
	p := wanting("p", "a=300")
	spec := containers.ContainerSpec{Labels: map[string]string{}}
	if err := n.Grant(t.Context(), p, &p.Spec.Containers[0], &spec); err != nil {
		t.Fatal(err)
	}
	for key, value := range spec.Labels {
		if len(key)+len(value) > 4096 {
			t.Errorf("label %s has %d bytes: containerd refuses it", key, len(value))
		}
	}
	again := New(t.TempDir(), logging.ForTest(t))
	again.Found(containers.Listing{Containers: []containers.Container{{PodUID: "p", Name: "a", Labels: spec.Labels}}})
	if held := again.Held("p", "a")[gpu]; !slices.Equal(held, n.Held("p", "a")[gpu]) || len(held) != 300 {
		t.Errorf("found %d devices", len(held))
	}
}
