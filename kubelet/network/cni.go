package network

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/types"
	"go.uber.org/zap"
)

// pluginPatience bounds what the plugins of a configuration may take for one pod, all together.
const pluginPatience = time.Minute

// plugins joins pods to a network that somebody installed here as a CNI configuration (https://www.cni.dev/docs/spec/). What libcni keeps in its cache
// says who was joined, and by which configuration: so a pod is taken down as it was set up, also when another configuration, or none, is installed by
// then.
type plugins struct {
	confDir, cacheDir string
	binDirs           []string
	nodeIP            netip.Addr
	patience          time.Duration
	lib               *libcni.CNIConfig

	known chan []string // the keys of the pods that were found at the start, once: all else that the cache knows is left over

	calls sync.RWMutex // read for one pod, written to collect garbage: the protocol forbids both at once

	mu     sync.Mutex
	ranges []netip.Prefix // of this node's pods
	status error          // what the plugins said of themselves last
}

func newPlugins(cfg Config, log *zap.Logger) *plugins {
	if cfg.CNIConfDir == "" {
		return nil
	}
	p := &plugins{
		confDir: cfg.CNIConfDir, cacheDir: cfg.CNICacheDir, binDirs: cfg.CNIBinDirs, nodeIP: cfg.NodeIP, patience: pluginPatience, known: make(chan []string, 1),
	}
	p.lib = libcni.NewCNIConfigWithCacheDir(p.binDirs, p.cacheDir, &runner{log: log.Named("cni")})
	return p
}

// restored tells which pods there were at the start.
func (p *plugins) restored(keys []string) {
	if p == nil {
		return
	}
	select {
	case <-p.known: // nobody has read what was told before
	default:
	}
	p.known <- keys
}

// setRanges tells this node's pod ranges, in the order of the cluster's families; a node that only hears of CNI too.
func (p *plugins) setRanges(cidrs []netip.Prefix) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ranges = cidrs
}

// add calls the plugins in order. On error they are called to undo: the protocol asks for it.
func (p *plugins) add(ctx context.Context, list *libcni.NetworkConfigList, pod Pod) (_ Attachment, err error) {
	p.calls.RLock()
	defer p.calls.RUnlock()
	if err := p.missing(list); err != nil {
		return Attachment{}, err
	}
	conf, err := p.runtimeConf(list, pod)
	if err != nil {
		return Attachment{}, err
	}
	undo := context.WithoutCancel(ctx)
	ctx, cancel := context.WithTimeout(ctx, p.patience)
	defer cancel()
	if err := p.forget(ctx, pod); err != nil {
		return Attachment{}, err
	}
	if at, ok := p.joinedBefore(ctx, list, conf); ok {
		return at, nil
	}
	if err := p.undoAll(ctx, pod.Key, func(*libcni.NetworkAttachment) bool { return true }); err != nil {
		return Attachment{}, err // it had a place that is broken
	}
	defer func() {
		if err == nil {
			return
		}
		undo, cancel := context.WithTimeout(undo, p.patience)
		defer cancel()
		err = errors.Join(err, p.lib.DelNetworkList(undo, list, conf))
	}()
	result, err := p.lib.AddNetworkList(ctx, list, conf)
	if err != nil {
		return Attachment{}, fmt.Errorf("calling CNI plugins of %s: %w", list.Name, err)
	}
	return p.attachmentOf(result)
}

// strangeTries is how often plugins are asked for an address again that no other pod has.
const strangeTries = 16

// joinByPlugins joins a pod by the plugins of a configuration. They do not know the addresses of pods that the built-in network joined before it was
// installed, and that still live: while they give one of these, it is given back, and they are asked again.
func (n *Network) joinByPlugins(ctx context.Context, list *libcni.NetworkConfigList, pod Pod) (at Attachment, err error) {
	for range strangeTries {
		if at, err = n.cni.add(ctx, list, pod); err != nil {
			return Attachment{}, err
		}
		if err = n.foreign(pod.Key, at); err == nil {
			return at, nil
		}
		if undo := n.cni.remove(ctx, pod.NetNS, pod.Key); undo != nil {
			return Attachment{}, errors.Join(err, undo)
		}
	}
	return Attachment{}, err
}

// foreign says which of the addresses is another pod's.
func (n *Network) foreign(key string, at Attachment) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, ip := range at.Addresses() {
		if holder, held := n.pools[ip.Is4()].taken[ip]; held && holder != key {
			return fmt.Errorf("CNI plugins gave the address %s, which pod %s has from the built-in network", ip, holder)
		}
	}
	return nil
}

// joinedBefore is the pod's place if it has one, and if its plugins, asked where the configuration lets them be, say that it is well.
func (p *plugins) joinedBefore(ctx context.Context, list *libcni.NetworkConfigList, conf *libcni.RuntimeConf) (Attachment, bool) {
	known, err := p.lib.GetNetworkListCachedResult(list, conf)
	if err != nil || known == nil {
		return Attachment{}, false
	}
	if err := p.lib.CheckNetworkList(ctx, list, conf); err != nil && !errors.Is(err, libcni.ErrorCheckNotSupp) {
		return Attachment{}, false
	}
	at, err := p.attachmentOf(known)
	return at, err == nil
}

// forget undoes what the cache knows of a pod in another namespace: a kubelet was killed after it had joined that, and before it knew.
func (p *plugins) forget(ctx context.Context, pod Pod) error {
	return p.undoAll(ctx, pod.Key, func(k *libcni.NetworkAttachment) bool { return k.NetNS != pod.NetNS })
}

// remove undoes what the cache knows of a pod; nothing known is no error.
func (p *plugins) remove(ctx context.Context, _, podKey string) error {
	if p == nil {
		return nil
	}
	p.calls.RLock()
	defer p.calls.RUnlock()
	ctx, cancel := context.WithTimeout(ctx, p.patience)
	defer cancel()
	return p.undoAll(ctx, podKey, func(*libcni.NetworkAttachment) bool { return true })
}

// undoAll calls the plugins to undo those of a pod's attachments, each as it was made.
func (p *plugins) undoAll(ctx context.Context, podKey string, those func(*libcni.NetworkAttachment) bool) error {
	known, err := p.lib.GetCachedAttachments(podKey)
	if err != nil {
		return fmt.Errorf("reading CNI cache: %w", err)
	}
	for _, k := range known {
		if k.ContainerID != podKey || !those(k) {
			continue
		}
		list, err := libcni.NetworkConfFromBytes(k.Config)
		if err != nil {
			return fmt.Errorf("reading cached CNI configuration: %w", err)
		}
		conf := &libcni.RuntimeConf{ContainerID: k.ContainerID, NetNS: k.NetNS, IfName: k.IfName, Args: k.CniArgs, CapabilityArgs: k.CapabilityArgs}
		if _, err := os.Stat(conf.NetNS); errors.Is(err, fs.ErrNotExist) {
			conf.NetNS = "" // so the protocol says that it is gone
		}
		if err := p.lib.DelNetworkList(ctx, list, conf); err != nil {
			return fmt.Errorf("calling CNI plugins of %s: %w", list.Name, err)
		}
	}
	return nil
}

// leftovers are the keys of pods that the cache knows and that are not among those that live, each with the namespace it was joined in.
func (p *plugins) leftovers(living []string) (map[string]string, error) {
	all, err := p.lib.GetCachedAttachments("")
	if err != nil {
		return nil, fmt.Errorf("reading CNI cache: %w", err)
	}
	lives := map[string]bool{}
	for _, key := range living {
		lives[key] = true
	}
	out := map[string]string{}
	for _, k := range all {
		if !lives[k.ContainerID] {
			out[k.ContainerID] = k.NetNS
		}
	}
	return out, nil
}

// collect has plugins of a version that knows how give up what belongs to no attachment that the cache knows.
func (p *plugins) collect(ctx context.Context, list *libcni.NetworkConfigList) error {
	if !since(list, "1.1.0") {
		return nil
	}
	p.calls.Lock()
	defer p.calls.Unlock()
	ctx, cancel := context.WithTimeout(ctx, p.patience)
	defer cancel()
	all, err := p.lib.GetCachedAttachments("")
	if err != nil {
		return fmt.Errorf("reading CNI cache: %w", err)
	}
	valid := []types.GCAttachment{} // not nil: none is not unknown
	for _, k := range all {
		valid = append(valid, types.GCAttachment{ContainerID: k.ContainerID, IfName: k.IfName})
	}
	if err := p.lib.GCNetworkList(ctx, list, &libcni.GCArgs{ValidAttachments: valid}); err != nil {
		return fmt.Errorf("collecting garbage of CNI plugins of %s: %w", list.Name, err)
	}
	return nil
}
