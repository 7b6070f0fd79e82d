package localpath

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"pilothouse.dev/pkg/localvolume"
)

func claimWith(change func(*corev1.PersistentVolumeClaim)) *corev1.PersistentVolumeClaim {
	class := "local-path"
	c := &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "data", UID: "u1", ResourceVersion: "7", Annotations: map[string]string{
			annProvisioner: localvolume.Provisioner, annSelectedNode: "n1",
		}},
		Spec: corev1.PersistentVolumeClaimSpec{StorageClassName: &class, AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
			Resources: corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}}},
	}
	if change != nil {
		change(c)
	}
	return c
}

func classWith(change func(*storagev1.StorageClass)) *storagev1.StorageClass {
	s := &storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: "local-path"}, Provisioner: localvolume.Provisioner,
		VolumeBindingMode: new(storagev1.VolumeBindingWaitForFirstConsumer), MountOptions: []string{"noatime"}}
	if change != nil {
		change(s)
	}
	return s
}

func nodeWith(name string, labels map[string]string) *corev1.Node {
	return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}}
}

func TestAwaits(t *testing.T) {
	now := metav1.Now()
	for name, c := range map[string]struct {
		change func(*corev1.PersistentVolumeClaim)
		want   bool
	}{
		"ours":     {nil, true},
		"another":  {func(c *corev1.PersistentVolumeClaim) { c.Annotations[annProvisioner] = "example.com/disks" }, false},
		"nobody's": {func(c *corev1.PersistentVolumeClaim) { c.Annotations = nil }, false},
		"bound":    {func(c *corev1.PersistentVolumeClaim) { c.Spec.VolumeName = "pv" }, false},
		"going":    {func(c *corev1.PersistentVolumeClaim) { c.DeletionTimestamp = &now }, false},
	} {
		if got := awaits(claimWith(c.change)); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestRefuse(t *testing.T) {
	type (
		claim = corev1.PersistentVolumeClaim
		class = storagev1.StorageClass
	)
	modes := func(m ...corev1.PersistentVolumeAccessMode) func(*claim) {
		return func(c *claim) { c.Spec.AccessModes = m }
	}
	for name, c := range map[string]struct {
		claim func(*claim)
		class func(*class)
		want  string
	}{
		"plain":                 {},
		"for one pod":           {claim: modes(corev1.ReadWriteOncePod)},
		"for many":              {claim: modes(corev1.ReadWriteOnce, corev1.ReadWriteMany), want: "access mode ReadWriteMany is not supported: the volume is a folder of one node"},
		"for many readers":      {claim: modes(corev1.ReadOnlyMany), want: "access mode ReadOnlyMany is not supported"},
		"a device":              {claim: func(c *claim) { c.Spec.VolumeMode = new(corev1.PersistentVolumeBlock) }, want: "volume mode Block is not supported"},
		"files, said so":        {claim: func(c *claim) { c.Spec.VolumeMode = new(corev1.PersistentVolumeFilesystem) }},
		"chosen by labels":      {claim: func(c *claim) { c.Spec.Selector = &metav1.LabelSelector{} }, want: "claim.Spec.Selector is not supported"},
		"a copy":                {claim: func(c *claim) { c.Spec.DataSource = &corev1.TypedLocalObjectReference{} }, want: "a data source is not supported"},
		"a copy, newer":         {claim: func(c *claim) { c.Spec.DataSourceRef = &corev1.TypedObjectReference{} }, want: "a data source is not supported"},
		"attributes":            {claim: func(c *claim) { c.Spec.VolumeAttributesClassName = new("gold") }, want: `volume attributes class "gold" is not supported`},
		"at once":               {class: func(s *class) { s.VolumeBindingMode = new(storagev1.VolumeBindingImmediate) }, want: "must have volumeBindingMode WaitForFirstConsumer"},
		"at once, by default":   {class: func(s *class) { s.VolumeBindingMode = nil }, want: "must have volumeBindingMode"},
		"a class with nonsense": {class: func(s *class) { s.Parameters = map[string]string{"colour": "red"} }, want: `unknown parameter "colour"`},
	} {
		err := refuse(claimWith(c.claim), classWith(c.class))
		if (err == nil) != (c.want == "") || err != nil && !strings.HasPrefix(strings.TrimPrefix(err.Error(), "the class "), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

func TestUnfit(t *testing.T) {
	zones := classWith(func(s *storagev1.StorageClass) {
		s.AllowedTopologies = []corev1.TopologySelectorTerm{{MatchLabelExpressions: []corev1.TopologySelectorLabelRequirement{
			{Key: "zone", Values: []string{"a", "b"}}, {Key: "disk", Values: []string{"fast"}},
		}}}
	})
	for name, c := range map[string]struct {
		class *storagev1.StorageClass
		node  *corev1.Node
		want  string
	}{
		"any":             {classWith(nil), nodeWith("n1", map[string]string{corev1.LabelHostname: "h1"}), ""},
		"has no name":     {classWith(nil), nodeWith("n1", nil), `node "n1" has no label kubernetes.io/hostname`},
		"has a long name": {classWith(nil), nodeWith(strings.Repeat("n", 64), map[string]string{corev1.LabelHostname: "h1"}), "too long for a label"},
		"in the zone":     {zones, nodeWith("n1", map[string]string{corev1.LabelHostname: "h1", "zone": "b", "disk": "fast"}), ""},
		"in another":      {zones, nodeWith("n1", map[string]string{corev1.LabelHostname: "h1", "zone": "c", "disk": "fast"}), "allowedTopologies"},
		"in none":         {zones, nodeWith("n1", map[string]string{corev1.LabelHostname: "h1", "zone": "a"}), "allowedTopologies"},
	} {
		err := unfit(c.class, c.node)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

func TestVolume(t *testing.T) {
	claim := claimWith(nil)
	v := volume(claim, classWith(nil), nodeWith("n1", map[string]string{corev1.LabelHostname: "h1"}), "/data")
	if v.Name != "pvc-u1" || v.Spec.Local.Path != "/data/pvc-u1" || v.Labels[localvolume.NodeLabel] != "n1" || v.Finalizers[0] != localvolume.Finalizer ||
		v.Annotations["pv.kubernetes.io/provisioned-by"] != "pilothouse.dev/local-path" {
		t.Errorf("%+v", v)
	}
	if r := v.Spec.ClaimRef; r.UID != "u1" || r.Namespace != "shop" || r.Name != "data" || r.Kind != "PersistentVolumeClaim" || r.APIVersion != "v1" {
		t.Errorf("%+v", r)
	}
	if a := v.Spec.NodeAffinity.Required.NodeSelectorTerms[0].MatchExpressions[0]; a.Key != "kubernetes.io/hostname" || a.Values[0] != "h1" {
		t.Errorf("%+v", a)
	}
	if v.Spec.PersistentVolumeReclaimPolicy != corev1.PersistentVolumeReclaimDelete || v.Spec.StorageClassName != "local-path" || v.Spec.MountOptions[0] != "noatime" ||
		v.Spec.Capacity.Storage().String() != "1Gi" || len(v.Spec.AccessModes) != 1 || *v.Spec.VolumeMode != corev1.PersistentVolumeFilesystem {
		t.Errorf("%+v", v.Spec)
	}
	if !belongs(v, claim) || belongs(v, claimWith(func(c *corev1.PersistentVolumeClaim) { c.UID = "u2" })) {
		t.Error("the volume is not known by its claim")
	}
	kept := volume(claim, classWith(func(s *storagev1.StorageClass) { s.ReclaimPolicy = new(corev1.PersistentVolumeReclaimRetain) }), nodeWith("n1", nil), "/data")
	if kept.Spec.PersistentVolumeReclaimPolicy != corev1.PersistentVolumeReclaimRetain {
		t.Errorf("%+v", kept.Spec)
	}
}

func TestFate(t *testing.T) {
	now := metav1.Now()
	type pv = corev1.PersistentVolume
	for name, c := range map[string]struct {
		change func(*pv)
		want   fate
	}{
		"new":      {func(*pv) {}, stays},
		"bound":    {func(v *pv) { v.Status.Phase = corev1.VolumeBound }, stays},
		"released": {func(v *pv) { v.Status.Phase = corev1.VolumeReleased }, deleted},
		"released, kept": {func(v *pv) {
			v.Status.Phase, v.Spec.PersistentVolumeReclaimPolicy = corev1.VolumeReleased, corev1.PersistentVolumeReclaimRetain
		}, stays},
		"another's":              {func(v *pv) { v.Status.Phase = corev1.VolumeReleased; v.Annotations = nil }, stays},
		"going":                  {func(v *pv) { v.Status.Phase, v.DeletionTimestamp = corev1.VolumeReleased, &now }, orphan},
		"going, still bound":     {func(v *pv) { v.Status.Phase, v.DeletionTimestamp = corev1.VolumeBound, &now }, stays},
		"going, its folder gone": {func(v *pv) { v.DeletionTimestamp, v.Finalizers = &now, []string{"x"} }, stays},
		"going, not to be deleted": {func(v *pv) {
			v.DeletionTimestamp, v.Spec.PersistentVolumeReclaimPolicy = &now, corev1.PersistentVolumeReclaimRetain
		}, orphan},
	} {
		v := volume(claimWith(nil), classWith(nil), nodeWith("n1", nil), "/data")
		c.change(v)
		if got := fateOf(v); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

// TestMissing counts from when a node was first missed, and anew once it was there.
func TestMissing(t *testing.T) {
	c := &controller{missing: map[string]time.Time{}}
	at := time.Unix(1000, 0)
	if d := c.missed("n1", at); d != 0 {
		t.Error(d)
	}
	if d := c.missed("n1", at.Add(time.Minute)); d != time.Minute {
		t.Error(d)
	}
	c.found("n1")
	if d := c.missed("n1", at.Add(2*time.Minute)); d != 0 {
		t.Error(d)
	}
}
