package volumes

import (
	"context"
	"fmt"
	"path"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"pilothouse.dev/kubelet/resolve"
)

// The four kinds whose content comes from the API: each collects files, write puts them on the disk.

func isConfigMap(s *corev1.VolumeSource) bool { return s.ConfigMap != nil }
func isSecret(s *corev1.VolumeSource) bool    { return s.Secret != nil }
func isDownward(s *corev1.VolumeSource) bool  { return s.DownwardAPI != nil }
func isProjected(s *corev1.VolumeSource) bool { return s.Projected != nil }

func setupConfigMap(_ context.Context, g Ground) (Volume, error) {
	s := g.Volume.ConfigMap
	files, err := g.configMap(s.Name, s.Items, s.Optional, mode(s.DefaultMode))
	if err != nil {
		return Volume{}, err
	}
	return g.content(files)
}

// setupSecret keeps the content in memory: it must never reach a disk.
func setupSecret(_ context.Context, g Ground) (Volume, error) {
	s := g.Volume.Secret
	files, err := g.secret(s.SecretName, s.Items, s.Optional, mode(s.DefaultMode))
	if err != nil {
		return Volume{}, err
	}
	if err := mountTmpfs(g.Dir, "mode=0755"); err != nil {
		return Volume{}, err
	}
	return g.content(files)
}

func setupDownward(_ context.Context, g Ground) (Volume, error) {
	files, err := g.downward(g.Volume.DownwardAPI.Items, mode(g.Volume.DownwardAPI.DefaultMode))
	if err != nil {
		return Volume{}, err
	}
	return g.content(files)
}

func (g Ground) content(files map[string]file) (Volume, error) {
	if err := write(g.Dir, files, fsGroup(g.Pod)); err != nil {
		return Volume{}, fmt.Errorf("writing content: %w", err)
	}
	return Volume{Path: g.Dir, ReadOnly: true}, nil
}

func mode(m *int32) int32 {
	if m == nil {
		return 0o644
	}
	return *m
}

func (g Ground) configMap(name string, items []corev1.KeyToPath, optional *bool, def int32) (map[string]file, error) {
	cm, err := g.Look.ConfigMap(g.Pod.Namespace, name)
	if err != nil {
		return nothing(err, "configmap", name, optional)
	}
	data := make(map[string][]byte, len(cm.Data)+len(cm.BinaryData))
	for k, v := range cm.Data {
		data[k] = []byte(v)
	}
	for k, v := range cm.BinaryData {
		data[k] = v
	}
	return pick(data, items, optional, def, "configmap", name)
}

func (g Ground) secret(name string, items []corev1.KeyToPath, optional *bool, def int32) (map[string]file, error) {
	s, err := g.Look.Secret(g.Pod.Namespace, name)
	if err != nil {
		return nothing(err, "secret", name, optional)
	}
	return pick(s.Data, items, optional, def, "secret", name)
}

// nothing is no files if a missing object was optional.
func nothing(err error, kind, name string, optional *bool) (map[string]file, error) {
	if apierrors.IsNotFound(err) {
		if optional != nil && *optional {
			return nil, nil
		}
		return nil, fmt.Errorf("%s %q not found", kind, name)
	}
	return nil, err
}

// noKey is what users know to be said of a key that is not there.
var noKey = map[string]string{
	"configmap": "configmap references non-existent config key", "secret": "references non-existent secret key",
}

// pick chooses the files: all keys under their own names, or the items under theirs.
func pick(data map[string][]byte, items []corev1.KeyToPath, optional *bool, def int32, kind, name string) (map[string]file, error) {
	files := map[string]file{}
	if len(items) == 0 {
		for k, v := range data {
			files[k] = file{data: v, mode: def}
		}
		return files, nil
	}
	for _, item := range items {
		v, ok := data[item.Key]
		if !ok {
			if optional != nil && *optional {
				continue
			}
			return nil, fmt.Errorf("%s %q: %s: %s", kind, name, noKey[kind], item.Key)
		}
		p, err := inside(item.Path)
		if err != nil {
			return nil, err
		}
		m := def
		if item.Mode != nil {
			m = *item.Mode
		}
		files[p] = file{data: v, mode: m}
	}
	return files, nil
}

func (g Ground) downward(items []corev1.DownwardAPIVolumeFile, def int32) (map[string]file, error) {
	files := map[string]file{}
	for _, item := range items {
		p, err := inside(item.Path)
		if err != nil {
			return nil, err
		}
		m := def
		if item.Mode != nil {
			m = *item.Mode
		}
		var value string
		switch {
		case item.FieldRef != nil:
			value, err = resolve.Field(g.Pod, item.FieldRef.FieldPath, g.Facts)
		case item.ResourceFieldRef != nil:
			value, err = resolve.Resource(g.Pod, nil, item.ResourceFieldRef, g.Facts)
		}
		if err != nil {
			return nil, err
		}
		files[p] = file{data: []byte(value), mode: m}
	}
	return files, nil
}

// inside cleans a path that must stay within the volume.
func inside(p string) (string, error) {
	clean := path.Clean(p)
	if p == "" || path.IsAbs(p) || clean == "." || clean == ".." || strings.HasPrefix(clean, "..") {
		return "", fmt.Errorf("path %q does not stay within the volume", p)
	}
	return clean, nil
}
