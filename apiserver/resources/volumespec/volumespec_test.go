package volumespec

import (
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/yaml"

	"pilothouse.dev/apiserver/registry/kindtest"
)

func volume(t *testing.T, source string) *corev1.PersistentVolumeSpec {
	t.Helper()
	s := &corev1.PersistentVolumeSpec{
		AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
		Capacity:    corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")},
	}
	if err := yaml.UnmarshalStrict([]byte(source), s); err != nil {
		t.Fatal(err)
	}
	DefaultVolume(s)
	return s
}

func TestSources(t *testing.T) {
	for _, c := range []struct {
		name, source string
		want         []string
	}{
		{"none", `{}`, []string{"spec: Required value"}},
		{"two", `{hostPath: {path: /a}, nfs: {server: s, path: /a}}`, []string{"spec.nfs: Forbidden"}},
		{"host path", `{hostPath: {path: /a}}`, nil},
		{"bad host path", `{hostPath: {path: /a/../b, type: Door}}`, []string{"spec.hostPath.path: Invalid value", "spec.hostPath.type: Unsupported value"}},
		{"the whole host, recycled", `{hostPath: {path: //}, persistentVolumeReclaimPolicy: Recycle}`, []string{"spec.persistentVolumeReclaimPolicy: Forbidden"}},
		{"NFS", `{nfs: {server: s, path: /a}}`, nil},
		{"bad NFS", `{nfs: {path: a}}`, []string{"spec.nfs.path: Invalid value", "spec.nfs.server: Required value"}},
		{"local", `{local: {path: /a}, nodeAffinity: {required: {nodeSelectorTerms: [{matchExpressions: [{key: a, operator: Exists}]}]}}}`, nil},
		{"local anywhere", `{local: {path: /a}}`, []string{"spec.nodeAffinity: Required value"}},
		{"local somewhere", `{local: {path: ""}, nodeAffinity: {}}`, []string{"spec.local.path: Required value", "spec.nodeAffinity.required: Required value"}},
		{"CSI", `{csi: {driver: d, volumeHandle: h, nodePublishSecretRef: {name: s, namespace: a}}}`, nil},
		{"bad CSI", `{csi: {driver: D_, controllerExpandSecretRef: {name: S_, namespace: a.b}, nodeExpandSecretRef: {}}}`,
			[]string{"spec.csi.controllerExpandSecretRef.name: Invalid value", "spec.csi.controllerExpandSecretRef.namespace: Invalid value", "spec.csi.driver: Invalid value",
				"spec.csi.nodeExpandSecretRef.name: Required value", "spec.csi.nodeExpandSecretRef.namespace: Required value", "spec.csi.volumeHandle: Required value"}},
		{"iSCSI", `{iscsi: {targetPortal: p, iqn: "iqn.2026-01.org:a", lun: 0}}`, nil},
		{"bad iSCSI", `{iscsi: {targetPortal: p, iqn: a, lun: 300, chapAuthSession: true, initiatorName: b}}`,
			[]string{"spec.iscsi.initiatorname: Invalid value", "spec.iscsi.iqn: Invalid value", "spec.iscsi.lun: Invalid value", "spec.iscsi.secretRef: Required value"}},
		{"fibre channel", `{fc: {targetWWNs: [a], lun: 1}}`, nil},
		{"fibre channel without lun", `{fc: {targetWWNs: [a]}}`, []string{"spec.fc.lun: Required value"}},
		{"fibre channel of both", `{fc: {targetWWNs: [a], wwids: [b]}}`, []string{"spec.fc.targetWWNs: Invalid value"}},
		{"flex", `{flexVolume: {driver: d, options: {a: b}}}`, nil},
		{"bad flex", `{flexVolume: {options: {kubernetes.io/a: b}}}`, []string{"spec.flexVolume.driver: Required value", "spec.flexVolume.options[kubernetes.io/a]: Invalid value"}},
		{"bad Ceph", `{rbd: {monitors: []}}`, []string{"spec.rbd.image: Required value", "spec.rbd.monitors: Required value"}},
		{"bad disk", `{azureDisk: {diskName: d, diskURI: u, cachingMode: Much, kind: Odd}}`,
			[]string{"spec.azureDisk.cachingMode: Unsupported value", "spec.azureDisk.diskURI: Unsupported value", "spec.azureDisk.kind: Unsupported value"}},
		{"bad partitions", `{gcePersistentDisk: {pdName: d, partition: 256}}`, []string{"spec.gcePersistentDisk.partition: Invalid value"}},
		{"bad Gluster", `{glusterfs: {endpoints: e, path: p, endpointsNamespace: ""}}`, []string{"spec.glusterfs.endpointsNamespace: Invalid value"}},
		{"bad Flocker", `{flocker: {datasetName: a/b, datasetUUID: c}}`, []string{"spec.flocker.datasetName: Invalid value", "spec.flocker: Invalid value"}},
		{"bad Quobyte", `{quobyte: {registry: r, volume: ""}}`, []string{"spec.quobyte.registry: Invalid value", "spec.quobyte.volume: Required value"}},
		{"bad Cinder", `{cinder: {volumeID: "", secretRef: {}}}`, []string{"spec.cinder.secretRef.name: Required value", "spec.cinder.secretRef.namespace: Required value", "spec.cinder.volumeID: Required value"}},
		{"bad StorageOS", `{storageos: {volumeName: A_, volumeNamespace: B_, secretRef: {}}}`, []string{"spec.storageos.secretRef.name: Required value",
			"spec.storageos.secretRef.namespace: Required value", "spec.storageos.volumeName: Invalid value", "spec.storageos.volumeNamespace: Invalid value"}},
		{"bad file", `{azureFile: {secretName: "", shareName: "", secretNamespace: ""}}`,
			[]string{"spec.azureFile.secretName: Required value", "spec.azureFile.secretNamespace: Required value", "spec.azureFile.shareName: Required value"}},
		{"attributes without a driver", `{nfs: {server: s, path: /a}, volumeAttributesClassName: ""}`, []string{"spec.csi: Required value", "spec.volumeAttributesClassName: Required value"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := kindtest.Brief(ValidateVolume(volume(t, c.source), field.NewPath("spec"))); !slices.Equal(got, c.want) && len(got)+len(c.want) > 0 {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestDefaultVolume(t *testing.T) {
	s := volume(t, `{hostPath: {path: /a}, iscsi: {}, rbd: {}, azureDisk: {}, scaleIO: {}, capacity: {storage: "1.0001"}}`)
	if q := s.Capacity[corev1.ResourceStorage]; q.String() != "1001m" {
		t.Errorf("capacity is %s", q.String())
	}
	if s.PersistentVolumeReclaimPolicy != "Retain" || *s.VolumeMode != "Filesystem" || *s.HostPath.Type != "" || s.ISCSI.ISCSIInterface != "default" ||
		s.RBD.RBDPool != "rbd" || *s.AzureDisk.CachingMode != "ReadWrite" || s.ScaleIO.StorageMode != "ThinProvisioned" {
		t.Errorf("defaults are %+v", s)
	}
}

// The two ways to say where the data comes from follow each other.
func TestDataSources(t *testing.T) {
	local := func(group, kind string) *corev1.TypedLocalObjectReference {
		return &corev1.TypedLocalObjectReference{APIGroup: &group, Kind: kind, Name: "x"}
	}
	ref := func(group, kind string, namespace *string) *corev1.TypedObjectReference {
		return &corev1.TypedObjectReference{APIGroup: &group, Kind: kind, Name: "x", Namespace: namespace}
	}
	for _, c := range []struct {
		name   string
		source *corev1.TypedLocalObjectReference
		ref    *corev1.TypedObjectReference
		kind   string // of both afterwards
	}{
		{"neither", nil, nil, ""},
		{"a claim", local("", "PersistentVolumeClaim"), nil, "PersistentVolumeClaim"},
		{"a snapshot", local("snapshot.storage.k8s.io", "VolumeSnapshot"), nil, "VolumeSnapshot"},
		{"something else in the older field", local("example.org", "Backup"), nil, ""},
		{"something else in the newer field", nil, ref("example.org", "Backup", nil), "Backup"},
		{"something else in both", local("example.org", "Backup"), ref("example.org", "Backup", nil), "Backup"},
		{"of another namespace", nil, ref("", "PersistentVolumeClaim", ptr.To("b")), "PersistentVolumeClaim"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := &corev1.PersistentVolumeClaimSpec{DataSource: c.source, DataSourceRef: c.ref}
			DefaultClaim(s)
			got := ""
			if s.DataSource != nil {
				got = s.DataSource.Kind
			}
			if got != c.kind || (s.DataSource == nil) != (s.DataSourceRef == nil) {
				t.Errorf("have %v and %v, want %q", s.DataSource, s.DataSourceRef, c.kind)
			}
			if s.DataSourceRef != nil && s.DataSourceRef.Namespace != nil {
				t.Error("keeps the namespace")
			}
		})
	}
}

func TestAccessModes(t *testing.T) {
	if got := AccessModes([]corev1.PersistentVolumeAccessMode{corev1.ReadWriteMany, corev1.ReadWriteOnce, corev1.ReadWriteOncePod, corev1.ReadOnlyMany, corev1.ReadWriteOnce}); got != "RWO,ROX,RWX,RWOP" {
		t.Errorf("got %s", got)
	}
}

func TestFractional(t *testing.T) {
	for text, want := range map[string]bool{"1": false, "1Gi": false, "1500m": true, "9000Pi": false, "1m": true} {
		if got := Fractional(resource.MustParse(text)); got != want {
			t.Errorf("%s: %t", text, got)
		}
	}
}
