// Package resolve turns what a pod's spec refers to into values: environment variables, command and arguments, and the fields and
// resources of the downward API. The pod workers and the volumes call it.
//
// It is pure but for Lookup, through which it asks for ConfigMaps and Secrets. What always holds: an error of this room means that the
// pod's own configuration cannot be satisfied now (CreateContainerConfigError), and names what is missing.
package resolve

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// ErrMissing says that an object or a key that the pod needs is not there.
var ErrMissing = errors.New("pod refers to something that is missing")

// missing is an ErrMissing whose text is only what a user needs to read.
type missing struct{ text string }

func (m missing) Error() string        { return m.text }
func (m missing) Is(target error) bool { return target == ErrMissing }

func missingf(format string, args ...any) error { return missing{fmt.Sprintf(format, args...)} }

// Lookup finds the objects of a pod's own namespace. A missing one is an API «not found» error.
type Lookup interface {
	ConfigMap(namespace, name string) (*corev1.ConfigMap, error)
	Secret(namespace, name string) (*corev1.Secret, error)
}

// Facts are what the downward API tells beside the pod's own metadata.
type Facts struct {
	PodIPs, HostIPs []netip.Addr
	NodeName        string
	// Allocatable of the node: what a container without limits may use.
	Allocatable corev1.ResourceList
	// Files reads a file in one of the pod's volumes, MostOfEnvFile bytes at most; one that is not there is an fs.ErrNotExist. May be nil.
	Files func(volume, path string) ([]byte, error)
	// Services are the variables of the services that the pod can see, NAME=value, made by Services.
	Services []string
}

// variables keeps an environment in the order of first appearance.
type variables struct {
	names  []string
	values map[string]string
}

func (v *variables) set(name, value string) {
	if _, known := v.values[name]; !known {
		v.names = append(v.names, name)
	}
	v.values[name] = value
}

func (v *variables) list() []string {
	out := make([]string, 0, len(v.names))
	for _, n := range v.names {
		out = append(out, n+"="+v.values[n])
	}
	return out
}

// Env makes a container's environment: services, then envFrom, then env, later ones winning. References $(NAME) see what stands before. Names may
// be whatever the API let through: any printable character but «=» (https://kubernetes.io/docs/tasks/inject-data-application/define-environment-variable-container/).
func Env(pod *corev1.Pod, c *corev1.Container, facts Facts, look Lookup) ([]string, error) {
	vars := variables{values: map[string]string{}}
	for _, kv := range facts.Services {
		name, value, _ := strings.Cut(kv, "=")
		vars.set(name, value)
	}
	for _, from := range c.EnvFrom {
		if err := fromSource(pod.Namespace, from, look, &vars); err != nil {
			return nil, err
		}
	}
	for _, e := range c.Env {
		if e.ValueFrom == nil {
			vars.set(e.Name, Expand(e.Value, vars.values))
			continue
		}
		value, present, err := valueFrom(pod, c, e.ValueFrom, facts, look)
		if err != nil {
			return nil, err
		}
		if present {
			vars.set(e.Name, value)
		}
	}
	return vars.list(), nil
}

func fromSource(namespace string, from corev1.EnvFromSource, look Lookup, vars *variables) error {
	data := map[string]string{}
	switch {
	case from.ConfigMapRef != nil:
		cm, err := look.ConfigMap(namespace, from.ConfigMapRef.Name)
		if err != nil {
			return absent(err, "configmap", from.ConfigMapRef.Name, from.ConfigMapRef.Optional)
		}
		data = cm.Data
	case from.SecretRef != nil:
		s, err := look.Secret(namespace, from.SecretRef.Name)
		if err != nil {
			return absent(err, "secret", from.SecretRef.Name, from.SecretRef.Optional)
		}
		for k, v := range s.Data {
			data[k] = string(v)
		}
	}
	keys := make([]string, 0, len(data))
	for k := range data {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for _, k := range keys {
		vars.set(from.Prefix+k, data[k])
	}
	return nil
}

// absent is nil if a missing object was optional, an ErrMissing if it wasn't; other errors stay what they are.
func absent(err error, kind, name string, optional *bool) error {
	if !apierrors.IsNotFound(err) {
		return fmt.Errorf("looking for %s %q: %w", kind, name, err)
	}
	if optional != nil && *optional {
		return nil
	}
	return missingf("%s %q not found", kind, name)
}

// valueFrom says the value of one variable, and whether there is one: an optional key that is missing gives none.
func valueFrom(pod *corev1.Pod, c *corev1.Container, from *corev1.EnvVarSource, facts Facts, look Lookup) (string, bool, error) {
	switch {
	case from.FieldRef != nil:
		v, err := Field(pod, from.FieldRef.FieldPath, facts)
		return v, err == nil, err
	case from.ResourceFieldRef != nil:
		v, err := Resource(pod, c, from.ResourceFieldRef, facts)
		return v, err == nil, err
	case from.ConfigMapKeyRef != nil:
		ref := from.ConfigMapKeyRef
		cm, err := look.ConfigMap(pod.Namespace, ref.Name)
		if err != nil {
			return "", false, absent(err, "configmap", ref.Name, ref.Optional)
		}
		v, ok := cm.Data[ref.Key]
		if !ok && !optional(ref.Optional) {
			return "", false, missingf("couldn't find key %s in ConfigMap %s/%s", ref.Key, pod.Namespace, ref.Name)
		}
		return v, ok, nil
	case from.SecretKeyRef != nil:
		ref := from.SecretKeyRef
		s, err := look.Secret(pod.Namespace, ref.Name)
		if err != nil {
			return "", false, absent(err, "secret", ref.Name, ref.Optional)
		}
		v, ok := s.Data[ref.Key]
		if !ok && !optional(ref.Optional) {
			return "", false, missingf("couldn't find key %s in Secret %s/%s", ref.Key, pod.Namespace, ref.Name)
		}
		return string(v), ok, nil
	case from.FileKeyRef != nil:
		return fromFile(from.FileKeyRef, facts)
	default:
		return "", false, missingf("a variable's source is of a kind that this kubelet does not know")
	}
}

func optional(o *bool) bool { return o != nil && *o }
