package conformance

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// content is a way by which an object's data come into a volume.
type content struct{ secret, projected bool }

var (
	configMap          = content{}
	secret             = content{secret: true}
	projectedConfigMap = content{projected: true}
	projectedSecret    = content{secret: true, projected: true}
)

// put makes the object, or gives the one that is there these data and no others.
func (k content) put(r *row, ns, name string, data map[string]string, binary ...string) {
	r.Helper()
	maps, secrets := r.kube.CoreV1().ConfigMaps(ns), r.kube.CoreV1().Secrets(ns)
	if k.secret {
		o := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: name}, StringData: data}
		if _, err := secrets.Get(r.ctx, name, metav1.GetOptions{}); err != nil {
			_, err = secrets.Create(r.ctx, o, metav1.CreateOptions{})
			r.must(err, "creating secret "+name)
			return
		}
		_, err := secrets.Update(r.ctx, o, metav1.UpdateOptions{})
		r.must(err, "updating secret "+name)
		return
	}
	o := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}, Data: data}
	for _, key := range binary {
		o.BinaryData = map[string][]byte{key: {0xde, 0xca, 0xfe, 0xba, 0xd0, 0xfe, 0xff}}
	}
	if _, err := maps.Get(r.ctx, name, metav1.GetOptions{}); err != nil {
		_, err = maps.Create(r.ctx, o, metav1.CreateOptions{})
		r.must(err, "creating config map "+name)
		return
	}
	_, err := maps.Update(r.ctx, o, metav1.UpdateOptions{})
	r.must(err, "updating config map "+name)
}

func (k content) remove(r *row, ns, name string) {
	r.Helper()
	if k.secret {
		r.must(r.kube.CoreV1().Secrets(ns).Delete(r.ctx, name, metav1.DeleteOptions{}), "deleting secret "+name)
		return
	}
	r.must(r.kube.CoreV1().ConfigMaps(ns).Delete(r.ctx, name, metav1.DeleteOptions{}), "deleting config map "+name)
}

// volume is one with the object's data. optional, items and mode may be nil.
func (k content) volume(name string, optional *bool, mode *int32, items ...corev1.KeyToPath) corev1.VolumeSource {
	ref := corev1.LocalObjectReference{Name: name}
	switch {
	case k.secret && k.projected:
		return projection(mode, corev1.VolumeProjection{Secret: &corev1.SecretProjection{LocalObjectReference: ref, Items: items, Optional: optional}})
	case k.projected:
		return projection(mode, corev1.VolumeProjection{ConfigMap: &corev1.ConfigMapProjection{LocalObjectReference: ref, Items: items, Optional: optional}})
	case k.secret:
		return corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: name, Items: items, Optional: optional, DefaultMode: mode}}
	}
	return corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: ref, Items: items, Optional: optional, DefaultMode: mode}}
}

func projection(mode *int32, sources ...corev1.VolumeProjection) corev1.VolumeSource {
	return corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: sources, DefaultMode: mode}}
}

// reading is a row about what a container finds in a volume with an object's data.
type reading struct {
	kind        content
	user, group int64
	mode        int32             // the volume's own; 0 for none
	item        *corev1.KeyToPath // instead of all keys
	seen        string            // the file's mode; empty: -rw-r--r--
}

func (c reading) row(r *row) {
	ns := r.namespace()
	data := map[string]string{"data-1": "value-1", "data-2": "value-2", "data-3": "value-3"}
	c.kind.put(r, ns, "object", data)
	file, want, items := "/etc/object/data-1", "value-1", []corev1.KeyToPath(nil)
	if c.item != nil {
		file, want, items = "/etc/object/"+c.item.Path, data[c.item.Key], []corev1.KeyToPath{*c.item}
	}
	pod := looker("reader", false, "content:"+file, "mode:"+file, "list:/etc/object")
	var mode *int32
	if c.mode != 0 {
		mode = &c.mode
	}
	mount(pod, "/etc/object", c.kind.volume("object", nil, mode, items...))
	as(pod, c.user, c.group)
	if c.seen == "" {
		c.seen = "-rw-r--r--"
	}
	r.says(ns, pod, "content of "+file+": "+want, "mode of "+file+": "+c.seen)
}

// item shows data-2 at a path of its own.
func item(mode *int32) *corev1.KeyToPath {
	return &corev1.KeyToPath{Key: "data-2", Path: "path/to/data-2", Mode: mode}
}

// twice: one object in two volumes of a pod (CS-009, CS-046, CS-065, CS-073).
func (k content) twice(r *row) {
	ns := r.namespace()
	k.put(r, ns, "object", map[string]string{"data-1": "value-1"})
	pod := looker("reader", false, "content:/etc/one/data-1", "content:/etc/two/data-1")
	mount(pod, "/etc/one", k.volume("object", nil, nil))
	mount(pod, "/etc/two", k.volume("object", nil, nil))
	r.says(ns, pod, "content of /etc/one/data-1: value-1", "content of /etc/two/data-1: value-1")
}

// updates: a running container sees what an object is changed to (CS-011, CS-047).
func (k content) updates(r *row) {
	ns := r.namespace()
	k.put(r, ns, "object", map[string]string{"data-1": "value-1"})
	pod := looker("reader", true, "content:/etc/object/data-1")
	mount(pod, "/etc/object", k.volume("object", nil, nil))
	r.reaches(ns, pod, corev1.PodRunning)
	r.heard(ns, "reader", "c", "content of /etc/object/data-1: value-1")
	k.put(r, ns, "object", map[string]string{"data-1": "value-2"})
	r.heard(ns, "reader", "c", "content of /etc/object/data-1: value-2")
}

// optionals: of objects that a pod can do without, one goes, one changes and one comes (CS-002, CS-039, CS-059, CS-066).
func (k content) optionals(r *row) {
	ns, yes := r.namespace(), true
	k.put(r, ns, "goes", map[string]string{"data-1": "value-1"})
	k.put(r, ns, "changes", map[string]string{"data-1": "value-1"})
	pod := looker("reader", true, "content:/etc/goes/data-1", "content:/etc/changes/data-1", "content:/etc/changes/data-3", "content:/etc/comes/data-1")
	for _, name := range []string{"goes", "changes", "comes"} {
		mount(pod, "/etc/"+name, k.volume(name, &yes, nil))
	}
	r.reaches(ns, pod, corev1.PodRunning)
	none := ": (no such file or directory)"
	r.heard(ns, "reader", "c", "content of /etc/goes/data-1: value-1", "content of /etc/changes/data-1: value-1",
		"content of /etc/changes/data-3"+none, "content of /etc/comes/data-1"+none)
	k.remove(r, ns, "goes")
	k.put(r, ns, "changes", map[string]string{"data-3": "value-3"})
	k.put(r, ns, "comes", map[string]string{"data-1": "value-1"})
	r.heard(ns, "reader", "c", "content of /etc/goes/data-1"+none, "content of /etc/changes/data-1"+none,
		"content of /etc/changes/data-3: value-3", "content of /etc/comes/data-1: value-1")
}

// immutable: what is marked so keeps its data and its mark, and can be deleted (CS-010, CS-074).
func (k content) immutable(r *row) {
	ns := r.namespace()
	k.put(r, ns, "object", map[string]string{"data-1": "value-1"})
	k.put(r, ns, "object", map[string]string{"data-1": "value-2"})
	patch := func(body string) error {
		var err error
		if k.secret {
			_, err = r.kube.CoreV1().Secrets(ns).Patch(r.ctx, "object", types.MergePatchType, []byte(body), metav1.PatchOptions{})
		} else {
			_, err = r.kube.CoreV1().ConfigMaps(ns).Patch(r.ctx, "object", types.MergePatchType, []byte(body), metav1.PatchOptions{})
		}
		return err
	}
	r.must(patch(`{"immutable":true}`), "marking it")
	more := `{"data":{"data-3":"dmFsdWUtMw=="}}`
	r.refused(patch(more), metav1.StatusReasonInvalid, "changing the data")
	for _, mark := range []string{"null", "false"} {
		r.refused(patch(fmt.Sprintf(`{"immutable":%s}`, mark)), metav1.StatusReasonInvalid, "marking it "+mark)
	}
	r.must(patch(`{"metadata":{"labels":{"changed":"yes"}}}`), "labelling it")
	pod := looker("reader", false, "content:/etc/object/data-1")
	mount(pod, "/etc/object", k.volume("object", nil, nil))
	r.says(ns, pod, "content of /etc/object/data-1: value-2")
	k.remove(r, ns, "object")
}

// CS-001: text and binary data, side by side.
func configMapBinary(r *row) {
	ns := r.namespace()
	configMap.put(r, ns, "object", map[string]string{"data-1": "value-1"}, "dump.bin")
	pod := looker("reader", false, "content:/etc/object/data-1", "bytes:/etc/object/dump.bin")
	mount(pod, "/etc/object", configMap.volume("object", nil, nil))
	r.says(ns, pod, "content of /etc/object/data-1: value-1", "bytes of /etc/object/dump.bin: decafebad0feff")
}

// CS-067: a secret of the same name in another namespace is another one.
func secretOfOtherNamespace(r *row) {
	ns, other := r.namespace(), r.namespace()
	secret.put(r, ns, "object", map[string]string{"data-1": "value-1"})
	secret.put(r, other, "object", map[string]string{"data-1": "this should not be here"})
	pod := looker("reader", false, "content:/etc/object/data-1", "mode:/etc/object/data-1")
	mount(pod, "/etc/object", secret.volume("object", nil, nil))
	r.says(ns, pod, "content of /etc/object/data-1: value-1", "mode of /etc/object/data-1: -rw-r--r--")
}

// CS-038: a config map, a secret and the downward API in one volume.
func projectedTogether(r *row) {
	ns := r.namespace()
	configMap.put(r, ns, "object", map[string]string{"configmap-data": "configmap-value-1"})
	secret.put(r, ns, "object", map[string]string{"secret-data": "secret-value-1"})
	ref := corev1.LocalObjectReference{Name: "object"}
	pod := looker("reader", false, "content:/all/podname", "content:/all/secret-data", "content:/all/configmap-data")
	mount(pod, "/all", projection(nil,
		corev1.VolumeProjection{DownwardAPI: &corev1.DownwardAPIProjection{Items: []corev1.DownwardAPIVolumeFile{fieldFile("podname", "metadata.name")}}},
		corev1.VolumeProjection{Secret: &corev1.SecretProjection{LocalObjectReference: ref, Items: []corev1.KeyToPath{{Key: "secret-data", Path: "secret-data"}}}},
		corev1.VolumeProjection{ConfigMap: &corev1.ConfigMapProjection{LocalObjectReference: ref, Items: []corev1.KeyToPath{{Key: "configmap-data", Path: "configmap-data"}}}},
	))
	r.says(ns, pod, "content of /all/podname: reader", "content of /all/secret-data: secret-value-1", "content of /all/configmap-data: configmap-value-1")
}
