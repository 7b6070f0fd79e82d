package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	api "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"

	"pilothouse.dev/kubelet/containers/nodetest"
)

const gadget = "vendor.example/gadget"

// gadgets is a device plugin with two devices: each is /dev/zero under another name.
type gadgets struct {
	api.UnimplementedDevicePluginServer
	*machine
	dir string
}

func (g *gadgets) GetDevicePluginOptions(context.Context, *api.Empty) (*api.DevicePluginOptions, error) {
	return &api.DevicePluginOptions{}, nil
}

func (g *gadgets) ListAndWatch(_ *api.Empty, stream grpc.ServerStreamingServer[api.ListAndWatchResponse]) error {
	if err := stream.Send(&api.ListAndWatchResponse{Devices: []*api.Device{{ID: "g1", Health: api.Healthy}, {ID: "g2", Health: api.Healthy}}}); err != nil {
		return err
	}
	<-stream.Context().Done()
	return nil
}

func (g *gadgets) Allocate(_ context.Context, req *api.AllocateRequest) (*api.AllocateResponse, error) {
	ids := req.ContainerRequests[0].DevicesIds
	return &api.AllocateResponse{ContainerResponses: []*api.ContainerAllocateResponse{{Envs: map[string]string{"GADGET": strings.Join(ids, ",")},
		Devices: []*api.DeviceSpec{{HostPath: "/dev/zero", ContainerPath: "/dev/gadget", Permissions: "r"}}}}}, nil
}

// serve listens until the test ends.
func (g *gadgets) serve() {
	g.t.Helper()
	ln, err := net.Listen("unix", filepath.Join(g.dir, "gadgets.sock"))
	if err != nil {
		g.t.Fatal(err)
	}
	srv := grpc.NewServer()
	api.RegisterDevicePluginServer(srv, g)
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(ln) }() // ends with Stop
	g.t.Cleanup(func() { srv.Stop(); <-done })
}

func (g *gadgets) register() {
	g.t.Helper()
	conn, err := grpc.NewClient("unix://"+filepath.Join(g.dir, "kubelet.sock"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		g.t.Fatal(err)
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(g.t.Context(), 20*time.Second)
	defer cancel()
	if _, err = api.NewRegistrationClient(conn).Register(ctx, &api.RegisterRequest{Version: api.Version, Endpoint: "gadgets.sock", ResourceName: gadget}, grpc.WaitForReady(true)); err != nil {
		g.t.Fatal(err)
	}
}

// shows waits until the node tells so many gadgets, of which so many can be had.
func (g *gadgets) shows(want string) {
	g.t.Helper()
	g.until("showing "+want, func() (bool, string) {
		n := g.node()
		if n == nil {
			return false, "no node"
		}
		all, free := n.Status.Capacity[gadget], n.Status.Allocatable[gadget]
		is := all.String() + "/" + free.String()
		return is == want, is
	})
}

// run makes a pod that says what it sees.
func (m *machine) run(name string, want corev1.ResourceList) {
	m.t.Helper()
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.PodSpec{
		NodeName: nodeName, HostNetwork: true, TerminationGracePeriodSeconds: new(int64(1)), AutomountServiceAccountToken: new(false),
		Containers: []corev1.Container{{Name: "c", Image: nodetest.Image, Resources: corev1.ResourceRequirements{Requests: want, Limits: want},
			Command: []string{"sh", "-c", `echo "gadget $GADGET"; head -c 1 /dev/gadget > /dev/null && echo read; sleep 1000`}}},
	}}
	if _, err := m.cluster.Kube.CoreV1().Pods("default").Create(m.t.Context(), p, metav1.CreateOptions{}); err != nil {
		m.t.Fatal(err)
	}
}

func (m *machine) running(name string) *corev1.Pod {
	m.t.Helper()
	m.until(name+" ready", func() (bool, string) { p := m.pod(name); return podReady(p), tell(p) })
	return m.pod(name)
}

func (m *machine) logged(name, want string) {
	m.t.Helper()
	m.until(name+" says "+want, func() (bool, string) {
		_, text := m.get("caller", "/containerLogs/default/"+name+"/c")
		return strings.Contains(text, want), text
	})
}

// cpus waits until the processors of the pod's container are these.
func (m *machine) cpus(p *corev1.Pod, want string) {
	m.t.Helper()
	class := "/besteffort"
	if p.Status.QOSClass == corev1.PodQOSGuaranteed {
		class = ""
	}
	group := m.cfg.CgroupRoot + "/kubepods" + class + "/pod" + string(p.UID) + "/" + strings.TrimPrefix(p.Status.ContainerStatuses[0].ContainerID, "containerd://") + "/cpuset.cpus"
	m.until(p.Name+" on processors "+want, func() (bool, string) {
		text, err := os.ReadFile(filepath.Join("/sys/fs/cgroup/cpuset", group))
		if err != nil {
			text, err = os.ReadFile(filepath.Join("/sys/fs/cgroup", group))
		}
		is := strings.TrimSpace(string(text))
		return is == want, fmt.Sprint(is, err)
	})
}

func (m *machine) remove(name string) {
	m.t.Helper()
	if err := m.cluster.Kube.CoreV1().Pods("default").Delete(m.t.Context(), name, metav1.DeleteOptions{}); err != nil {
		m.t.Fatal(err)
	}
	m.until(name+" gone", func() (bool, string) { p := m.pod(name); return p == nil, tell(p) })
}

// TestOwnDevicesAndProcessors: what containers have for themselves, from the plugin's socket and the static CPU policy to their files and groups, and
// through a restart of the kubelet.
func TestOwnDevicesAndProcessors(t *testing.T) {
	m := newMachine(t)
	m.until("registered", func() (bool, string) { return m.node() != nil, "no node" })
	processors := m.node().Status.Capacity.Cpu().Value()
	if processors != 2 {
		t.Skipf("the test counts on two processors, here are %d", processors)
	}
	m.stop()
	m.cfg = parsed(t, append(m.args, "--cpu-manager-policy=static", "--reserved-cpus=0")...)
	m.start()
	g := &gadgets{machine: m, dir: filepath.Join(m.cfg.RootDir, "device-plugins")}
	m.until("listening for plugins", func() (bool, string) {
		_, err := os.Stat(filepath.Join(g.dir, "kubelet.sock"))
		return err == nil, fmt.Sprint(err)
	})
	g.serve()
	g.register()
	g.shows("2/2")

	m.run("plain", nil)
	plain := m.running("plain")
	m.logged("plain", "gadget \n")
	m.cpus(plain, "0-1")
	m.run("own", corev1.ResourceList{"cpu": resource.MustParse("1"), "memory": resource.MustParse("32Mi"), gadget: resource.MustParse("1")})
	own := m.running("own")
	m.logged("own", "gadget g1\nread\n")
	m.cpus(own, "1")
	m.cpus(plain, "0")

	// The kubelet goes and comes: everybody keeps what they have. Before the plugin is back none of its devices can be had.
	m.stop()
	m.start()
	g.shows("2/0")
	m.run("early", corev1.ResourceList{gadget: resource.MustParse("1")})
	m.until("refused", func() (bool, string) {
		p := m.pod("early")
		return p.Status.Phase == corev1.PodFailed && strings.Contains(p.Status.Message, gadget), fmt.Sprint(p.Status)
	})
	m.remove("early")
	g.register()
	g.shows("2/2")
	m.run("other", corev1.ResourceList{gadget: resource.MustParse("1")})
	other := m.running("other")
	m.logged("other", "gadget g2\nread\n")
	m.cpus(other, "0")
	m.cpus(plain, "0")
	m.cpus(own, "1")
	if now := m.running("own"); now.Status.ContainerStatuses[0].ContainerID != own.Status.ContainerStatuses[0].ContainerID {
		t.Errorf("it was started again: %+v", now.Status)
	}
	m.run("third", corev1.ResourceList{gadget: resource.MustParse("1")})
	m.until("refused", func() (bool, string) { p := m.pod("third"); return p.Status.Phase == corev1.PodFailed, tell(p) })

	m.remove("own")
	m.cpus(plain, "0-1")
	m.run("next", corev1.ResourceList{gadget: resource.MustParse("1")})
	m.running("next")
	m.logged("next", "gadget g1\nread\n")
	for _, name := range []string{"plain", "other", "third", "next"} {
		m.remove(name)
	}
}
