package pods

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/types"

	"pilothouse.dev/kubelet/volumes"
	"pilothouse.dev/pkg/pod"
)

// allocation is what a pod was given of this node: the resources in its spec when it was let in, and later those of the last resize that was. Until a
// resize is let in the pod runs with what it has, whatever its spec says by now. Values are never changed in place.
//
// The pod's folder keeps it in a file, so that a kubelet which starts again tells a resize that waits from one that was let in.
type allocation struct {
	// Generation of the pod whose resources these are. INVARIANT: a pod of that generation asks for them.
	Generation int64                                  `json:"generation"`
	Pod        *corev1.ResourceRequirements           `json:"pod,omitempty"`
	Containers map[string]corev1.ResourceRequirements `json:"containers"`
}

// allocationOf is what the pod's spec asks for.
func allocationOf(p *corev1.Pod) *allocation {
	a := &allocation{Generation: p.Generation, Pod: p.Spec.Resources, Containers: map[string]corev1.ResourceRequirements{}}
	for kind, c := range pod.Containers(p) {
		if kind != pod.Ephemeral {
			a.Containers[c.Name] = c.Resources
		}
	}
	return a
}

// same says whether two ask for the same, whatever their generations.
func (a *allocation) same(o *allocation) bool {
	return equality.Semantic.DeepEqual(a.Pod, o.Pod) && equality.Semantic.DeepEqual(a.Containers, o.Containers)
}

// onto is the pod with these resources; p itself where it asks for them already, else a copy.
func (a *allocation) onto(p *corev1.Pod) *corev1.Pod {
	if a == nil || a.Generation == p.Generation || a.same(allocationOf(p)) { // resources change with the generation only
		return p
	}
	p = p.DeepCopy()
	p.Spec.Resources = a.Pod
	for _, list := range [][]corev1.Container{p.Spec.InitContainers, p.Spec.Containers} {
		for i := range list {
			if r, ok := a.Containers[list[i].Name]; ok {
				list[i].Resources = r
			}
		}
	}
	return p
}

// reported is what the pod's status tells of its allocation: the way back for a pod whose file is lost. Limits are those that containers have.
func reported(p *corev1.Pod) *allocation {
	spec := allocationOf(p)
	a := allocationOf(p)
	for name, r := range a.Containers {
		cs := pod.ContainerStatus(p, name)
		if cs == nil || cs.State.Running == nil {
			continue
		}
		r = *r.DeepCopy()
		if cs.AllocatedResources != nil {
			r.Requests = replaced(r.Requests, cs.AllocatedResources)
		}
		if cs.Resources != nil {
			r.Limits = replaced(r.Limits, cs.Resources.Limits)
		}
		a.Containers[name] = r
	}
	if !a.same(spec) {
		a.Generation-- // or one before
	}
	return a
}

// replaced is a list with cpu and memory of another.
func replaced(list, by corev1.ResourceList) corev1.ResourceList {
	out := maps.Clone(list)
	for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
		delete(out, name)
		if q, ok := by[name]; ok {
			if out == nil {
				out = corev1.ResourceList{}
			}
			out[name] = q
		}
	}
	return out
}

func allocationFile(root string, uid types.UID) string {
	return filepath.Join(volumes.PodDir(root, uid), "allocated")
}

// readAllocation is nil without an error where nothing is kept.
func readAllocation(root string, uid types.UID) (*allocation, error) {
	raw, err := os.ReadFile(allocationFile(root, uid))
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(raw) == 0 { // empty: the machine stopped while it was written
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading what the pod was given: %w", err)
	}
	a := &allocation{}
	if err := json.Unmarshal(raw, a); err != nil {
		return nil, fmt.Errorf("reading what the pod was given: %w", err)
	}
	return a, nil
}

// writeAllocation replaces the file. Durable is for changes: what a new pod was given need not outlive the machine, because then it starts anew.
func writeAllocation(root string, uid types.UID, a *allocation, durable bool) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("keeping what the pod was given: %w", err)
		}
	}()
	raw, err := json.Marshal(a)
	if err != nil {
		return err
	}
	path := allocationFile(root, uid)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	f, err := os.Create(path + ".new")
	if err != nil {
		return err
	}
	_, err = f.Write(raw)
	if err == nil && durable {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// give gives the worker's pod other resources, once they are kept: a kubelet that starts again must know of them.
func (w *worker) give(a *allocation) error {
	w.saving.Lock()
	defer w.saving.Unlock()
	if err := writeAllocation(w.cfg.Root, w.uid, a, true); err != nil {
		return err
	}
	w.mu.Lock()
	w.given = a
	w.mu.Unlock()
	w.nudge()
	return nil
}

// keep writes down what the pod was given at first.
func (w *worker) keep() error {
	w.saving.Lock()
	defer w.saving.Unlock()
	given := w.allocated()
	if _, err := os.Stat(allocationFile(w.cfg.Root, w.uid)); err == nil || given == nil {
		return nil
	}
	return writeAllocation(w.cfg.Root, w.uid, given, false)
}

// allocated is what the pod was given; nil for one that nobody wishes for.
func (w *worker) allocated() *allocation {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.given
}

// held is the newest object with the resources that it was given.
func (w *worker) held() *corev1.Pod {
	w.mu.Lock()
	p, a := w.pod, w.given
	w.mu.Unlock()
	return a.onto(p)
}
