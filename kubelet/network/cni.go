package network

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
)

// plugins joins pods to a network that somebody installed here as a CNI configuration. What libcni keeps in its cache says who was joined, and by
// which configuration: so a pod is taken down as it was set up, also when another configuration, or none, is installed by then.
type plugins struct {
	confDir string
	lib     *libcni.CNIConfig
}

func newPlugins(cfg Config) *plugins {
	if cfg.CNIConfDir == "" {
		return nil
	}
	return &plugins{confDir: cfg.CNIConfDir, lib: libcni.NewCNIConfigWithCacheDir(cfg.CNIBinDirs, cfg.CNICacheDir, nil)}
}

// installed is the configuration that counts: the first by file name. Nil if there is none.
func (p *plugins) installed() (*libcni.NetworkConfigList, error) {
	if p == nil {
		return nil, nil
	}
	entries, err := os.ReadDir(p.confDir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("looking for a CNI configuration: %w", err)
	}
	for _, e := range entries { // sorted by name
		path := filepath.Join(p.confDir, e.Name())
		if filepath.Ext(e.Name()) != ".conflist" {
			continue // single *.conf files are of the past, and libcni no longer reads them
		}
		list, err := libcni.NetworkConfFromFile(path)
		if err != nil {
			return nil, fmt.Errorf("reading CNI configuration %s: %w", e.Name(), err)
		}
		return list, nil
	}
	return nil, nil
}

func runtimeConf(netns, podKey string) *libcni.RuntimeConf {
	return &libcni.RuntimeConf{ContainerID: podKey, NetNS: netns, IfName: podLink, Args: [][2]string{{"IgnoreUnknown", "1"}, {"K8S_POD_UID", podKey}}}
}

// add calls the plugins in order. On error they are called to undo: the protocol asks for it.
func (p *plugins) add(ctx context.Context, list *libcni.NetworkConfigList, pod Pod) (_ Attachment, err error) {
	netns, podKey := pod.NetNS, pod.Key
	conf := runtimeConf(netns, podKey)
	if err := p.forget(ctx, netns, podKey); err != nil {
		return Attachment{}, err
	}
	if known, err := p.lib.GetNetworkListCachedResult(list, conf); err == nil && known != nil {
		return attachmentOf(known)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.lib.DelNetworkList(context.WithoutCancel(ctx), list, conf))
		}
	}()
	result, err := p.lib.AddNetworkList(ctx, list, conf)
	if err != nil {
		return Attachment{}, fmt.Errorf("calling CNI plugins of %s: %w", list.Name, err)
	}
	return attachmentOf(result)
}

// forget undoes what the cache knows of a pod in another namespace: a kubelet was killed after it had joined that, and before it knew.
func (p *plugins) forget(ctx context.Context, netns, podKey string) error {
	known, err := p.lib.GetCachedAttachments(podKey)
	if err != nil {
		return fmt.Errorf("reading CNI cache: %w", err)
	}
	for _, k := range known {
		if k.NetNS != netns {
			return p.remove(ctx, k.NetNS, podKey)
		}
	}
	return nil
}

// remove undoes what the cache knows of a pod; nothing known is no error.
func (p *plugins) remove(ctx context.Context, netns, podKey string) error {
	if p == nil {
		return nil
	}
	known, err := p.lib.GetCachedAttachments(podKey)
	if err != nil {
		return fmt.Errorf("reading CNI cache: %w", err)
	}
	for _, k := range known {
		list, err := libcni.NetworkConfFromBytes(k.Config)
		if err != nil {
			return fmt.Errorf("reading cached CNI configuration: %w", err)
		}
		conf := runtimeConf(netns, podKey)
		conf.IfName = k.IfName
		if err := p.lib.DelNetworkList(ctx, list, conf); err != nil {
			return fmt.Errorf("calling CNI plugins of %s: %w", list.Name, err)
		}
	}
	return nil
}

// attachmentOf takes an address inside the pod, an IPv4 one if there is.
func attachmentOf(result types.Result) (Attachment, error) {
	r, err := types100.NewResultFromResult(result)
	if err != nil {
		return Attachment{}, fmt.Errorf("reading answer of CNI plugins: %w", err)
	}
	ips := slices.Clone(r.IPs)
	slices.SortStableFunc(ips, func(a, b *types100.IPConfig) int { return len(b.Address.IP.To4()) - len(a.Address.IP.To4()) })
	for _, ip := range ips {
		addr, ok := netip.AddrFromSlice(ip.Address.IP)
		if !ok {
			continue
		}
		bits, _ := ip.Address.Mask.Size()
		gw, _ := netip.AddrFromSlice(ip.Gateway)
		return Attachment{IPs: []netip.Prefix{netip.PrefixFrom(addr.Unmap(), bits)}, Gateways: []netip.Addr{gw.Unmap()}}, nil
	}
	return Attachment{}, errors.New("CNI plugins gave no address")
}
