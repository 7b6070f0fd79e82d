// Package podresources tells agents of this node which devices and processors pods have: the pod resources API v1
// (https://kubernetes.io/docs/concepts/extend-kubernetes/compute-storage-net/device-plugins/#monitoring-device-plugin-resources).
//
// It serves gRPC at pod-resources/kubelet.sock below the kubelet's folder, for root alone, and asks the rooms that give things away. What always holds:
// pods that have ended are not told of.
package podresources

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	api "k8s.io/kubelet/pkg/apis/podresources/v1"

	"pilothouse.dev/kubelet/devices"
	"pilothouse.dev/kubelet/plugins"
	"pilothouse.dev/pkg/pod"
)

// Pods are those of this node.
type Pods interface{ Pods() []*corev1.Pod }

// Devices says who has which; devices.Manager does.
type Devices interface {
	Parts(uid types.UID, container string) []devices.Part
	All() []devices.Part
}

// Processors says who has which alone; cpus.Manager does.
type Processors interface {
	Of(uid types.UID, container string) []int
	All() []int
}

// Server answers agents.
type Server struct {
	api.UnimplementedPodResourcesListerServer

	dir        string
	pods       Pods
	devices    Devices
	processors Processors
}

// New stores what it is given. dir is the folder of the socket.
func New(dir string, pods Pods, devices Devices, processors Processors) *Server {
	return &Server{dir: dir, pods: pods, devices: devices, processors: processors}
}

// Run serves until ctx ends.
func (s *Server) Run(ctx context.Context) error {
	if err := os.MkdirAll(s.dir, 0o750); err != nil {
		return fmt.Errorf("making the folder of pod resources: %w", err)
	}
	ln, err := plugins.Listen(filepath.Join(s.dir, "kubelet.sock"))
	if err != nil {
		return fmt.Errorf("listening for questions about pods' resources: %w", err)
	}
	srv := grpc.NewServer()
	api.RegisterPodResourcesListerServer(srv, s)
	stop := context.AfterFunc(ctx, srv.Stop)
	defer stop()
	if err := srv.Serve(ln); err != nil && ctx.Err() == nil {
		return fmt.Errorf("serving pods' resources: %w", err)
	}
	return nil
}

// List answers with all pods.
func (s *Server) List(context.Context, *api.ListPodResourcesRequest) (*api.ListPodResourcesResponse, error) {
	out := &api.ListPodResourcesResponse{}
	for _, p := range s.pods.Pods() {
		if !pod.Terminal(p) {
			out.PodResources = append(out.PodResources, s.of(p))
		}
	}
	slices.SortFunc(out.PodResources, func(a, b *api.PodResources) int {
		return strings.Compare(a.Namespace+"/"+a.Name, b.Namespace+"/"+b.Name)
	})
	return out, nil
}

// Get answers with one pod.
func (s *Server) Get(_ context.Context, r *api.GetPodResourcesRequest) (*api.GetPodResourcesResponse, error) {
	for _, p := range s.pods.Pods() {
		if p.Name == r.GetPodName() && p.Namespace == r.GetPodNamespace() && !pod.Terminal(p) {
			return &api.GetPodResourcesResponse{PodResources: s.of(p)}, nil
		}
	}
	return nil, status.Errorf(codes.NotFound, "pod %s in namespace %s not found", r.GetPodName(), r.GetPodNamespace())
}

// GetAllocatableResources answers with what there is to give.
func (s *Server) GetAllocatableResources(context.Context, *api.AllocatableResourcesRequest) (*api.AllocatableResourcesResponse, error) {
	return &api.AllocatableResourcesResponse{Devices: told(s.devices.All()), CpuIds: wide(s.processors.All())}, nil
}

// of is what a pod has. Init containers that end give back what they had, and are not told of.
func (s *Server) of(p *corev1.Pod) *api.PodResources {
	out := &api.PodResources{Name: p.Name, Namespace: p.Namespace}
	for kind, c := range pod.Containers(p) {
		if kind == pod.Regular || kind == pod.Init && pod.Sidecar(c) {
			out.Containers = append(out.Containers, &api.ContainerResources{Name: c.Name, Devices: told(s.devices.Parts(p.UID, c.Name)),
				CpuIds: wide(s.processors.Of(p.UID, c.Name))})
		}
	}
	return out
}

func told(parts []devices.Part) []*api.ContainerDevices {
	var out []*api.ContainerDevices
	for _, part := range parts {
		one := &api.ContainerDevices{ResourceName: part.Resource, DeviceIds: part.IDs}
		for _, n := range part.Nodes {
			if one.Topology == nil {
				one.Topology = &api.TopologyInfo{}
			}
			one.Topology.Nodes = append(one.Topology.Nodes, &api.NUMANode{ID: n})
		}
		out = append(out, one)
	}
	return out
}

func wide(ids []int) []int64 {
	var out []int64
	for _, id := range ids {
		out = append(out, int64(id))
	}
	return out
}
