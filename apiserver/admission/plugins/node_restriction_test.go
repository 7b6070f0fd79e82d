package plugins

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	certificatesv1 "k8s.io/api/certificates/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	resourcev1 "k8s.io/api/resource/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"pilothouse.dev/apiserver/admission"
	"pilothouse.dev/apiserver/registry"
	"pilothouse.dev/apiserver/request"
	"pilothouse.dev/pkg/pod"
)

var (
	accountKind        = define[*corev1.ServiceAccount]("", "ServiceAccount", "serviceaccounts", true)
	claimStatus        = define[*corev1.PersistentVolumeClaim]("", "PersistentVolumeClaim", "persistentvolumeclaims", true)
	csiNodeKind        = define[*storagev1.CSINode]("storage.k8s.io", "CSINode", "csinodes", false)
	sliceKind          = define[*resourcev1.ResourceSlice]("resource.k8s.io", "ResourceSlice", "resourceslices", false)
	csrKind            = define[*certificatesv1.CertificateSigningRequest]("certificates.k8s.io", "CertificateSigningRequest", "certificatesigningrequests", false)
	podCertificateKind = define[*certificatesv1.PodCertificateRequest]("certificates.k8s.io", "PodCertificateRequest", "podcertificaterequests", true)
)

// nodesWorld is what the plugin sees: node n1 and what runs there.
type nodesWorld struct {
	pods    map[string]*corev1.Pod
	volumes map[string]string // name of a claim to the driver of its volume
	drivers map[string]string // audiences that they want
}

func (w nodesWorld) Pod(_ context.Context, _, name string) (*corev1.Pod, error) {
	if o := w.pods[name]; o != nil {
		return o, nil
	}
	return nil, missing("pods", name)
}

func (w nodesWorld) Node(_ context.Context, name string) (*corev1.Node, error) {
	if name != "n1" {
		return nil, missing("nodes", name)
	}
	return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, UID: "node-1"}}, nil
}

func (w nodesWorld) ServiceAccount(_ context.Context, _, name string) (*corev1.ServiceAccount, error) {
	return &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID("account-" + name)}}, nil
}

func (w nodesWorld) PersistentVolumeClaim(_ context.Context, _, name string) (*corev1.PersistentVolumeClaim, error) {
	if _, ok := w.volumes[name]; !ok {
		return nil, missing("persistentvolumeclaims", name)
	}
	return &corev1.PersistentVolumeClaim{Spec: corev1.PersistentVolumeClaimSpec{VolumeName: name}}, nil
}

func (w nodesWorld) PersistentVolume(_ context.Context, name string) (*corev1.PersistentVolume, error) {
	return &corev1.PersistentVolume{Spec: corev1.PersistentVolumeSpec{PersistentVolumeSource: corev1.PersistentVolumeSource{
		CSI: &corev1.CSIPersistentVolumeSource{Driver: w.volumes[name]},
	}}}, nil
}

func (w nodesWorld) CSIDriver(_ context.Context, name string) (*storagev1.CSIDriver, error) {
	if _, ok := w.drivers[name]; !ok {
		return nil, missing("csidrivers", name)
	}
	return &storagev1.CSIDriver{Spec: storagev1.CSIDriverSpec{TokenRequests: []storagev1.TokenRequest{{Audience: w.drivers[name]}}}}, nil
}

// Allow lets nodes ask for tokens for the audience "granted" of the account "robot".
func (nodesWorld) Allow(_ context.Context, _ *request.User, i *request.Info) (bool, string) {
	ok := i.IsResource && i.Verb == "request-serviceaccounts-token-audience" && i.Group == "" && i.Resource == "granted" && i.Namespace == "a" && i.Name == "robot"
	return ok, "no"
}

func missing(plural, name string) error {
	return apierrors.NewNotFound(schema.GroupResource{Resource: plural}, name)
}

func world() nodesWorld {
	projected := func(audience string) corev1.Volume {
		return corev1.Volume{VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{
			{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Audience: audience}},
			{PodCertificate: &corev1.PodCertificateProjection{SignerName: "example.com/signer"}},
		}}}}
	}
	on := func(node string, volumes ...corev1.Volume) *corev1.Pod {
		return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "p", UID: "pod-1"},
			Spec: corev1.PodSpec{NodeName: node, ServiceAccountName: "robot", Volumes: volumes}}
	}
	claim := corev1.Volume{VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "data"}}}
	inline := corev1.Volume{VolumeSource: corev1.VolumeSource{CSI: &corev1.CSIVolumeSource{Driver: "csi.example.com"}}}
	scratch := corev1.Volume{Name: "scratch", VolumeSource: corev1.VolumeSource{Ephemeral: &corev1.EphemeralVolumeSource{}}}
	return nodesWorld{
		pods: map[string]*corev1.Pod{
			"p": on("n1", projected("")), "vault": on("n1", projected("vault")), "elsewhere": on("n2", projected("")), "bare": on("n1"),
			"claim": on("n1", claim), "inline": on("n1", inline), "scratch": on("n1", scratch),
		},
		volumes: map[string]string{"data": "csi.example.com", "p-scratch": "csi.example.com"},
		drivers: map[string]string{"csi.example.com": "storage"},
	}
}

// restricted runs cases as the kubelet of n1; who is no kubelet may do all of them.
func restricted(t *testing.T, cases []restrictedCase) {
	t.Helper()
	w := world()
	p := &nodeRestriction{w, w, w, w, w, []string{"https://api"}}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			c.a.Subresource = c.sub
			c.a.User = &request.User{Name: "system:node:n1"} // without the group it is anybody
			refused(t, p.Mutate(t.Context(), c.a), "", "")
			c.a.User = &request.User{Name: "system:node:n1", Groups: []string{"system:nodes"}}
			reason := metav1.StatusReason("")
			if c.words != "" {
				reason = metav1.StatusReasonForbidden
			}
			refused(t, p.Mutate(t.Context(), c.a), reason, c.words)
		})
	}
}

type restrictedCase struct {
	name  string
	a     *admission.Attributes
	sub   string
	words string
}

func TestNodeRestrictionOfNodes(t *testing.T) {
	node := func(name string, labels map[string]string, taints ...corev1.Taint) *corev1.Node {
		return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}, Spec: corev1.NodeSpec{Taints: taints}}
	}
	l := func(pairs ...string) map[string]string {
		m := map[string]string{}
		for i := 0; i < len(pairs); i += 2 {
			m[pairs[i]] = pairs[i+1]
		}
		return m
	}
	owned := node("n1", nil)
	owned.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "ConfigMap", Name: "gone", UID: "x"}}
	configured := node("n1", nil)
	//lint:ignore SA1019 that nothing reads it does not mean that nobody writes it
	configured.Spec.ConfigSource = &corev1.NodeConfigSource{ConfigMap: &corev1.ConfigMapNodeConfigSource{Namespace: "a", Name: "secret"}}
	taint, other := corev1.Taint{Key: "k", Effect: corev1.TaintEffectNoSchedule}, corev1.Taint{Key: "k", Effect: corev1.TaintEffectNoExecute}
	allowed := l("kubernetes.io/hostname", "n1", "kubernetes.io/os", "linux", "topology.kubernetes.io/zone", "a", "topology.kubernetes.io/region", "b",
		"node.kubernetes.io/instance-type", "x", "kubelet.kubernetes.io/x", "1", "a.node.kubernetes.io/x", "1", "example.com/x", "1", "plain", "1")
	create := func(n *corev1.Node) *admission.Attributes { return attributes(admission.Create, nodeKind, n, nil) }
	update := func(n, old *corev1.Node) *admission.Attributes { return attributes(admission.Update, nodeKind, n, old) }
	restricted(t, []restrictedCase{
		{"registers itself", create(node("n1", allowed, taint)), "", ""},
		{"registers another", create(node("n2", nil)), "", `node "n1" is not allowed to modify node "n2"`},
		{"with a role", create(node("n1", l("node-role.kubernetes.io/control-plane", ""))), "", `node "n1" is not allowed to set the following labels: node-role.kubernetes.io/control-plane`},
		{"with what isolates", create(node("n1", l("example.com.node-restriction.kubernetes.io/x", "1", "a.k8s.io/x", "1"))), "",
			"to set the following labels: a.k8s.io/x, example.com.node-restriction.kubernetes.io/x"},
		{"with a name that only looks so", create(node("n1", l("mykubernetes.io/x", "1"))), "", ""},
		{"with an owner", create(owned), "", "with ownerReferences"},
		{"with a source of configuration", create(configured), "", "non-nil configSource"},
		{"gets a source of configuration", update(configured, node("n1", nil)), "", "to update configSource to a new non-nil configSource"},
		{"gets an owner", update(owned, node("n1", nil)), "", "is not allowed to modify ownerReferences"},
		{"writes its status", update(node("n1", nil, taint), node("n1", nil, taint)), "status", ""},
		{"writes another's status", update(node("n2", nil), node("n2", nil)), "status", "is not allowed to modify node"},
		{"takes off its taints", update(node("n1", nil), node("n1", nil, taint)), "", "is not allowed to modify taints"},
		{"changes its taints", update(node("n1", nil, other), node("n1", nil, taint)), "", "is not allowed to modify taints"},
		{"adds a taint", update(node("n1", nil, taint), node("n1", nil)), "", "is not allowed to modify taints"},
		{"labels itself", update(node("n1", allowed), node("n1", nil)), "", ""},
		{"isolates itself", update(node("n1", l("node-restriction.kubernetes.io/x", "1")), node("n1", nil)), "", "is not allowed to modify labels: node-restriction.kubernetes.io/x"},
		{"frees itself", update(node("n1", nil), node("n1", l("node-restriction.kubernetes.io/x", "1"))), "", "is not allowed to modify labels"},
		{"through its status", update(node("n1", l("kubernetes.io/x", "1")), node("n1", nil)), "status", "is not allowed to modify labels"},
		{"keeps what others gave it", update(node("n1", l("node-restriction.kubernetes.io/x", "1")), node("n1", l("node-restriction.kubernetes.io/x", "1"))), "", ""},
		{"deletes itself", attributes(admission.Delete, nodeKind, nil, node("n1", nil)), "", "is not allowed to delete its own node"},
		{"deletes another", attributes(admission.Delete, nodeKind, nil, node("n2", nil)), "", `is not allowed to modify node "n2"`},
	})
	unknown := &request.User{Name: "system:node:", Groups: []string{"system:nodes"}}
	a := create(node("n1", nil))
	a.User = unknown
	refused(t, (&nodeRestriction{}).Mutate(t.Context(), a), metav1.StatusReasonForbidden, `could not determine node from user "system:node:"`)
}

func TestNodeRestrictionOfPods(t *testing.T) {
	on := func(n string) *corev1.Pod { return aPod(func(p *corev1.Pod) { p.Spec.NodeName = n }) }
	mirror := func(change func(*corev1.Pod)) *admission.Attributes {
		return attributes(admission.Create, podKind, aPod(func(p *corev1.Pod) {
			p.Spec.NodeName = "n1"
			p.Annotations = map[string]string{pod.AnnotationMirror: "x"}
			p.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: "n1", UID: "node-1", Controller: ptr.To(true)}}
			if change != nil {
				change(p)
			}
		}), nil)
	}
	volume := func(s corev1.VolumeSource) *admission.Attributes {
		return mirror(func(p *corev1.Pod) { p.Spec.Volumes = []corev1.Volume{{VolumeSource: s}} })
	}
	projected := func(s corev1.VolumeProjection) *admission.Attributes {
		return volume(corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{s}}})
	}
	container := func(c corev1.Container) *admission.Attributes {
		return mirror(func(p *corev1.Pod) { p.Spec.InitContainers = []corev1.Container{c} })
	}
	relabelled, claimed, extended := on("n1"), on("n1"), on("n1")
	relabelled.Labels = map[string]string{"app": "other"}
	claimed.Status.ResourceClaimStatuses = []corev1.PodResourceClaimStatus{{Name: "x"}}
	extended.Status.ExtendedResourceClaimStatus = &corev1.PodExtendedResourceClaimStatus{ResourceClaimName: "another's"}
	evict := func(name string) *admission.Attributes {
		return attributes(admission.Create, podKind, &policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: name}}, nil)
	}
	bare := &corev1.Binding{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "p"}}
	restricted(t, []restrictedCase{
		{"makes a mirror", mirror(nil), "", ""},
		{"of a pod with a host path", volume(corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{}}), "", ""},
		{"makes one elsewhere", mirror(func(p *corev1.Pod) { p.Spec.NodeName = "n2" }), "", "can only create pods with spec.nodeName set to itself"},
		{"makes a pod", attributes(admission.Create, podKind, on("n1"), nil), "", `pod does not have "kubernetes.io/config.mirror" annotation, node "n1" can only create mirror pods`},
		{"nobody's", mirror(func(p *corev1.Pod) { p.OwnerReferences = nil }), "", "with an owner reference set to itself"},
		{"of two", mirror(func(p *corev1.Pod) { p.OwnerReferences = append(p.OwnerReferences, p.OwnerReferences[0]) }), "", "with a single owner reference set to itself"},
		{"another node's", mirror(func(p *corev1.Pod) { p.OwnerReferences[0].Name = "n2" }), "", "with an owner reference set to itself"},
		{"another kind's", mirror(func(p *corev1.Pod) { p.OwnerReferences[0].Kind = "ReplicaSet" }), "", "with an owner reference set to itself"},
		{"not its controller's", mirror(func(p *corev1.Pod) { p.OwnerReferences[0].Controller = nil }), "", "with a controller owner reference set to itself"},
		{"one that holds the node", mirror(func(p *corev1.Pod) { p.OwnerReferences[0].BlockOwnerDeletion = ptr.To(true) }), "", "must not set blockOwnerDeletion"},
		{"an older node's", mirror(func(p *corev1.Pod) { p.OwnerReferences[0].UID = "node-0" }), "", "node n1 UID mismatch: expected node-0 got node-1"},
		{"as an account", mirror(func(p *corev1.Pod) { p.Spec.ServiceAccountName = "robot" }), "", "reference a service account"},
		{"with a pull secret", mirror(func(p *corev1.Pod) { p.Spec.ImagePullSecrets = []corev1.LocalObjectReference{{Name: "x"}} }), "", "reference secrets"},
		{"with a resource claim", mirror(func(p *corev1.Pod) { p.Spec.ResourceClaims = []corev1.PodResourceClaim{{Name: "x"}} }), "", "reference resourceclaims"},
		{"with a secret", volume(corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{}}), "", "reference secrets"},
		{"with a file share", volume(corev1.VolumeSource{AzureFile: &corev1.AzureFileVolumeSource{}}), "", "reference secrets"},
		{"with a driver's secret", volume(corev1.VolumeSource{CSI: &corev1.CSIVolumeSource{NodePublishSecretRef: &corev1.LocalObjectReference{}}}), "", "reference secrets"},
		{"with a map", volume(corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{}}), "", "reference configmaps"},
		{"with a claim", volume(corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{}}), "", "reference persistentvolumeclaims"},
		{"with a claim to be made", volume(corev1.VolumeSource{Ephemeral: &corev1.EphemeralVolumeSource{}}), "", "reference persistentvolumeclaims"},
		{"with a projected secret", projected(corev1.VolumeProjection{Secret: &corev1.SecretProjection{}}), "", "reference secrets"},
		{"with a projected map", projected(corev1.VolumeProjection{ConfigMap: &corev1.ConfigMapProjection{}}), "", "reference configmaps"},
		{"with a token", projected(corev1.VolumeProjection{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{}}), "", "service account token"},
		{"with trust", projected(corev1.VolumeProjection{ClusterTrustBundle: &corev1.ClusterTrustBundleProjection{}}), "", "reference clustertrustbundles"},
		{"with a certificate", projected(corev1.VolumeProjection{PodCertificate: &corev1.PodCertificateProjection{}}), "", "pod certificate"},
		{"with a secret's environment", container(corev1.Container{EnvFrom: []corev1.EnvFromSource{{SecretRef: &corev1.SecretEnvSource{}}}}), "", "reference secrets"},
		{"with a map's environment", container(corev1.Container{EnvFrom: []corev1.EnvFromSource{{ConfigMapRef: &corev1.ConfigMapEnvSource{}}}}), "", "reference configmaps"},
		{"with a secret's key", container(corev1.Container{Env: []corev1.EnvVar{{ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{}}}}}), "", "reference secrets"},
		{"with a map's key", container(corev1.Container{Env: []corev1.EnvVar{{ValueFrom: &corev1.EnvVarSource{ConfigMapKeyRef: &corev1.ConfigMapKeySelector{}}}}}), "", "reference configmaps"},
		{"deletes its pod", attributes(admission.Delete, podKind, nil, on("n1")), "", ""},
		{"deletes another's", attributes(admission.Delete, podKind, nil, on("n2")), "", "can only delete pods with spec.nodeName set to itself"},
		{"reports its pod", attributes(admission.Update, podKind, on("n1"), on("n1")), "status", ""},
		{"reports another's", attributes(admission.Update, podKind, on("n2"), on("n2")), "status", "can only update pod status for pods with spec.nodeName set to itself"},
		{"relabels its pod", attributes(admission.Update, podKind, relabelled, on("n1")), "status", "cannot update labels through pod status"},
		{"claims more for its pod", attributes(admission.Update, podKind, extended, on("n1")), "status", "cannot update extended resource claim status"},
		{"claims for its pod", attributes(admission.Update, podKind, claimed, on("n1")), "status", "cannot update resource claim statues"},
		{"changes a spec", attributes(admission.Update, podKind, on("n1"), on("n1")), "", `unexpected operation "UPDATE"`},
		{"binds a pod", attributes(admission.Create, podKind, bare, nil), "binding", `unexpected pod subresource "binding"`},
		{"debugs a pod", attributes(admission.Update, podKind, on("n1"), on("n1")), "ephemeralcontainers", "unexpected pod subresource"},
		{"evicts its pod", evict("p"), "eviction", ""},
		{"evicts another's", evict("elsewhere"), "eviction", "node n1 can only evict pods with spec.nodeName set to itself"},
	})
}

func TestNodeRestrictionOfTheRest(t *testing.T) {
	lease := func(ns, name string) *coordinationv1.Lease {
		return &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name}}
	}
	csi := func(name string) *storagev1.CSINode {
		return &storagev1.CSINode{ObjectMeta: metav1.ObjectMeta{Name: name}}
	}
	slice := func(node *string) *resourcev1.ResourceSlice {
		return &resourcev1.ResourceSlice{ObjectMeta: metav1.ObjectMeta{Name: "s"}, Spec: resourcev1.ResourceSliceSpec{NodeName: node}}
	}
	claim := func(change func(*corev1.PersistentVolumeClaim)) *corev1.PersistentVolumeClaim {
		c := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "c"}}
		if change != nil {
			change(c)
		}
		return c
	}
	grown := claim(func(c *corev1.PersistentVolumeClaim) {
		c.Status.Capacity = corev1.ResourceList{"storage": resource.MustParse("2Gi")}
		c.Status.AllocatedResourceStatuses = map[corev1.ResourceName]corev1.ClaimResourceStatus{"storage": corev1.PersistentVolumeClaimNodeResizePending}
		c.Status.Conditions = []corev1.PersistentVolumeClaimCondition{{Type: corev1.PersistentVolumeClaimFileSystemResizePending}}
	})
	update := func(r *registry.Resource, o, old registry.Object) *admission.Attributes {
		return attributes(admission.Update, r, o, old)
	}
	create := func(r *registry.Resource, o registry.Object) *admission.Attributes {
		return attributes(admission.Create, r, o, nil)
	}
	restricted(t, []restrictedCase{
		{"renews its lease", update(leaseKind, lease("kube-node-lease", "n1"), lease("kube-node-lease", "n1")), "", ""},
		{"renews another's", update(leaseKind, lease("kube-node-lease", "n2"), lease("kube-node-lease", "n2")), "", "same name as the requesting node"},
		{"takes a leader's", create(leaseKind, lease("kube-system", "n1")), "", `can only access leases in the "kube-node-lease" system namespace`},
		{"its drivers", create(csiNodeKind, csi("n1")), "", ""},
		{"another's drivers", update(csiNodeKind, csi("n2"), csi("n2")), "", "can only access CSINode with the same name as the requesting node"},
		{"its devices", create(sliceKind, slice(ptr.To("n1"))), "", ""},
		{"another's devices", create(sliceKind, slice(ptr.To("n2"))), "", "can only create ResourceSlice with the same NodeName"},
		{"everybody's devices", create(sliceKind, slice(nil)), "", "can only create ResourceSlice"},
		{"changes another's devices", update(sliceKind, slice(ptr.To("n2")), slice(ptr.To("n2"))), "", "can only update ResourceSlice"},
		{"deletes its devices", attributes(admission.Delete, sliceKind, nil, slice(ptr.To("n1"))), "", ""},
		{"deletes another's devices", attributes(admission.Delete, sliceKind, nil, slice(ptr.To("n2"))), "", "can only delete ResourceSlice"},
		{"tells a claim has grown", update(claimStatus, grown, claim(nil)), "status", ""},
		{"grows a claim", update(claimStatus, grown, claim(nil)), "", "may only update PVC status"},
		{"binds a claim", update(claimStatus, claim(func(c *corev1.PersistentVolumeClaim) { c.Status.Phase = corev1.ClaimBound }), claim(nil)), "status",
			"is not allowed to update fields other than status.capacity and status.conditions"},
		{"labels a claim", update(claimStatus, claim(func(c *corev1.PersistentVolumeClaim) { c.Labels = map[string]string{"a": "b"} }), claim(nil)), "status", "fields other than"},
	})
}

// TestNodeRestrictionOfVolumes: a node lets a volume go that is a folder of it, and does nothing else to any.
func TestNodeRestrictionOfVolumes(t *testing.T) {
	now := metav1.Now()
	volume := func(node string, finalizers ...string) *corev1.PersistentVolume {
		return &corev1.PersistentVolume{
			ObjectMeta: metav1.ObjectMeta{Name: "pvc-1", DeletionTimestamp: &now, Finalizers: finalizers, Labels: map[string]string{"pilothouse.dev/local-volume-node": node}},
			Spec:       corev1.PersistentVolumeSpec{PersistentVolumeReclaimPolicy: corev1.PersistentVolumeReclaimDelete},
		}
	}
	const ours, other = "pilothouse.dev/local-path", "kubernetes.io/pv-protection"
	changed := func(node string, change func(*corev1.PersistentVolume)) *corev1.PersistentVolume {
		v := volume(node)
		change(v)
		return v
	}
	old := volume("n1", ours)
	alive := changed("n1", func(v *corev1.PersistentVolume) { v.DeletionTimestamp, v.Finalizers = nil, []string{ours} })
	update := func(o, old registry.Object) *admission.Attributes {
		return attributes(admission.Update, volumeKind, o, old)
	}
	const no = "is not allowed to update fields other than the finalizer pilothouse.dev/local-path"
	restricted(t, []restrictedCase{
		{"lets it go", update(volume("n1"), old), "", ""},
		{"its finalizer of two", update(volume("n1", other), volume("n1", other, ours)), "", ""},
		{"whoever's managed fields", update(changed("n1", func(v *corev1.PersistentVolume) {
			v.ResourceVersion, v.ManagedFields = "8", []metav1.ManagedFieldsEntry{{Manager: "kubelet"}}
		}), old), "", ""},
		{"another's finalizer, too", update(volume("n1"), volume("n1", other, ours)), "", no},
		{"another's finalizer alone", update(volume("n1", ours), volume("n1", other, ours)), "", no},
		{"adds one", update(volume("n1", "x"), old), "", no},
		{"another node's", update(volume("n2"), volume("n2", ours)), "", "can only modify persistent volumes that are its own folders"},
		{"takes another node's", update(volume("n1"), volume("n2", ours)), "", "can only modify persistent volumes that are its own folders"},
		{"nobody's", update(&corev1.PersistentVolume{}, &corev1.PersistentVolume{}), "", "can only modify persistent volumes that are its own folders"},
		{"one that is to stay", update(changed("n1", func(v *corev1.PersistentVolume) { v.DeletionTimestamp = nil }), alive), "", "persistent volume that is being deleted"},
		{"and its label", update(changed("n1", func(v *corev1.PersistentVolume) { v.Labels = nil }), old), "", no},
		{"and its source", update(changed("n1", func(v *corev1.PersistentVolume) { v.Spec.Local = &corev1.LocalVolumeSource{Path: "/etc"} }), old), "", no},
		{"and its policy", update(changed("n1", func(v *corev1.PersistentVolume) {
			v.Spec.PersistentVolumeReclaimPolicy = corev1.PersistentVolumeReclaimRetain
		}), old), "", no},
		{"and its claim", update(changed("n1", func(v *corev1.PersistentVolume) {
			v.Spec.ClaimRef = &corev1.ObjectReference{Namespace: "a", Name: "secret"}
		}), old), "", no},
		{"and annotations", update(changed("n1", func(v *corev1.PersistentVolume) { v.Annotations = map[string]string{"a": "b"} }), old), "", no},
		{"its status", update(volume("n1"), old), "status", "can only take the finalizer"},
		{"makes one", attributes(admission.Create, volumeKind, volume("n1"), nil), "", `unexpected operation "CREATE"`},
		{"deletes one", attributes(admission.Delete, volumeKind, nil, old), "", `unexpected operation "DELETE"`},
	})
}

func TestNodeRestrictionOfIdentities(t *testing.T) {
	token := func(name, uid string, audiences ...string) *admission.Attributes {
		a := attributes(admission.Create, accountKind, &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{
			Audiences: audiences, BoundObjectRef: &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: name, UID: types.UID(uid)},
		}}, nil)
		a.Namespace, a.Name = "a", "robot"
		return a
	}
	unbound := token("p", "pod-1")
	unbound.Object.(*authenticationv1.TokenRequest).Spec.BoundObjectRef = nil
	toSecret := token("p", "pod-1")
	toSecret.Object.(*authenticationv1.TokenRequest).Spec.BoundObjectRef.Kind = "Secret"
	csr := func(signer, cn string) *admission.Attributes {
		return attributes(admission.Create, csrKind, &certificatesv1.CertificateSigningRequest{
			Spec: certificatesv1.CertificateSigningRequestSpec{SignerName: signer, Request: requestFor(t, cn)},
		}, nil)
	}
	certificate := func(change func(*certificatesv1.PodCertificateRequestSpec)) *admission.Attributes {
		r := &certificatesv1.PodCertificateRequest{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "r"}, Spec: certificatesv1.PodCertificateRequestSpec{
			SignerName: "example.com/signer", PodName: "p", PodUID: "pod-1", ServiceAccountName: "robot", ServiceAccountUID: "account-robot", NodeName: "n1", NodeUID: "node-1",
		}}
		change(&r.Spec)
		return attributes(admission.Create, podCertificateKind, r, nil)
	}
	type spec = certificatesv1.PodCertificateRequestSpec
	restricted(t, []restrictedCase{
		{"a token for its pod", token("p", "pod-1"), "token", ""},
		{"for this API", token("p", "pod-1", "https://api"), "token", ""},
		{"for whom a volume names", token("vault", "pod-1", "vault"), "token", ""},
		{"for another's volume", token("p", "pod-1", "vault"), "token", `audience "vault" not found in pod spec volume, system:node:n1 is not authorized to request tokens for this audience`},
		{"for this API, which the pod does not need", token("vault", "pod-1"), "token", `audience "" not found in pod spec volume`},
		{"for a pod that needs none", token("bare", "pod-1"), "token", "not found in pod spec volume"},
		{"for what is granted", token("bare", "pod-1", "granted"), "token", ""},
		{"for a driver", token("inline", "pod-1", "storage"), "token", ""},
		{"for the driver of a claim", token("claim", "pod-1", "storage"), "token", ""},
		{"for the driver of its own claim", token("scratch", "pod-1", "storage"), "token", ""},
		{"for two", token("vault", "pod-1", "vault", "https://api"), "token", "node may only request 0 or 1 audiences"},
		{"for nobody's pod", unbound, "token", "node requested token not bound to a pod"},
		{"for a secret", toSecret, "token", "node requested token not bound to a pod"},
		{"for any pod of that name", token("p", ""), "token", "without a uid"},
		{"for an older pod", token("p", "pod-0"), "token", "does not match the UID in record"},
		{"for a pod elsewhere", token("elsewhere", "pod-1"), "token", "scheduled on a different node"},

		{"its serving certificate", csr(certificatesv1.KubeletServingSignerName, "system:node:n1"), "", ""},
		{"its client certificate", csr(certificatesv1.KubeAPIServerClientKubeletSignerName, "system:node:n1"), "", ""},
		{"another's certificate", csr(certificatesv1.KubeAPIServerClientKubeletSignerName, "system:node:n2"), "", "can only create a node CSR with CN=system:node:n1"},
		{"something else's", csr("example.com/any", "whoever"), "", ""},

		{"a pod's certificate", certificate(func(*spec) {}), "", ""},
		{"in another node's name", certificate(func(s *spec) { s.NodeName = "n2" }), "", `PodCertificateRequest.Spec.NodeName="n2", which is not the requesting node "n1"`},
		{"an older node's", certificate(func(s *spec) { s.NodeUID = "node-0" }), "", "contains node UID"},
		{"an older pod's", certificate(func(s *spec) { s.PodUID = "pod-0" }), "", `contains pod UID ("pod-0") which differs from running pod "pod-1"`},
		{"a pod's elsewhere", certificate(func(s *spec) { s.PodName = "elsewhere" }), "", "not running on node"},
		{"another account's", certificate(func(s *spec) { s.ServiceAccountName = "admin" }), "", "contains serviceAccountName"},
		{"an older account's", certificate(func(s *spec) { s.ServiceAccountUID = "x" }), "", "contains serviceAccountUID"},
		{"another signer's", certificate(func(s *spec) { s.SignerName = "example.com/other" }), "", `signer "example.com/other" not found in pod spec volume`},
	})
}

// requestFor makes a request for a certificate.
func requestFor(t *testing.T, cn string) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: cn}}, key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
}
