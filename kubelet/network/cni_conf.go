package network

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/invoke"
	"github.com/containernetworking/cni/pkg/version"
)

// errNotInitialized is what users of Kubernetes know: a configuration is there, and cannot be used.
var errNotInitialized = errors.New("cni plugin not initialized")

// installed is the configuration that counts, the first by file name: a list (*.conflist), or a single plugin (*.conf, *.json) that makes a list of
// its own. Nil if there is none. The folder is read each time: whoever installs a network needs tell nobody.
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
		read := libcni.NetworkConfFromFile
		switch filepath.Ext(e.Name()) {
		case ".conflist":
		case ".conf", ".json":
			read = single
		default:
			continue
		}
		if e.IsDir() {
			continue
		}
		list, err := read(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue // it was taken away meanwhile
		}
		if err != nil {
			return nil, fmt.Errorf("%w: failed to load CNI config file %s: %w", errNotInitialized, path, err)
		}
		return list, nil
	}
	return nil, nil
}

// single reads the configuration of one plugin.
func single(path string) (*libcni.NetworkConfigList, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	one, err := libcni.NetworkPluginConfFromBytes(text)
	if err != nil {
		return nil, err
	}
	if one.Network.Name == "" {
		return nil, errors.New("error parsing configuration: missing 'name'")
	}
	list, err := json.Marshal(map[string]any{"name": one.Network.Name, "cniVersion": one.Network.CNIVersion, "plugins": []json.RawMessage{text}})
	if err != nil {
		return nil, err
	}
	return libcni.NetworkConfFromBytes(list)
}

// missing says which plugin of a configuration, or of its address management, is not installed.
func (p *plugins) missing(list *libcni.NetworkConfigList) error {
	for _, plugin := range list.Plugins {
		for _, program := range []string{plugin.Network.Type, plugin.Network.IPAM.Type} {
			if program == "" {
				continue
			}
			if _, err := invoke.FindInPath(program, p.binDirs); err != nil {
				return fmt.Errorf("%w: %w", errNotInitialized, err)
			}
		}
	}
	return nil
}

// ready says whether a configuration is installed, and why it cannot be used.
func (p *plugins) ready() (here bool, err error) {
	list, err := p.installed()
	if err == nil && list != nil {
		err = p.missing(list)
	}
	if err == nil && list != nil {
		p.mu.Lock()
		err = p.status
		if needs(list, capabilityRanges) && len(p.ranges) == 0 {
			err = ErrNoPodCIDR
		}
		p.mu.Unlock()
	}
	if err != nil {
		return true, fmt.Errorf("NetworkReady=false reason:NetworkPluginNotReady message:Network plugin returns error: %w", err)
	}
	return list != nil, nil
}

// askStatus asks plugins of a version that knows it whether they can join pods, and says whether the answer has changed.
func (p *plugins) askStatus(ctx context.Context, list *libcni.NetworkConfigList) (changed bool) {
	var status error
	if list != nil && since(list, "1.1.0") && p.missing(list) == nil {
		ctx, cancel := context.WithTimeout(ctx, p.patience)
		defer cancel()
		if status = p.lib.GetStatusNetworkList(ctx, list); status != nil {
			status = fmt.Errorf("%w: %w", errNotInitialized, status)
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	changed = (status == nil) != (p.status == nil) || status != nil && status.Error() != p.status.Error()
	p.status = status
	return changed
}

// since: the configuration is of this version of the protocol, or of a later one.
func since(list *libcni.NetworkConfigList, what string) bool {
	yes, err := version.GreaterThanOrEqualTo(list.CNIVersion, what)
	return err == nil && yes
}
