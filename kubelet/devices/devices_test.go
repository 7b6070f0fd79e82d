package devices

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"
	api "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"

	"pilothouse.dev/kubelet/containers"
	"pilothouse.dev/pkg/logging"
)

const gpu = "vendor.example/gpu"

// fake is a device plugin over a real socket.
type fake struct {
	api.UnimplementedDevicePluginServer
	options *api.DevicePluginOptions
	lists   chan []*api.Device
	prefer  []string

	mu        sync.Mutex
	allocated []string
	prestart  int
}

func (f *fake) GetDevicePluginOptions(context.Context, *api.Empty) (*api.DevicePluginOptions, error) {
	return f.options, nil
}

func (f *fake) ListAndWatch(_ *api.Empty, stream grpc.ServerStreamingServer[api.ListAndWatchResponse]) error {
	for {
		select {
		case <-stream.Context().Done():
			return nil
		case list, ok := <-f.lists:
			if !ok {
				return errors.New("the plugin ends")
			}
			if err := stream.Send(&api.ListAndWatchResponse{Devices: list}); err != nil {
				return err
			}
		}
	}
}

func (f *fake) GetPreferredAllocation(context.Context, *api.PreferredAllocationRequest) (*api.PreferredAllocationResponse, error) {
	return &api.PreferredAllocationResponse{ContainerResponses: []*api.ContainerPreferredAllocationResponse{{DeviceIDs: f.prefer}}}, nil
}

func (f *fake) Allocate(_ context.Context, req *api.AllocateRequest) (*api.AllocateResponse, error) {
	ids := req.ContainerRequests[0].DevicesIds
	f.mu.Lock()
	f.allocated = append(f.allocated, strings.Join(ids, "+"))
	f.mu.Unlock()
	if slices.Contains(ids, "broken") {
		return nil, errors.New("this one does not work")
	}
	return &api.AllocateResponse{ContainerResponses: []*api.ContainerAllocateResponse{{
		Envs:    map[string]string{"GPUS": strings.Join(ids, ",")},
		Mounts:  []*api.Mount{{HostPath: "/usr/lib/gpu", ContainerPath: "/gpu", ReadOnly: true}},
		Devices: []*api.DeviceSpec{{HostPath: "/dev/null", ContainerPath: "/dev/gpu", Permissions: "rw"}},
	}}}, nil
}

func (f *fake) PreStartContainer(context.Context, *api.PreStartContainerRequest) (*api.PreStartContainerResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.prestart++
	return &api.PreStartContainerResponse{}, nil
}

func healthy(ids ...string) []*api.Device {
	var out []*api.Device
	for _, id := range ids {
		out = append(out, &api.Device{ID: id, Health: api.Healthy})
	}
	return out
}

// node is a Manager that runs.
type node struct {
	*Manager
	t     *testing.T
	nudge chan struct{}
}

func start(t *testing.T) *node {
	dir, err := os.MkdirTemp("", "dp") // short, for sockets
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	n := &node{Manager: New(dir, logging.ForTest(t)), t: t, nudge: make(chan struct{}, 100)}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- n.Run(ctx, func() { n.nudge <- struct{}{} }) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return n
}

// plug serves a plugin at the socket name and registers it over kubelet.sock; stop ends it.
func (n *node) plug(f *fake, name string) (stop func()) {
	n.t.Helper()
	ln, err := net.Listen("unix", filepath.Join(n.dir, name))
	if err != nil {
		n.t.Fatal(err)
	}
	srv := grpc.NewServer()
	api.RegisterDevicePluginServer(srv, f)
	ended := make(chan struct{})
	go func() { defer close(ended); _ = srv.Serve(ln) }() // ends with Stop
	stop = func() { srv.Stop(); <-ended }
	n.t.Cleanup(stop)
	if err := n.register(&api.RegisterRequest{Version: api.Version, Endpoint: name, ResourceName: gpu, Options: f.options}); err != nil {
		n.t.Fatal(err)
	}
	return stop
}

func (n *node) register(req *api.RegisterRequest) error {
	conn, err := grpc.NewClient("unix://"+filepath.Join(n.dir, socketName), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		n.t.Fatal(err)
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(n.t.Context(), 20*time.Second)
	defer cancel()
	_, err = api.NewRegistrationClient(conn).Register(ctx, req, grpc.WaitForReady(true))
	return err
}

// shows waits until the node tells so many devices: capacity/allocatable.
func (n *node) shows(want string) {
	n.t.Helper()
	for {
		select {
		case <-n.nudge:
		case <-time.After(20 * time.Second):
			n.t.Fatalf("the node never showed %s", want)
		}
		if n.told() == want {
			return
		}
	}
}

func (n *node) told() string {
	node := &corev1.Node{Status: corev1.NodeStatus{Capacity: corev1.ResourceList{}, Allocatable: corev1.ResourceList{}}}
	n.Contribute(node)
	if len(node.Status.Capacity) == 0 {
		return "none"
	}
	all, free := node.Status.Capacity[gpu], node.Status.Allocatable[gpu]
	return all.String() + "/" + free.String()
}

// wanting is a pod whose containers want so many devices; «init» and «side» as in their names.
func wanting(name string, wants ...string) *corev1.Pod {
	p := &corev1.Pod{}
	p.UID, p.Name = types.UID(name), name
	for _, w := range wants {
		who, count, _ := strings.Cut(w, "=")
		list := corev1.ResourceList{gpu: resource.MustParse(count)}
		c := corev1.Container{Name: who, Resources: corev1.ResourceRequirements{Requests: list, Limits: list}}
		switch {
		case strings.HasPrefix(who, "side"):
			c.RestartPolicy = new(corev1.ContainerRestartPolicyAlways)
			p.Spec.InitContainers = append(p.Spec.InitContainers, c)
		case strings.HasPrefix(who, "init"):
			p.Spec.InitContainers = append(p.Spec.InitContainers, c)
		default:
			p.Spec.Containers = append(p.Spec.Containers, c)
		}
	}
	return p
}

// grants says which devices each container gets.
func (n *node) grants(p *corev1.Pod) map[string]string {
	n.t.Helper()
	out := map[string]string{}
	for _, c := range slices.Concat(p.Spec.InitContainers, p.Spec.Containers) {
		spec := containers.ContainerSpec{Labels: map[string]string{}, Env: []string{"A=b"}}
		if err := n.Grant(n.t.Context(), p, &c, &spec); err != nil {
			n.t.Fatal(err)
		}
		out[c.Name] = strings.Join(spec.Env[1:], " ")
	}
	return out
}

func TestLife(t *testing.T) {
	n := start(t)
	f := &fake{options: &api.DevicePluginOptions{PreStartRequired: true}, lists: make(chan []*api.Device, 9)}
	f.lists <- append(healthy("gpu-10", "gpu-2"), &api.Device{ID: "gpu-1", Health: api.Unhealthy})
	stop := n.plug(f, "gpu.sock")
	n.shows("3/2")

	p := wanting("p", "a=1")
	if reason, message := n.Admit(p); reason != "" {
		t.Fatal(reason, message)
	}
	c := p.Spec.Containers[0]
	for range 2 { // a container that is started again gets the same
		spec := containers.ContainerSpec{Labels: map[string]string{}}
		if err := n.Grant(t.Context(), p, &c, &spec); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(spec.Env, []string{"GPUS=gpu-2"}) || spec.Labels[label] != `{"vendor.example/gpu":["gpu-2"]}` ||
			!reflect.DeepEqual(spec.Mounts, []containers.Mount{{Source: "/usr/lib/gpu", Target: "/gpu", ReadOnly: true}}) ||
			!slices.Equal(spec.Devices, []containers.Device{{Source: "/dev/null", Target: "/dev/gpu", Permissions: "rw"}}) {
			t.Errorf("the spec is %+v", spec)
		}
	}
	if f.prestart != 2 || !slices.Equal(f.allocated, []string{"gpu-2", "gpu-2"}) {
		t.Errorf("%d calls before starts, allocated %v", f.prestart, f.allocated)
	}
	reason, message := n.Admit(wanting("q", "a=2"))
	if want := "Allocate failed due to requested number of devices unavailable for vendor.example/gpu. Requested: 2, Available: 1, which is unexpected"; reason != "UnexpectedAdmissionError" || message != want {
		t.Errorf("%s: %s", reason, message)
	}
	f.lists <- healthy("gpu-1", "gpu-2", "gpu-10")
	n.shows("3/3")
	if reason, message := n.Admit(wanting("q", "a=2")); reason != "" {
		t.Error(reason, message)
	}
	n.Release("p")
	n.Release("q")

	// The plugin goes: nothing can be given; it comes again.
	stop()
	n.shows("3/0")
	spec := containers.ContainerSpec{Labels: map[string]string{}}
	if err := n.Grant(t.Context(), p, &c, &spec); err == nil {
		t.Error("devices were given of a plugin that went")
	}
	again := &fake{options: &api.DevicePluginOptions{}, lists: make(chan []*api.Device, 9)}
	again.lists <- healthy("gpu-7")
	n.plug(again, "gpu2.sock")
	n.shows("1/1")
	if got := n.grants(p); got["a"] != "GPUS=gpu-7" {
		t.Errorf("got %v", got)
	}
}

func TestPods(t *testing.T) {
	for name, c := range map[string]struct {
		pod  *corev1.Pod
		want map[string]string
	}{
		"two containers":     {wanting("p", "a=1", "b=2"), map[string]string{"a": "GPUS=1", "b": "GPUS=2,3"}},
		"none":               {wanting("p", "a=0"), map[string]string{"a": ""}},
		"init before":        {wanting("p", "init=3", "a=2"), map[string]string{"init": "GPUS=1,2,3", "a": "GPUS=1,2"}},
		"sidecar":            {wanting("p", "side=1", "a=2"), map[string]string{"side": "GPUS=3", "a": "GPUS=1,2"}},
		"init and a sidecar": {wanting("p", "side=1", "init=2", "a=2"), map[string]string{"side": "GPUS=3", "init": "GPUS=1,2", "a": "GPUS=1,2"}},
	} {
		t.Run(name, func(t *testing.T) {
			n := start(t)
			f := &fake{options: &api.DevicePluginOptions{}, lists: make(chan []*api.Device, 1)}
			f.lists <- healthy("1", "2", "3", "4")
			n.plug(f, "gpu.sock")
			n.shows("4/4")
			if reason, message := n.Admit(c.pod); reason != "" {
				t.Fatal(reason, message)
			}
			if got := n.grants(c.pod); !maps.Equal(got, c.want) {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}

func TestPreferred(t *testing.T) {
	for wish, want := range map[string]string{"3 4": "GPUS=3,4", "3": "GPUS=1,2", "3 3": "GPUS=1,2", "3 9": "GPUS=1,2", "2 5": "GPUS=1,2"} {
		t.Run(wish, func(t *testing.T) {
			n := start(t)
			f := &fake{options: &api.DevicePluginOptions{GetPreferredAllocationAvailable: true}, lists: make(chan []*api.Device, 1), prefer: strings.Fields(wish)}
			f.lists <- healthy("1", "2", "3", "4", "5")
			n.plug(f, "gpu.sock")
			n.shows("5/5")
			n.Found(containers.Listing{Containers: []containers.Container{{PodUID: "old", Name: "c", Labels: map[string]string{label: `{"vendor.example/gpu":["5"]}`}}}})
			if got := n.grants(wanting("p", "a=2")); got["a"] != want {
				t.Errorf("got %v", got)
			}
		})
	}
}

// What was given is found again by the labels: the plugin's wish does not move it, and nobody else gets it.
func TestFoundAgain(t *testing.T) {
	n := start(t)
	n.Found(containers.Listing{Containers: []containers.Container{
		{PodUID: "old", Name: "a", Labels: map[string]string{label: `{"vendor.example/gpu":["2"]}`}}, {PodUID: "old", Name: "b"}, {PodUID: "x", Labels: map[string]string{label: "{"}}}})
	f := &fake{options: &api.DevicePluginOptions{GetPreferredAllocationAvailable: true}, lists: make(chan []*api.Device, 1), prefer: []string{"1"}}
	f.lists <- healthy("1", "2")
	n.plug(f, "gpu.sock")
	n.shows("2/2")
	if got := n.grants(wanting("old", "a=1")); got["a"] != "GPUS=2" {
		t.Errorf("got %v", got)
	}
	if reason, _ := n.Admit(wanting("new", "a=2")); reason == "" {
		t.Error("a device was given twice")
	}
	if held := n.Held("old", "a"); fmt.Sprint(held) != "map[vendor.example/gpu:[2]]" {
		t.Errorf("held: %v", held)
	}
}

func TestPluginFails(t *testing.T) {
	n := start(t)
	f := &fake{options: &api.DevicePluginOptions{}, lists: make(chan []*api.Device, 1)}
	f.lists <- healthy("broken")
	n.plug(f, "gpu.sock")
	n.shows("1/1")
	p := wanting("p", "a=1")
	spec := containers.ContainerSpec{Labels: map[string]string{}}
	err := n.Grant(t.Context(), p, &p.Spec.Containers[0], &spec)
	if err == nil || !strings.Contains(err.Error(), "this one does not work") {
		t.Errorf("got %v", err)
	}
}

func TestBadRegistrations(t *testing.T) {
	n := start(t)
	for name, c := range map[string]struct {
		req  *api.RegisterRequest
		want string
	}{
		"version":  {&api.RegisterRequest{Version: "v1", Endpoint: "a.sock", ResourceName: gpu}, `version "v1" is not supported`},
		"path":     {&api.RegisterRequest{Version: api.Version, Endpoint: "../a.sock", ResourceName: gpu}, "want the name of a socket"},
		"resource": {&api.RegisterRequest{Version: api.Version, Endpoint: "a.sock", ResourceName: "cpu"}, `"cpu" is invalid`},
		"reserved": {&api.RegisterRequest{Version: api.Version, Endpoint: "a.sock", ResourceName: "a.kubernetes.io/x"}, "is invalid"},
	} {
		t.Run(name, func(t *testing.T) {
			if err := n.register(c.req); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v", err)
			}
		})
	}
	if n.told() != "none" {
		t.Errorf("the node tells %s", n.told())
	}
}
