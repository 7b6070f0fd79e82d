package podresources

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	api "k8s.io/kubelet/pkg/apis/podresources/v1"

	"pilothouse.dev/kubelet/devices"
)

type pods []*corev1.Pod

func (p pods) Pods() []*corev1.Pod { return p }

// given is what containers have, by pod and container.
type given map[string][]devices.Part

func (g given) Parts(uid types.UID, container string) []devices.Part {
	return g[string(uid)+"/"+container]
}
func (g given) All() []devices.Part { return g["all"] }

type processors map[string][]int

func (p processors) Of(uid types.UID, container string) []int { return p[string(uid)+"/"+container] }
func (p processors) All() []int                               { return p["all"] }

// Over the real socket, where an older one lies: what pods have is told as the API's type has it.
func TestServer(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "pod-resources")
	if err := os.MkdirAll(dir, 0o750); err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(dir, "kubelet.sock")
	if err := os.WriteFile(socket, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	always := corev1.ContainerRestartPolicyAlways
	one := func(name string, phase corev1.PodPhase) *corev1.Pod {
		return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, UID: types.UID(name)}, Status: corev1.PodStatus{Phase: phase},
			Spec: corev1.PodSpec{InitContainers: []corev1.Container{{Name: "first"}, {Name: "side", RestartPolicy: &always}}, Containers: []corev1.Container{{Name: "c"}}}}
	}
	s := New(dir, pods{one("b", corev1.PodRunning), one("a", corev1.PodPending), one("over", corev1.PodFailed)},
		given{"b/c": {{Resource: "v/gpu", IDs: []string{"x", "y"}, Nodes: []int64{1}}}, "b/first": {{Resource: "v/gpu", IDs: []string{"x"}}}, "all": {{Resource: "v/gpu", IDs: []string{"x", "y", "z"}}}},
		processors{"b/side": {2, 3}, "all": {1, 2, 3}})
	ctx, stop := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- s.Run(ctx) }()
	defer func() {
		stop()
		if err := <-ran; err != nil {
			t.Error(err)
		}
	}()
	conn, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	client := api.NewPodResourcesListerClient(conn)
	check := func(what string, got proto.Message, err error, wanted proto.Message, want string) {
		t.Helper()
		if err := protojson.Unmarshal([]byte(want), wanted); err != nil {
			t.Fatal(err)
		}
		if err != nil || !proto.Equal(got, wanted) {
			t.Errorf("%s: %v, %v, want %s", what, got, err, want)
		}
	}
	b := `{"name": "b", "namespace": "ns", "containers": [{"name": "side", "cpuIds": [2, 3]},
		{"name": "c", "devices": [{"resourceName": "v/gpu", "deviceIds": ["x", "y"], "topology": {"nodes": [{"ID": 1}]}}]}]}`
	all, err := client.List(ctx, &api.ListPodResourcesRequest{}, grpc.WaitForReady(true))
	check("all", all, err, &api.ListPodResourcesResponse{}, `{"podResources": [{"name": "a", "namespace": "ns", "containers": [{"name": "side"}, {"name": "c"}]}, `+b+`]}`)
	got, err := client.Get(ctx, &api.GetPodResourcesRequest{PodName: "b", PodNamespace: "ns"})
	check("one", got, err, &api.GetPodResourcesResponse{}, `{"podResources": `+b+`}`)
	for _, name := range []string{"over", "none"} {
		if _, err := client.Get(ctx, &api.GetPodResourcesRequest{PodName: name, PodNamespace: "ns"}); status.Code(err) != codes.NotFound {
			t.Errorf("%s: %v", name, err)
		}
	}
	have, err := client.GetAllocatableResources(ctx, &api.AllocatableResourcesRequest{})
	check("what there is", have, err, &api.AllocatableResourcesResponse{}, `{"devices": [{"resourceName": "v/gpu", "deviceIds": ["x", "y", "z"]}], "cpuIds": ["1", "2", "3"]}`)
}
