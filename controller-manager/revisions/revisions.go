// Package revisions keeps what a StatefulSet or DaemonSet was asked to run: a ControllerRevision each template, numbered, so that
// a rollout knows which pods are of which template and kubectl can go back. It is called by the controllers of both kinds; which
// revision is to run where is theirs to decide.
//
// What always holds: a template that was there before gets its old revision back, with the highest number; no two revisions of one
// owner hold the same template; the data are the patch that `kubectl rollout undo` sends.
package revisions

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"strconv"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/rand"
)

// Wish is a template for which there is to be a revision.
type Wish struct {
	Owner      metav1.Object
	Kind       schema.GroupVersionKind // of the owner
	Template   *corev1.PodTemplateSpec
	HashLabel  string // the label under which the revision bears its hash
	Collisions *int32 // how often a name was taken by something else; nil is none
}

// Data is the template as a strategic merge patch that puts it into its owner in place of another.
func Data(t *corev1.PodTemplateSpec) ([]byte, error) {
	b, err := json.Marshal(t)
	if err != nil {
		return nil, fmt.Errorf("writing a pod template: %w", err)
	}
	var template map[string]any
	if err := json.Unmarshal(b, &template); err != nil {
		return nil, fmt.Errorf("reading a pod template again: %w", err)
	}
	template["$patch"] = "replace"
	return json.Marshal(map[string]any{"spec": map[string]any{"template": template}})
}

// Make is the revision of a wish, not yet stored, with the number 0. Its name ends in its hash.
func Make(w Wish) (*appsv1.ControllerRevision, error) {
	data, err := Data(w.Template)
	if err != nil {
		return nil, err
	}
	hash := hashOf(data, w.Collisions)
	labels := maps.Clone(w.Template.Labels)
	if labels == nil {
		labels = map[string]string{}
	}
	labels[w.HashLabel] = hash
	name := w.Owner.GetName()
	return &appsv1.ControllerRevision{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: w.Owner.GetNamespace(), Name: strings.TrimRight(name[:min(len(name), 223)], "-.") + "-" + hash, Labels: labels,
			Annotations:     maps.Clone(w.Owner.GetAnnotations()),
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(w.Owner, w.Kind)},
		},
		Data: runtime.RawExtension{Raw: data},
	}, nil
}

// hashOf names data; the same data with as many collisions have the same hash.
func hashOf(data []byte, collisions *int32) string {
	h := fnv.New32a()
	h.Write(data)
	if collisions != nil {
		h.Write([]byte(strconv.FormatInt(int64(*collisions), 10)))
	}
	return rand.SafeEncodeString(strconv.FormatUint(uint64(h.Sum32()), 10))
}

// Same says whether two revisions hold the same template, however their JSON is written.
func Same(a, b *appsv1.ControllerRevision) bool {
	if bytes.Equal(a.Data.Raw, b.Data.Raw) {
		return true
	}
	x, err := canonical(a.Data.Raw)
	if err != nil {
		return false
	}
	y, err := canonical(b.Data.Raw)
	return err == nil && bytes.Equal(x, y)
}

// canonical reads the patch as a template and writes it again: fields that later versions add are absent until used.
func canonical(data []byte) ([]byte, error) {
	t, err := Template(data)
	if err != nil {
		return nil, err
	}
	return json.Marshal(t)
}

// Template is the template that data of a revision hold.
func Template(data []byte) (*corev1.PodTemplateSpec, error) {
	var patch struct {
		Spec struct {
			Template corev1.PodTemplateSpec `json:"template"`
		} `json:"spec"`
	}
	if err := json.Unmarshal(data, &patch); err != nil {
		return nil, fmt.Errorf("reading the template of a revision: %w", err)
	}
	return &patch.Spec.Template, nil
}

// Sort puts revisions in order, the oldest first.
func Sort(revs []*appsv1.ControllerRevision) {
	slices.SortStableFunc(revs, func(a, b *appsv1.ControllerRevision) int {
		return cmp.Or(cmp.Compare(a.Revision, b.Revision), a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
	})
}

// Find is the last of sorted revisions that holds the same template as rev; nil when none does.
func Find(sorted []*appsv1.ControllerRevision, rev *appsv1.ControllerRevision) *appsv1.ControllerRevision {
	for _, have := range slices.Backward(sorted) {
		if Same(have, rev) {
			return have
		}
	}
	return nil
}

// Next is the number after the last of sorted revisions.
func Next(sorted []*appsv1.ControllerRevision) int64 {
	if len(sorted) == 0 {
		return 1
	}
	return sorted[len(sorted)-1].Revision + 1
}

// Excess are the revisions to give up so that, beside those in use by name, no more than limit stay (a negative one is none): the oldest.
func Excess(sorted []*appsv1.ControllerRevision, used map[string]bool, limit int) []*appsv1.ControllerRevision {
	var idle []*appsv1.ControllerRevision
	for _, r := range sorted {
		if !used[r.Name] {
			idle = append(idle, r)
		}
	}
	return idle[:max(len(idle)-max(limit, 0), 0)]
}
