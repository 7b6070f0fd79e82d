package volumes

import (
	"context"
	"fmt"
	"path"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"pilothouse.dev/kubelet/resolve"
	"pilothouse.dev/pkg/pod"
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
	if err := mountTmpfs(g.Dir, 0); err != nil {
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

// setupProjected joins several sources; where two write the same path the later one wins. In memory, since secrets may be among them.
func setupProjected(ctx context.Context, g Ground) (Volume, error) {
	files, def := map[string]file{}, mode(g.Volume.Projected.DefaultMode)
	var renew time.Time
	for _, src := range g.Volume.Projected.Sources {
		var part map[string]file
		var err error
		switch {
		case src.ConfigMap != nil:
			part, err = g.configMap(src.ConfigMap.Name, src.ConfigMap.Items, src.ConfigMap.Optional, def)
		case src.Secret != nil:
			part, err = g.secret(src.Secret.Name, src.Secret.Items, src.Secret.Optional, def)
		case src.DownwardAPI != nil:
			part, err = g.downward(src.DownwardAPI.Items, def)
		case src.ServiceAccountToken != nil:
			var due time.Time
			part, due, err = g.token(ctx, src.ServiceAccountToken, def)
			renew = sooner(renew, due)
		default:
			err = fmt.Errorf("source of a projected volume: %w", ErrUnsupported)
		}
		if err != nil {
			return Volume{}, err
		}
		for name, f := range part {
			files[name] = f
		}
	}
	if err := mountTmpfs(g.Dir, 0); err != nil {
		return Volume{}, err
	}
	v, err := g.content(files)
	v.Renew = renew
	return v, err
}

// token is the file of a service account token. Only who the pod's containers run as may read it, where that can be told
// (https://kubernetes.io/docs/concepts/storage/projected-volumes/#securitycontext-interactions).
func (g Ground) token(ctx context.Context, p *corev1.ServiceAccountTokenProjection, def int32) (map[string]file, time.Time, error) {
	name, err := inside(p.Path)
	if err != nil {
		return nil, time.Time{}, err
	}
	text, renew, err := g.Tokens.Token(ctx, g.Pod, p)
	if err != nil {
		return nil, time.Time{}, err
	}
	f := file{data: []byte(text), mode: def}
	if user := onlyUser(g.Pod); user != nil && fsGroup(g.Pod) == nil {
		f.uid = user
	}
	if f.uid != nil || fsGroup(g.Pod) != nil {
		f.mode = 0o600
	}
	return map[string]file{name: f}, renew, nil
}

// onlyUser is the user whom all containers of a pod run as, nil when they differ or it is left to the image.
func onlyUser(p *corev1.Pod) *int64 {
	var whole, only *int64
	if s := p.Spec.SecurityContext; s != nil {
		whole = s.RunAsUser
	}
	for _, c := range pod.Containers(p) {
		user := whole
		if c.SecurityContext != nil && c.SecurityContext.RunAsUser != nil {
			user = c.SecurityContext.RunAsUser
		}
		if user == nil || only != nil && *user != *only {
			return nil
		}
		only = user
	}
	return only
}

// sooner is the earlier of two times, of which the zero time is none.
func sooner(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
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

// pick chooses the files: all keys under their own names, or the items under theirs.
func pick(data map[string][]byte, items []corev1.KeyToPath, optional *bool, def int32, kind, name string) (map[string]file, error) {
	files := map[string]file{}
	if items == nil {
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
			return nil, fmt.Errorf("%s %q has no key %q", kind, name, item.Key)
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
