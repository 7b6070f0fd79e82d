package plugins_test

import (
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"

	"pilothouse.dev/scheduler/framework"
	"pilothouse.dev/scheduler/nodeinfo"
	"pilothouse.dev/scheduler/plugins"
)

// holding are informers whose caches hold these objects.
func holding(t *testing.T, objects ...any) (*framework.Set, informers.SharedInformerFactory) {
	t.Helper()
	f := informers.NewSharedInformerFactory(nil, 0)
	set := framework.NewSet(plugins.Table, framework.Parts{Informers: f})
	put(t, f, objects...)
	return set, f
}

func put(t *testing.T, f informers.SharedInformerFactory, objects ...any) {
	t.Helper()
	core, storage := f.Core().V1(), f.Storage().V1()
	for _, o := range objects {
		var err error
		switch o := o.(type) {
		case *corev1.PersistentVolumeClaim:
			err = core.PersistentVolumeClaims().Informer().GetIndexer().Add(o)
		case *corev1.PersistentVolume:
			err = core.PersistentVolumes().Informer().GetIndexer().Add(o)
		case *storagev1.StorageClass:
			err = storage.StorageClasses().Informer().GetIndexer().Add(o)
		case *storagev1.CSINode:
			err = storage.CSINodes().Informer().GetIndexer().Add(o)
		case *storagev1.CSIDriver:
			err = storage.CSIDrivers().Informer().GetIndexer().Add(o)
		case *storagev1.CSIStorageCapacity:
			err = storage.CSIStorageCapacities().Informer().GetIndexer().Add(o)
		case *storagev1.VolumeAttachment:
			err = storage.VolumeAttachments().Informer().GetIndexer().Add(o)
		case *corev1.Node:
			err = core.Nodes().Informer().GetIndexer().Add(o)
		default:
			t.Fatalf("no place for a %T", o)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

type (
	claimOption  func(*corev1.PersistentVolumeClaim)
	volumeOption func(*corev1.PersistentVolume)
	classOption  func(*storagev1.StorageClass)
)

func newClaim(name, class string, options ...claimOption) *corev1.PersistentVolumeClaim {
	c := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: types.UID(name), ResourceVersion: "1", Annotations: map[string]string{}}}
	c.Spec.StorageClassName = &class
	c.Spec.AccessModes = []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}
	c.Spec.Resources.Requests = corev1.ResourceList{"storage": resource.MustParse("1Gi")}
	for _, o := range options {
		o(c)
	}
	return c
}

func boundTo(volume string) claimOption {
	return func(c *corev1.PersistentVolumeClaim) {
		c.Spec.VolumeName = volume
		c.Annotations["pv.kubernetes.io/bind-completed"] = "yes"
		c.Status.Phase = corev1.ClaimBound
	}
}

func sized(size string) claimOption {
	return func(c *corev1.PersistentVolumeClaim) {
		c.Spec.Resources.Requests = corev1.ResourceList{"storage": resource.MustParse(size)}
	}
}

func forNode(name string) claimOption {
	return func(c *corev1.PersistentVolumeClaim) { c.Annotations["volume.kubernetes.io/selected-node"] = name }
}

func alone(c *corev1.PersistentVolumeClaim) {
	c.Spec.AccessModes = []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOncePod}
}

func newVolume(name, class, size string, options ...volumeOption) *corev1.PersistentVolume {
	v := &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID(name), ResourceVersion: "1", Labels: map[string]string{}}}
	v.Spec.StorageClassName = class
	v.Spec.AccessModes = []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}
	v.Spec.Capacity = corev1.ResourceList{"storage": resource.MustParse(size)}
	v.Status.Phase = corev1.VolumeAvailable
	for _, o := range options {
		o(v)
	}
	return v
}

func reachable(label string, values ...string) volumeOption {
	return func(v *corev1.PersistentVolume) {
		v.Spec.NodeAffinity = &corev1.VolumeNodeAffinity{Required: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{
			MatchExpressions: []corev1.NodeSelectorRequirement{{Key: label, Operator: corev1.NodeSelectorOpIn, Values: values}}}}}}
	}
}

func belongsTo(claim string) volumeOption {
	return func(v *corev1.PersistentVolume) {
		v.Spec.ClaimRef = &corev1.ObjectReference{Namespace: "default", Name: claim, UID: types.UID(claim)}
	}
}

func ofDriver(driver string) volumeOption {
	return func(v *corev1.PersistentVolume) {
		v.Spec.CSI = &corev1.CSIPersistentVolumeSource{Driver: driver, VolumeHandle: v.Name}
	}
}

func volumeLabel(key, value string) volumeOption {
	return func(v *corev1.PersistentVolume) { v.Labels[key] = value }
}

func newClass(name, provisioner string, mode storagev1.VolumeBindingMode, options ...classOption) *storagev1.StorageClass {
	c := &storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: name}, Provisioner: provisioner, VolumeBindingMode: &mode}
	for _, o := range options {
		o(c)
	}
	return c
}

func within(label string, values ...string) classOption {
	return func(c *storagev1.StorageClass) {
		c.AllowedTopologies = append(c.AllowedTopologies, corev1.TopologySelectorTerm{
			MatchLabelExpressions: []corev1.TopologySelectorLabelRequirement{{Key: label, Values: values}}})
	}
}

func claims(names ...string) podOption {
	return func(p *corev1.Pod) {
		for _, n := range names {
			p.Spec.Volumes = append(p.Spec.Volumes, corev1.Volume{Name: n, VolumeSource: corev1.VolumeSource{
				PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: n}}})
		}
	}
}

func scratch(p *corev1.Pod) {
	p.Spec.Volumes = append(p.Spec.Volumes, corev1.Volume{Name: "scratch", VolumeSource: corev1.VolumeSource{Ephemeral: &corev1.EphemeralVolumeSource{}}})
}

func in(zone string) nodeOption { return labelled(corev1.LabelTopologyZone, zone) }

func csiNode(name, driver string, count int32) *storagev1.CSINode {
	return &storagev1.CSINode{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: storagev1.CSINodeSpec{Drivers: []storagev1.CSINodeDriver{
		{Name: driver, Allocatable: &storagev1.VolumeNodeResources{Count: &count}}}}}
}

// trip asks about a pod on each of these nodes: what was said of all, or for each node why not, empty when it will do.
func trip(set *framework.Set, p *nodeinfo.Pod, nodes ...*nodeinfo.Node) (why []string, nb *framework.Notebook) {
	nb = &framework.Notebook{}
	if st := set.PreFilter(nb, p, nodes); !st.OK() {
		return []string{"all: " + st.Message()}, nb
	}
	for _, n := range nodes {
		why = append(why, set.Filter(nb, p, n).Message())
	}
	return why, nb
}

const (
	noMatch  = "node(s) didn't find available persistent volumes to bind"
	farAway  = "node(s) didn't match PersistentVolume's node affinity"
	noRoom   = "node(s) did not have enough free storage"
	noZone   = "node(s) had no available volume zone"
	tooMany  = "node(s) exceed max volume count"
	isUsed   = "node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode"
	hostname = corev1.LabelHostname
	immed    = storagev1.VolumeBindingImmediate
	later    = storagev1.VolumeBindingWaitForFirstConsumer
)

func TestVolumes(t *testing.T) {
	yes := true
	gone := &metav1.Time{}
	lost := func(c *corev1.PersistentVolumeClaim) { c.Status.Phase = corev1.ClaimLost }
	leaving := func(c *corev1.PersistentVolumeClaim) { c.DeletionTimestamp = gone }
	quantity := resource.MustParse("5Gi")
	capacity := func(zone string) *storagev1.CSIStorageCapacity {
		return &storagev1.CSIStorageCapacity{ObjectMeta: metav1.ObjectMeta{Namespace: "d", Name: zone}, StorageClassName: "counted", Capacity: &quantity,
			NodeTopology: &metav1.LabelSelector{MatchLabels: map[string]string{corev1.LabelTopologyZone: zone}}}
	}
	driver := &storagev1.CSIDriver{ObjectMeta: metav1.ObjectMeta{Name: "counts"}, Spec: storagev1.CSIDriverSpec{StorageCapacity: &yes}}
	user := func(name string, claim string) nodeOption {
		return func(n *nodeinfo.Node, _ *corev1.Node) { n.Add(newPod(named(name), claims(claim))) }
	}
	a, b := newNode("a", labelled(hostname, "a"), in("x")), newNode("b", labelled(hostname, "b"), in("y"))
	attachment := func(node, volume string) *storagev1.VolumeAttachment {
		return &storagev1.VolumeAttachment{ObjectMeta: metav1.ObjectMeta{Name: node + volume}, Spec: storagev1.VolumeAttachmentSpec{NodeName: node,
			Source: storagev1.VolumeAttachmentSource{PersistentVolumeName: &volume}}}
	}
	for _, tc := range []struct {
		name    string
		objects []any
		pod     *nodeinfo.Pod
		nodes   []*nodeinfo.Node
		want    []string
	}{
		{name: "none", pod: newPod(), want: []string{"", ""}},
		{name: "the claim is not there", pod: newPod(claims("c")), want: []string{`all: persistentvolumeclaim "c" not found`}},
		{name: "its own claim is not there yet", pod: newPod(scratch), want: []string{`all: waiting for ephemeral volume controller to create the persistentvolumeclaim "p-scratch"`}},
		{name: "its own claim is another's", pod: newPod(scratch), objects: []any{newClaim("p-scratch", "")},
			want: []string{"all: PVC default/p-scratch was not created for pod default/p (pod is not owner)"}},
		{name: "the claim is lost", pod: newPod(claims("c")), objects: []any{newClaim("c", "", boundTo("v"), lost)}, want: []string{`all: persistentvolumeclaim "c" bound to non-existent persistentvolume "v"`}},
		{name: "the claim is going", pod: newPod(claims("c")), objects: []any{newClaim("c", "", leaving)}, want: []string{`all: persistentvolumeclaim "c" is being deleted`}},
		{name: "unbound, at once", pod: newPod(claims("c")), objects: []any{newClaim("c", "now"), newClass("now", "p", immed)}, want: []string{"all: pod has unbound immediate PersistentVolumeClaims"}},
		{name: "unbound, no class", pod: newPod(claims("c")), objects: []any{newClaim("c", "gone")}, want: []string{"all: pod has unbound immediate PersistentVolumeClaims"}},
		{name: "named but unbound", pod: newPod(claims("c")), objects: []any{newClaim("c", "wait", func(c *corev1.PersistentVolumeClaim) { c.Spec.VolumeName = "v" }), newClass("wait", "p", later)},
			want: []string{"all: pod has unbound immediate PersistentVolumeClaims"}},
		{name: "bound anywhere", pod: newPod(claims("c")), objects: []any{newClaim("c", "", boundTo("v")), newVolume("v", "", "1Gi", belongsTo("c"))}, want: []string{"", ""}},
		{name: "bound to a node", pod: newPod(claims("c")), objects: []any{newClaim("c", "", boundTo("v")), newVolume("v", "", "1Gi", belongsTo("c"), reachable(hostname, "b"))}, want: []string{farAway, ""}},
		{name: "bound, the volume is gone", pod: newPod(claims("c")), objects: []any{newClaim("c", "", boundTo("v"))}, want: []string{
			"node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)", "node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)"}},

		{name: "waits, a volume on one node", pod: newPod(claims("c")), objects: []any{newClaim("c", "hands"), newClass("hands", "kubernetes.io/no-provisioner", later), newVolume("v", "hands", "1Gi", reachable(hostname, "b"))}, want: []string{noMatch, ""}},
		{name: "waits, the volume is taken", pod: newPod(claims("c")), objects: []any{newClaim("c", "hands"), newClass("hands", "kubernetes.io/no-provisioner", later), newVolume("v", "hands", "1Gi", belongsTo("d"))}, want: []string{noMatch, noMatch}},
		{name: "waits, the volume was chosen before", pod: newPod(claims("c")), objects: []any{newClaim("c", "hands"), newClass("hands", "kubernetes.io/no-provisioner", later),
			newVolume("v", "hands", "1Gi", belongsTo("c"), reachable(hostname, "b")), newVolume("w", "hands", "1Gi", reachable(hostname, "a"))}, want: []string{noMatch, ""}},
		{name: "two wait, the smaller leaves the larger to the other", pod: newPod(claims("big", "c")), objects: []any{newClaim("big", "hands", sized("5Gi")), newClaim("c", "hands"), newClass("hands", "kubernetes.io/no-provisioner", later),
			newVolume("v5", "hands", "5Gi", reachable(hostname, "a", "b")), newVolume("v1", "hands", "1Gi", reachable(hostname, "b"))}, want: []string{noMatch, ""}},
		{name: "waits, anywhere", pod: newPod(claims("c")), objects: []any{newClaim("c", "wait"), newClass("wait", "p", later)}, want: []string{"", ""}},
		{name: "waits, the class knows one zone", pod: newPod(claims("c")), objects: []any{newClaim("c", "wait"), newClass("wait", "p", later, within(corev1.LabelTopologyZone, "y"))}, want: []string{noMatch, ""}},
		{name: "waits, the class knows two zones", pod: newPod(claims("c")), objects: []any{newClaim("c", "wait"), newClass("wait", "p", later, within(corev1.LabelTopologyZone, "y"), within(corev1.LabelTopologyZone, "x"))}, want: []string{"", ""}},
		{name: "waits, the class knows a label that nobody has", pod: newPod(claims("c")), objects: []any{newClaim("c", "wait"), newClass("wait", "p", later, within("rack", "y"))}, want: []string{noMatch, noMatch}},
		{name: "waits for a node that was chosen", pod: newPod(claims("c")), objects: []any{newClaim("c", "wait", forNode("b")), newClass("wait", "p", later), b.Object}, want: []string{noMatch, ""}},
		{name: "waits for a node that is gone", pod: newPod(claims("c")), objects: []any{newClaim("c", "wait", forNode("z")), newClass("wait", "p", later)}, want: []string{"", ""}},
		{name: "waits, one zone has room", pod: newPod(claims("c")), objects: []any{newClaim("c", "counted"), newClass("counted", "counts", later), driver, capacity("y")}, want: []string{noRoom, ""}},
		{name: "waits, no zone has so much", pod: newPod(claims("c")), objects: []any{newClaim("c", "counted", sized("9Gi")), newClass("counted", "counts", later), driver, capacity("y"), capacity("x")}, want: []string{noRoom, noRoom}},

		{name: "a zone by label", pod: newPod(claims("c")), objects: []any{newClaim("c", "", boundTo("v")), newVolume("v", "", "1Gi", belongsTo("c"), volumeLabel(corev1.LabelTopologyZone, "y"))}, want: []string{noZone, ""}},
		{name: "two zones by label", pod: newPod(claims("c")), objects: []any{newClaim("c", "", boundTo("v")), newVolume("v", "", "1Gi", belongsTo("c"), volumeLabel(corev1.LabelTopologyZone, "y__x"))}, want: []string{"", ""}},
		{name: "a zone by the old label", pod: newPod(claims("c")), objects: []any{newClaim("c", "", boundTo("v")), newVolume("v", "", "1Gi", belongsTo("c"), volumeLabel(corev1.LabelFailureDomainBetaZone, "x"))}, want: []string{"", noZone}},
		{name: "a zone, and nodes without", pod: newPod(claims("c")), nodes: []*nodeinfo.Node{newNode("n")}, objects: []any{newClaim("c", "", boundTo("v")), newVolume("v", "", "1Gi", belongsTo("c"), volumeLabel(corev1.LabelTopologyZone, "x"))}, want: []string{""}},
		{name: "a region that nodes do not say", pod: newPod(claims("c")), objects: []any{newClaim("c", "", boundTo("v")), newVolume("v", "", "1Gi", belongsTo("c"), volumeLabel(corev1.LabelTopologyRegion, "r"))}, want: []string{noZone, noZone}},

		{name: "for one pod, nobody has it", pod: newPod(claims("c")), objects: []any{newClaim("c", "", boundTo("v"), alone), newVolume("v", "", "1Gi", belongsTo("c"))}, want: []string{"", ""}},
		{name: "for one pod, another has it", pod: newPod(claims("c")), nodes: []*nodeinfo.Node{newNode("a"), newNode("b", user("q", "c"))}, objects: []any{newClaim("c", "", boundTo("v"), alone), newVolume("v", "", "1Gi", belongsTo("c"))}, want: []string{isUsed, isUsed}},
		{name: "for many pods", pod: newPod(claims("c")), nodes: []*nodeinfo.Node{newNode("a"), newNode("b", user("q", "c"))}, objects: []any{newClaim("c", "", boundTo("v")), newVolume("v", "", "1Gi", belongsTo("c"))}, want: []string{"", ""}},

		{name: "as many as can be attached", pod: newPod(claims("c")), nodes: []*nodeinfo.Node{newNode("a", user("q", "d")), newNode("b")},
			objects: []any{csiNode("a", "drv", 1), csiNode("b", "drv", 1), newClaim("c", "", boundTo("v")), newVolume("v", "", "1Gi", belongsTo("c"), ofDriver("drv")), newClaim("d", "", boundTo("w")), newVolume("w", "", "1Gi", belongsTo("d"), ofDriver("drv"))}, want: []string{tooMany, ""}},
		{name: "attached there already", pod: newPod(claims("c")), nodes: []*nodeinfo.Node{newNode("a", user("q", "c"))},
			objects: []any{csiNode("a", "drv", 1), newClaim("c", "", boundTo("v")), newVolume("v", "", "1Gi", belongsTo("c"), ofDriver("drv"))}, want: []string{""}},
		{name: "another driver is full", pod: newPod(claims("c")), nodes: []*nodeinfo.Node{newNode("a")},
			objects: []any{csiNode("a", "other", 0), newClaim("c", "", boundTo("v")), newVolume("v", "", "1Gi", belongsTo("c"), ofDriver("drv"))}, want: []string{""}},
		{name: "one is still attached", pod: newPod(claims("c")), nodes: []*nodeinfo.Node{newNode("a")},
			objects: []any{csiNode("a", "drv", 1), attachment("a", "w"), newClaim("c", "", boundTo("v")), newVolume("v", "", "1Gi", belongsTo("c"), ofDriver("drv")), newVolume("w", "", "1Gi", ofDriver("drv"))}, want: []string{tooMany}},
		{name: "one will be made", pod: newPod(claims("c")), nodes: []*nodeinfo.Node{newNode("a")}, objects: []any{csiNode("a", "p", 0), newClaim("c", "wait"), newClass("wait", "p", later)}, want: []string{tooMany}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			set, _ := holding(t, tc.objects...)
			nodes := tc.nodes
			if nodes == nil {
				nodes = []*nodeinfo.Node{a, b}
			}
			if got, _ := trip(set, tc.pod, nodes...); !slices.Equal(got, tc.want) {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

// TestVolumesAreKept is what one pod's reservation means to the next pod.
func TestVolumesAreKept(t *testing.T) {
	class := newClass("hands", "kubernetes.io/no-provisioner", later)
	n := newNode("a", labelled(hostname, "a"))
	first, second := newPod(named("first"), claims("c")), newPod(named("second"), claims("d"))
	set, f := holding(t, class, newClaim("c", "hands"), newClaim("d", "hands"), newVolume("v", "hands", "1Gi"))
	ask := func(p *nodeinfo.Pod) (string, *framework.Notebook) {
		t.Helper()
		why, nb := trip(set, p, n)
		return why[0], nb
	}
	why, nb := ask(first)
	if why != "" {
		t.Fatal(why)
	}
	held, st := set.Reserve(nb, first, n)
	if !st.OK() || held == 0 {
		t.Fatalf("held %v: %v", held, st)
	}
	if why, _ := ask(second); why != noMatch {
		t.Errorf("kept for the first, and the second is told %q", why)
	}
	if why, _ := ask(newPod(named("third"), claims("c"))); why != "" {
		t.Errorf("another pod with the first one's claim is told %q", why)
	}
	set.Unreserve(held, first)
	set.Unreserve(held, first) // does no harm
	if why, _ := ask(second); why != "" {
		t.Errorf("given back, and the second is told %q", why)
	}
	_, nb = ask(first)
	if held, _ = set.Reserve(nb, first, n); held == 0 {
		t.Fatal("nothing is held")
	}
	// The cache shows that somebody was faster: that counts, not what we had in mind.
	put(t, f, newVolume("v", "hands", "1Gi", belongsTo("d"), func(v *corev1.PersistentVolume) { v.ResourceVersion = "2" }))
	if why, _ := ask(second); why != "" {
		t.Errorf("the second, whose volume it is now, is told %q", why)
	}
	if why, _ := ask(newPod(named("third"), claims("c"))); why != noMatch {
		t.Errorf("the first one's claim is told %q", why)
	}
	// A pod whose claims are all bound has nothing to keep, nor has one without any.
	put(t, f, newClaim("e", "", boundTo("w")), newVolume("w", "", "1Gi", belongsTo("e")))
	for _, p := range []*nodeinfo.Pod{newPod(named("bound"), claims("e")), newPod(named("plain"))} {
		_, nb := ask(p)
		if held, st := set.Reserve(nb, p, n); held != 0 || !st.OK() {
			t.Errorf("%s holds %v: %v", p.Name, held, st)
		}
	}
}

// TestNodeIsKept is a claim for which a node was chosen: another pod that uses it must go there too.
func TestNodeIsKept(t *testing.T) {
	a, b := newNode("a"), newNode("b")
	set, _ := holding(t, newClass("wait", "p", later), newClaim("c", "wait"), a.Object, b.Object)
	first, second := newPod(named("first"), claims("c")), newPod(named("second"), claims("c"))
	_, nb := trip(set, first, a, b)
	held, _ := set.Reserve(nb, first, b)
	if got, _ := trip(set, second, a, b); !slices.Equal(got, []string{noMatch, ""}) {
		t.Errorf("got %q", got)
	}
	set.Unreserve(held, first)
	if got, _ := trip(set, second, a, b); !slices.Equal(got, []string{"", ""}) {
		t.Errorf("given back: %q", got)
	}
}

func TestVolumeHints(t *testing.T) {
	set, _ := holding(t, newClass("wait", "p", later), newClaim("c", "wait", forNode("a")))
	p := newPod(claims("c"))
	for _, tc := range []struct {
		name   string
		plugin string
		e      framework.Event
		want   bool
	}{
		{"its claim", "VolumeBinding", framework.Event{Kind: framework.ClaimChanged, Claim: newClaim("c", "wait")}, true},
		{"another claim", "VolumeBinding", framework.Event{Kind: framework.ClaimChanged, Claim: newClaim("d", "wait")}, false},
		{"a volume of its class", "VolumeBinding", framework.Event{Kind: framework.VolumeChanged, Volume: newVolume("v", "wait", "1Gi")}, true},
		{"a volume of another class", "VolumeBinding", framework.Event{Kind: framework.VolumeChanged, Volume: newVolume("v", "other", "1Gi")}, false},
		{"its own volume", "VolumeBinding", framework.Event{Kind: framework.VolumeChanged, Volume: newVolume("v", "other", "1Gi", belongsTo("c"))}, true},
		{"another's volume of its class", "VolumeBinding", framework.Event{Kind: framework.VolumeChanged, Volume: newVolume("v", "wait", "1Gi", belongsTo("d"))}, false},
		{"its class", "VolumeBinding", framework.Event{Kind: framework.ClassChanged, Class: newClass("wait", "p", later)}, true},
		{"another class", "VolumeBinding", framework.Event{Kind: framework.ClassChanged, Class: newClass("other", "p", later)}, false},
		{"the node chosen for its claim went", "VolumeBinding", framework.Event{Kind: framework.NodeGone, Node: newNode("a").Object}, true},
		{"another node went", "VolumeBinding", framework.Event{Kind: framework.NodeGone, Node: newNode("b").Object}, false},
		{"a node went", "NodeResourcesFit", framework.Event{Kind: framework.NodeGone, Node: newNode("a").Object}, false},
		{"room in a driver", "VolumeBinding", framework.Event{Kind: framework.StorageChanged}, true},
		{"a pod without claims went", "VolumeBinding", framework.Event{Kind: framework.PodGone, Pod: newPod()}, false},
		{"a pod with claims went", "VolumeBinding", framework.Event{Kind: framework.PodGone, Pod: newPod(claims("d"))}, true},
		{"the pod with its claim went", "VolumeRestrictions", framework.Event{Kind: framework.PodGone, Pod: newPod(claims("c"))}, true},
		{"a pod with another claim went", "VolumeRestrictions", framework.Event{Kind: framework.PodGone, Pod: newPod(claims("d"))}, false},
		{"a node's drivers", "NodeVolumeLimits", framework.Event{Kind: framework.DriversChanged}, true},
		{"a node's drivers", "VolumeZone", framework.Event{Kind: framework.DriversChanged}, false},
		{"a claim", "NodeResourcesFit", framework.Event{Kind: framework.ClaimChanged, Claim: newClaim("c", "wait")}, false},
	} {
		if got := set.Helps(tc.plugin, p, tc.e); got != tc.want {
			t.Errorf("%s, %s: %v", tc.plugin, tc.name, got)
		}
	}
}
