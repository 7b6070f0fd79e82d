package main

import (
	"context"
	"strings"

	spec "github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// unimplemented are the calls that the driver has not.
type unimplemented struct {
	spec.UnimplementedIdentityServer
	spec.UnimplementedNodeServer
}

func (d *driver) GetPluginInfo(context.Context, *spec.GetPluginInfoRequest) (*spec.GetPluginInfoResponse, error) {
	return &spec.GetPluginInfoResponse{Name: d.name, VendorVersion: "1"}, nil
}

func (d *driver) GetPluginCapabilities(context.Context, *spec.GetPluginCapabilitiesRequest) (*spec.GetPluginCapabilitiesResponse, error) {
	return &spec.GetPluginCapabilitiesResponse{}, nil
}

func (d *driver) Probe(context.Context, *spec.ProbeRequest) (*spec.ProbeResponse, error) {
	return &spec.ProbeResponse{Ready: wrapperspb.Bool(true)}, nil
}

func (d *driver) NodeGetInfo(context.Context, *spec.NodeGetInfoRequest) (*spec.NodeGetInfoResponse, error) {
	info := &spec.NodeGetInfoResponse{NodeId: d.node, MaxVolumesPerNode: d.most}
	if segments := d.topology.Value(); len(segments) > 0 {
		info.AccessibleTopology = &spec.Topology{Segments: map[string]string{}}
		for _, s := range segments {
			k, v, _ := strings.Cut(s, "=")
			info.AccessibleTopology.Segments[k] = v
		}
	}
	return info, nil
}

func (d *driver) NodeGetCapabilities(context.Context, *spec.NodeGetCapabilitiesRequest) (*spec.NodeGetCapabilitiesResponse, error) {
	said := &spec.NodeGetCapabilitiesResponse{}
	for _, c := range []spec.NodeServiceCapability_RPC_Type{
		spec.NodeServiceCapability_RPC_STAGE_UNSTAGE_VOLUME, spec.NodeServiceCapability_RPC_GET_VOLUME_STATS, spec.NodeServiceCapability_RPC_EXPAND_VOLUME,
		spec.NodeServiceCapability_RPC_SINGLE_NODE_MULTI_WRITER, spec.NodeServiceCapability_RPC_VOLUME_MOUNT_GROUP, spec.NodeServiceCapability_RPC_GET_VOLUME_HEALTH,
	} {
		if d.has(c.String()) {
			said.Capabilities = append(said.Capabilities, &spec.NodeServiceCapability{
				Type: &spec.NodeServiceCapability_Rpc{Rpc: &spec.NodeServiceCapability_RPC{Type: c}}})
		}
	}
	return said, nil
}

// has says whether the driver has a capability.
func (d *driver) has(name string) bool {
	for _, w := range d.without.Value() {
		if w == name {
			return false
		}
	}
	return true
}
