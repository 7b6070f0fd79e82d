package node

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"pilothouse.dev/apiserver/authz"
	"pilothouse.dev/apiserver/authz/authztest"
	"pilothouse.dev/apiserver/request"
	"pilothouse.dev/apiserver/storage"
)

type world struct {
	*Authorizer
	pods, volumes, attachments, slices *authztest.Feed
}

func newWorld(t testing.TB) *world {
	f := func() *authztest.Feed { return authztest.NewFeed(t) }
	w := &world{pods: f(), volumes: f(), attachments: f(), slices: f()}
	w.Authorizer = New(Feeds{Pods: w.pods, Volumes: w.volumes, Attachments: w.attachments, Slices: w.slices}, zap.NewNop())
	if err := w.graph.refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	return w
}

func meta(namespace, name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: namespace, Name: name}
}

func local(name string) corev1.LocalObjectReference { return corev1.LocalObjectReference{Name: name} }

// shop is a pod of many references, bound to a node.
func shop(on string) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: meta("a", "shop"), Spec: corev1.PodSpec{
		NodeName: on, ServiceAccountName: "seller", ImagePullSecrets: []corev1.LocalObjectReference{local("pull"), {}},
		InitContainers: []corev1.Container{{EnvFrom: []corev1.EnvFromSource{{SecretRef: &corev1.SecretEnvSource{LocalObjectReference: local("env")}}}}},
		Containers: []corev1.Container{{Env: []corev1.EnvVar{
			{Name: "A", Value: "plain"},
			{Name: "B", ValueFrom: &corev1.EnvVarSource{ConfigMapKeyRef: &corev1.ConfigMapKeySelector{LocalObjectReference: local("key")}}},
			{Name: "C", ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{LocalObjectReference: local("key")}}},
		}}},
		EphemeralContainers: []corev1.EphemeralContainer{{EphemeralContainerCommon: corev1.EphemeralContainerCommon{
			EnvFrom: []corev1.EnvFromSource{{ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: local("debug")}}},
		}}},
		Volumes: []corev1.Volume{
			{Name: "v", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "vol"}}},
			{Name: "m", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: local("vol")}}},
			{Name: "p", VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "data"}}},
			{Name: "e", VolumeSource: corev1.VolumeSource{Ephemeral: &corev1.EphemeralVolumeSource{}}},
			{Name: "c", VolumeSource: corev1.VolumeSource{CSI: &corev1.CSIVolumeSource{NodePublishSecretRef: &corev1.LocalObjectReference{Name: "csi"}}}},
			{Name: "j", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{
				{Secret: &corev1.SecretProjection{LocalObjectReference: local("part")}}, {ConfigMap: &corev1.ConfigMapProjection{LocalObjectReference: local("part")}},
			}}}},
		},
		ResourceClaims: []corev1.PodResourceClaim{{Name: "g", ResourceClaimName: new("gpu")}, {Name: "t", ResourceClaimTemplateName: new("template")}},
	}}
}

func kubelet(name string) *request.User {
	return &request.User{Name: "system:node:" + name, Groups: []string{"system:nodes", "system:authenticated"}}
}

// ask makes a request of words: verb, group/plural/subresource («core» has no name), namespace, name; - is none.
func ask(words string) *request.Info {
	f := strings.Fields(strings.ReplaceAll(words, " - ", " \x00 "))
	for len(f) < 4 {
		f = append(f, "-")
	}
	for i := range f {
		if f[i] == "-" || f[i] == "\x00" {
			f[i] = ""
		}
	}
	on := strings.Split(f[1], "/")
	i := &request.Info{IsResource: true, Verb: f[0], Group: on[0], Resource: on[1], Namespace: f[2], Name: f[3]}
	if i.Group == "core" {
		i.Group = ""
	}
	if len(on) > 2 {
		i.Subresource = on[2]
	}
	return i
}

const none = "no relationship found between node 'n1' and this object"

func TestDecide(t *testing.T) {
	w := newWorld(t)
	w.pods.Put(shop("n1"))
	w.pods.Put(&corev1.Pod{ObjectMeta: meta("a", "other"), Spec: corev1.PodSpec{NodeName: "n2", ServiceAccountName: "thief", Volumes: []corev1.Volume{
		{VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "theirs"}}},
	}}})
	mirror := &corev1.Pod{ObjectMeta: meta("a", "mirror-n1"), Spec: shop("n1").Spec}
	mirror.Annotations = map[string]string{corev1.MirrorPodAnnotationKey: "x"}
	mirror.Spec.ServiceAccountName = "wanted"
	mirror.Spec.Volumes = []corev1.Volume{{VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "wanted"}}}}
	w.pods.Put(mirror)
	w.volumes.Put(&corev1.PersistentVolume{ObjectMeta: meta("", "pv"), Spec: corev1.PersistentVolumeSpec{
		ClaimRef: &corev1.ObjectReference{Namespace: "a", Name: "data"},
		PersistentVolumeSource: corev1.PersistentVolumeSource{CSI: &corev1.CSIPersistentVolumeSource{
			NodeStageSecretRef: &corev1.SecretReference{Namespace: "store", Name: "stage"}, ControllerPublishSecretRef: &corev1.SecretReference{Namespace: "store", Name: "control"},
		}},
	}})
	w.volumes.Put(&corev1.PersistentVolume{ObjectMeta: meta("", "free"), Spec: corev1.PersistentVolumeSpec{}})
	w.attachments.Put(&storagev1.VolumeAttachment{ObjectMeta: meta("", "mine"), Spec: storagev1.VolumeAttachmentSpec{NodeName: "n1"}})
	w.attachments.Put(&storagev1.VolumeAttachment{ObjectMeta: meta("", "theirs"), Spec: storagev1.VolumeAttachmentSpec{NodeName: "n2"}})
	w.slices.Put(&resourcev1.ResourceSlice{ObjectMeta: meta("", "mine"), Spec: resourcev1.ResourceSliceSpec{NodeName: new("n1")}})
	w.slices.Put(&resourcev1.ResourceSlice{ObjectMeta: meta("", "shared")})
	for _, c := range []struct {
		ask    string
		fields string // field selector
		want   string // yes, or the reason
	}{
		{"get core/secrets a vol", "", yes},
		{"list core/secrets a env", "", yes},
		{"watch core/secrets a key", "", yes},
		{"get core/secrets a pull", "", yes},
		{"get core/secrets a part", "", yes},
		{"get core/secrets a csi", "", yes},
		{"get core/secrets store stage", "", yes},
		{"get core/secrets store control", "", none},
		{"get core/secrets a theirs", "", none},
		{"get core/secrets a wanted", "", none}, // named by a mirror pod
		{"get core/secrets b vol", "", none},
		{"get core/secrets a data", "", none}, // a claim of that name
		{"list core/secrets a", "", "No Object name found"},
		{"list core/secrets", "", "can only read namespaced object of this type"},
		{"list core/secrets - vol", "", "can only read namespaced object of this type"},
		{"delete core/secrets a vol", "", "can only read resources of this type"},
		{"create core/secrets a", "", "can only read resources of this type"},
		{"get core/secrets/x a vol", "", "cannot read subresource"},
		{"watch core/configmaps a key", "", yes},
		{"watch core/configmaps a debug", "", yes},
		{"watch core/configmaps a vol", "", yes},
		{"watch core/configmaps a part", "", yes},
		{"watch core/configmaps a env", "", none},
		{"watch core/configmaps a", "", "No Object name found"},
		{"get core/persistentvolumeclaims a data", "", yes},
		{"get core/persistentvolumeclaims a shop-e", "", yes},
		{"patch core/persistentvolumeclaims/status a data", "", yes},
		{"patch core/persistentvolumeclaims/status a other", "", none},
		{"get core/persistentvolumeclaims/status a data", "", "can only get/update/patch this type"},
		{"list core/persistentvolumeclaims a", "", "can only get individual resources of this type"},
		{"get core/persistentvolumes - pv", "", yes},
		{"get core/persistentvolumes - free", "", none},
		{"list core/persistentvolumes", "", "can only list/watch persistentvolumes with label selector pilothouse.dev/local-volume-node=n1"},
		{"get resource.k8s.io/resourceclaims a gpu", "", yes},
		{"get resource.k8s.io/resourceclaims a template", "", none},
		{"get storage.k8s.io/volumeattachments - mine", "", yes},
		{"get storage.k8s.io/volumeattachments - theirs", "", none},
		{"get core/serviceaccounts a seller", "", yes},
		{"get core/serviceaccounts a thief", "", none},
		{"create core/serviceaccounts/token a seller", "", yes},
		{"create core/serviceaccounts/token a thief", "", none},
		{"create core/serviceaccounts/token a wanted", "", none},
		{"create core/serviceaccounts/token b seller", "", none},
		{"create core/serviceaccounts a", "", "can only create tokens for individual service accounts"},
		{"create core/serviceaccounts a seller", "", "can only create token subresource of serviceaccount"},
		{"list core/serviceaccounts a", "", "can only create tokens for individual service accounts"},
		{"get core/nodes - n1", "", yes},
		{"watch core/nodes - n1", "", yes},
		{"get core/nodes - n2", "", "node 'n1' cannot read 'n2', only its own Node object"},
		{"list core/nodes", "", "node 'n1' cannot read all nodes, only its own Node object"},
		{"create core/nodes", "", yes},
		{"patch core/nodes - n1", "", yes},
		{"patch core/nodes/status - n1", "", yes},
		{"delete core/nodes - n1", "", ""},
		{"get core/nodes/proxy - n1", "", ""},
		{"list core/pods", "spec.nodeName=n1", yes},
		{"watch core/pods", "spec.nodeName=n1,status.phase!=Failed", yes},
		{"list core/pods", "spec.nodeName=n2", "can only list/watch pods with spec.nodeName field selector"},
		{"list core/pods", "spec.nodeName!=n1", "can only list/watch pods with spec.nodeName field selector"},
		{"list core/pods", "", "can only list/watch pods with spec.nodeName field selector"},
		{"deletecollection core/pods a", "spec.nodeName=n1", ""},
		{"watch core/pods a shop", "", yes},
		{"get core/pods a shop", "", yes},
		{"get core/pods a mirror-n1", "", yes},
		{"get core/pods a other", "", none},
		{"create core/pods a", "", yes},
		{"delete core/pods a shop", "", yes},
		{"patch core/pods/status a shop", "", yes},
		{"get core/pods/status a shop", "", ""},
		{"create core/pods/eviction a shop", "", yes},
		{"create core/pods/exec a shop", "", ""},
		{"update core/pods a shop", "", ""},
		{"create certificates.k8s.io/podcertificaterequests a", "", yes},
		{"watch certificates.k8s.io/podcertificaterequests a r", "spec.nodeName=n1,metadata.name=r", yes},
		{"list certificates.k8s.io/podcertificaterequests a", "spec.nodeName=n2", "can only list/watch podcertificaterequests with spec.nodeName field selector"},
		{"get certificates.k8s.io/podcertificaterequests a r", "", "can only create, list or watch a PodCertificateRequest"},
		{"update certificates.k8s.io/podcertificaterequests/status a r", "", "cannot authorize PodCertificateRequest subresources"},
		{"get coordination.k8s.io/leases kube-node-lease n1", "", yes},
		{"create coordination.k8s.io/leases kube-node-lease", "", yes},
		{"update coordination.k8s.io/leases kube-node-lease n2", "", "can only access node lease with the same name as the requesting node"},
		{"update coordination.k8s.io/leases kube-system n1", "", `can only access leases in the "kube-node-lease" system namespace`},
		{"list coordination.k8s.io/leases kube-node-lease", "", "can only get, create, update, patch, or delete a node lease"},
		{"get storage.k8s.io/csinodes - n1", "", yes},
		{"update storage.k8s.io/csinodes - n2", "", "can only access CSINode with the same name as the requesting node"},
		{"list storage.k8s.io/csinodes", "", "can only get, create, update, patch, or delete a CSINode"},
		{"get storage.k8s.io/csinodes/x - n1", "", "cannot authorize CSINode subresources"},
		{"update resource.k8s.io/resourceslices - mine", "", yes},
		{"update resource.k8s.io/resourceslices - shared", "", none},
		{"create resource.k8s.io/resourceslices", "", yes},
		{"deletecollection resource.k8s.io/resourceslices", "nodeName=n1", yes},
		{"list resource.k8s.io/resourceslices", "nodeName=n2", "can only list/watch/deletecollection resourceslices with nodeName field selector"},
		{"escalate resource.k8s.io/resourceslices", "", "only the following verbs are allowed for a ResourceSlice: get, watch, list, create, update, patch, delete, deletecollection"},
		{"get resource.k8s.io/resourceslices/x - mine", "", "cannot authorize ResourceSlice subresources"},
		{"watch core/services", "", yes},
		{"create core/events a", "", yes},
		{"create authentication.k8s.io/tokenreviews", "", yes},
		{"create authorization.k8s.io/subjectaccessreviews", "", yes},
		{"create certificates.k8s.io/certificatesigningrequests", "", yes},
		{"update certificates.k8s.io/certificatesigningrequests/approval - x", "", ""},
		{"list node.k8s.io/runtimeclasses", "", yes},
		{"list core/namespaces", "", ""},
		{"create apps/deployments a", "", ""},
	} {
		t.Run(c.ask+" "+c.fields, func(t *testing.T) {
			i := ask(c.ask)
			i.Selects, _, _ = request.ReadSelectors(c.fields, "")
			d, why, err := w.Decide(t.Context(), kubelet("n1"), i)
			if d == authz.Allowed && why == "" {
				why = yes
			}
			if why != c.want || d == authz.Denied || err != nil {
				t.Errorf("got %v %q %v, want %q", d, why, err, c.want)
			}
		})
	}
	for _, u := range []*request.User{
		{Name: "system:node:n1"}, {Name: "n1", Groups: []string{"system:nodes"}}, {Name: "system:node:", Groups: []string{"system:nodes"}}, kubelet("N1"), kubelet("n"),
	} {
		if d, _, _ := w.Decide(t.Context(), u, ask("get core/secrets a vol")); d != authz.NoOpinion {
			t.Errorf("%+v: %v", u, d)
		}
	}
	if _, why, _ := w.Decide(t.Context(), &request.User{Name: "system:node:", Groups: []string{"system:nodes"}}, ask("list core/services")); why != `unknown node for user "system:node:"` {
		t.Error(why)
	}
	if d, _, _ := w.Decide(t.Context(), kubelet("n1"), &request.Info{Verb: "get", Path: "/metrics"}); d != authz.NoOpinion {
		t.Error("a kubelet reads metrics")
	}
	r, err := w.Rules(t.Context(), kubelet("n1"), "a")
	if err == nil || err.Error() != "node authorizer does not support user rule resolution" || !r.Incomplete {
		t.Errorf("rules of a kubelet: %+v %v", r, err)
	}
	if r, err := w.Rules(t.Context(), &request.User{Name: "jane"}, "a"); err != nil || r.Incomplete {
		t.Errorf("rules of another: %+v %v", r, err)
	}
}

// TestChanges follows pods that come, move and go: what is gone gives no right.
func TestChanges(t *testing.T) {
	w := newWorld(t)
	may := func(what, node, words string, want bool) {
		t.Helper()
		d, why, err := w.Decide(t.Context(), kubelet(node), ask(words))
		if (d == authz.Allowed) != want || err != nil {
			t.Fatalf("%s: got %v %q %v", what, d, why, err)
		}
	}
	const vol = "get core/secrets a vol"
	may("nothing", "n1", vol, false)
	w.pods.Put(shop("n1"))
	may("a pod", "n1", vol, true)
	second := shop("n1")
	second.Name, second.UID = "second", "2"
	w.pods.Put(second)
	w.pods.Drop("a", "shop")
	may("another pod", "n1", vol, true)
	w.pods.Put(shop("n2"))
	may("the same name on another node", "n2", vol, true)
	may("and on this", "n1", vol, true)
	w.pods.Drop("a", "second")
	may("the last of the node", "n1", vol, false)
	may("on the other", "n2", vol, true)

	changed := shop("n2")
	changed.Status.ResourceClaimStatuses = []corev1.PodResourceClaimStatus{{Name: "t", ResourceClaimName: new("made")}}
	w.pods.Put(changed)
	may("a claim of the status", "n2", "get resource.k8s.io/resourceclaims a made", true)
	changed.Status.ResourceClaimStatuses = nil
	changed.Spec.EphemeralContainers[0].EnvFrom[0].ConfigMapRef.Name = "later"
	w.pods.Put(changed)
	may("no more", "n2", "get resource.k8s.io/resourceclaims a made", false)
	may("an ephemeral container", "n2", "get core/configmaps a later", true)
	may("the former", "n2", "get core/configmaps a debug", false)

	pv := &corev1.PersistentVolume{ObjectMeta: meta("", "pv"), Spec: corev1.PersistentVolumeSpec{
		ClaimRef:               &corev1.ObjectReference{Namespace: "a", Name: "data"},
		PersistentVolumeSource: corev1.PersistentVolumeSource{AzureFile: &corev1.AzureFilePersistentVolumeSource{SecretName: "share"}},
	}}
	w.volumes.Put(pv)
	may("a volume's secret, where the claim is", "n2", "get core/secrets a share", true)
	pv.Spec.ClaimRef.Name = "elsewhere"
	w.volumes.Put(pv)
	may("of another claim", "n2", "get core/secrets a share", false)
	w.volumes.Drop("", "pv")
	if len(w.graph.volumes)+len(w.graph.secrets) != 0 {
		may("gone", "n2", "get core/secrets a share", false)
		if n := len(w.graph.volumes) + len(w.graph.secrets); n != 0 {
			t.Errorf("%d things of volumes are left", n)
		}
	}

	w.pods.Tell(&storage.Entry{Key: storage.Key{Namespace: "a", Name: "shop"}, Value: []byte{0xff}, Revision: 9})
	if d, _, err := w.Decide(t.Context(), kubelet("n2"), ask("get core/secrets a unknown")); d != authz.NoOpinion || err == nil {
		t.Errorf("a pod that cannot be read: %v %v", d, err)
	}
	may("what it gave before", "n2", vol, false)
	w.pods.Put(shop("n2"))
	may("it can be read again", "n2", vol, true)
	w.pods.Lost = true
	delete(w.pods.Have, storage.Key{Namespace: "a", Name: "shop"})
	w.pods.Put(second)
	w.pods.Lost = true
	may("read anew", "n1", vol, true)
	may("it went meanwhile", "n2", vol, false)
	w.pods.Drop("a", "second")
	may("all gone", "n1", vol, false)
	if n := len(w.graph.pods) + len(w.graph.nodes); n != 0 {
		t.Errorf("%d pods and nodes are left", n)
	}
}

// TestNotRead refuses what is not known yet, and says so.
func TestNotRead(t *testing.T) {
	f := func() *authztest.Feed {
		feed := authztest.NewFeed(t)
		feed.Fail = errors.New("the caches are not loaded")
		return feed
	}
	a := New(Feeds{f(), f(), f(), f()}, zap.NewNop())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	d, why, err := a.Decide(ctx, kubelet("n1"), ask("get core/secrets a vol"))
	if d != authz.NoOpinion || err != nil || !strings.HasPrefix(why, "node authorizer has not read the pods yet") {
		t.Errorf("got %v %q %v", d, why, err)
	}
	if d, _, _ := a.Decide(ctx, kubelet("n1"), ask("patch core/nodes/status - n1")); d != authz.Allowed {
		t.Error("its own node does not need the graph")
	}
	if a.Ready() == nil {
		t.Error("it is ready")
	}
	if w := newWorld(t); w.Ready() != nil {
		t.Error(w.Ready())
	}
}

func BenchmarkDecide(b *testing.B) {
	w := newWorld(b)
	for n := range 100 {
		for k := range 50 {
			p := shop(fmt.Sprint("n", n))
			p.Name = fmt.Sprint("p", n, "-", k)
			w.pods.Put(p)
		}
	}
	u := kubelet("n7")
	i := ask("watch core/secrets a vol")
	_, _, _ = w.Decide(b.Context(), u, i)
	b.Run("known", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if d, _, _ := w.Decide(b.Context(), u, i); d != authz.Allowed {
				b.Fatal(d)
			}
		}
	})
	e := w.pods.Have[storage.Key{Namespace: "a", Name: "p7-7"}]
	b.Run("status of a pod", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if err := w.graph.readPod(e); err != nil {
				b.Fatal(err)
			}
		}
	})
}
