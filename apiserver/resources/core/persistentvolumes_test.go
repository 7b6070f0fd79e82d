package core

import (
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"pilothouse.dev/apiserver/registry/kindtest"
)

const (
	volumeYAML = `{spec: {capacity: {storage: 5Gi}, accessModes: [ReadWriteOnce], csi: {driver: d, volumeHandle: h}}}`
	claimYAML  = `{spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 5Gi}}}}`
	zoneOf     = `{spec: {nodeAffinity: {required: {nodeSelectorTerms: [{matchExpressions: [{key: `
)

func TestPersistentVolumes(t *testing.T) {
	zone := func(key, value string) string {
		return zoneOf + key + `, operator: In, values: [` + value + `]}]}]}}}}`
	}
	kindtest.Create(t, PersistentVolumes, volumeYAML, []kindtest.Case{
		{Name: "good"},
		{Name: "bad name", Diff: `{metadata: {name: A_}}`, Want: []string{"metadata.name: Invalid value"}},
		{Name: "no capacity", Diff: `{spec: {capacity: null}}`, Want: []string{"spec.capacity: Required value", "spec.capacity: Unsupported value"}},
		{Name: "no storage", Diff: `{spec: {capacity: {storage: 0, beer: 1}}}`, Want: []string{"spec.capacity: Unsupported value", "spec.capacity[storage]: Invalid value"}},
		{Name: "no modes", Diff: `{spec: {accessModes: []}}`, Want: []string{"spec.accessModes: Required value"}},
		{Name: "bad modes", Diff: `{spec: {accessModes: [Sometimes, ReadWriteOncePod, ReadOnlyMany]}}`, Want: []string{"spec.accessModes: Forbidden", "spec.accessModes: Unsupported value"}},
		{Name: "bad words", Diff: `{spec: {persistentVolumeReclaimPolicy: Burn, volumeMode: Tape, storageClassName: A_, volumeAttributesClassName: B_}}`,
			Want: []string{"spec.persistentVolumeReclaimPolicy: Unsupported value", "spec.storageClassName: Invalid value", "spec.volumeAttributesClassName: Invalid value", "spec.volumeMode: Unsupported value"}},
		{Name: "bad affinity", Diff: `{spec: {nodeAffinity: {required: {nodeSelectorTerms: []}}}}`, Want: []string{"spec.nodeAffinity.required.nodeSelectorTerms: Required value"}},
	})
	kindtest.Update(t, PersistentVolumes, volumeYAML, []kindtest.Case{
		{Name: "bound, and more room", Diff: `{spec: {claimRef: {namespace: a, name: c}, capacity: {storage: 6Gi}, persistentVolumeReclaimPolicy: Delete}}`},
		{Name: "another volume", Diff: `{spec: {csi: {volumeHandle: other}}}`, Want: []string{"spec.persistentvolumesource: Forbidden"}},
		{Name: "a secret for growing", Diff: `{spec: {csi: {controllerExpandSecretRef: {name: s, namespace: a}}}}`},
		{Name: "another secret for growing", Diff: `{spec: {csi: {controllerExpandSecretRef: {name: s, namespace: a}}}}`, Old: `{spec: {csi: {controllerExpandSecretRef: {name: r, namespace: a}}}}`,
			Want: []string{"spec.persistentvolumesource: Forbidden"}},
		{Name: "another mode", Diff: `{spec: {volumeMode: Block}}`, Want: []string{"volumeMode: Invalid value"}},
		{Name: "a place", Diff: zone("topology.kubernetes.io/zone", "a")},
		{Name: "another place", Diff: zone("topology.kubernetes.io/zone", "a"), Old: zone("topology.kubernetes.io/zone", "b"), Want: []string{"spec.nodeAffinity: Invalid value"}},
		{Name: "no place", Old: zone("topology.kubernetes.io/zone", "b"), Want: []string{"spec.nodeAffinity: Invalid value"}},
		{Name: "a place's newer name", Diff: zone("topology.kubernetes.io/zone", "a"), Old: zone("failure-domain.beta.kubernetes.io/zone", "a")},
		{Name: "other attributes", Diff: `{spec: {volumeAttributesClassName: a}}`, Old: `{spec: {volumeAttributesClassName: b}}`},
		{Name: "no attributes", Old: `{spec: {volumeAttributesClassName: b}}`, Want: []string{"spec.volumeAttributesClassName: Forbidden"}},
	})
}

func TestPersistentVolumePhase(t *testing.T) {
	v := kindtest.New(t, PersistentVolumes, volumeYAML, `{status: {phase: Bound, message: x}}`).(*corev1.PersistentVolume)
	PersistentVolumes.BeforeCreate(v)
	if v.Status.Phase != corev1.VolumePending || v.Status.Message != "" || v.Status.LastPhaseTransitionTime == nil {
		t.Errorf("a new one is %+v", v.Status)
	}
	const old = `{status: {phase: Pending, lastPhaseTransitionTime: "2026-01-01T00:00:00Z"}}`
	for diff, stamped := range map[string]bool{
		`{status: {phase: Bound, lastPhaseTransitionTime: "2026-01-01T00:00:00Z"}}`: true,
		`{status: {phase: Bound}}`: true,
		`{status: {phase: Bound, lastPhaseTransitionTime: "2026-02-01T00:00:00Z"}}`:   false,
		`{status: {phase: Pending, lastPhaseTransitionTime: "2026-01-01T00:00:00Z"}}`: false,
	} {
		v := kindtest.New(t, PersistentVolumes, volumeYAML, diff).(*corev1.PersistentVolume)
		before := v.Status.LastPhaseTransitionTime
		PersistentVolumes.BeforeStatus(v, kindtest.New(t, PersistentVolumes, volumeYAML, old))
		if changed := !v.Status.LastPhaseTransitionTime.Equal(before); changed != stamped {
			t.Errorf("%s: stamped is %t", diff, changed)
		}
	}
}

func TestPersistentVolumeClaims(t *testing.T) {
	kindtest.Create(t, PersistentVolumeClaims, claimYAML, []kindtest.Case{
		{Name: "good"},
		{Name: "nothing", Diff: `{spec: null}`, Want: []string{"spec.accessModes: Required value", "spec.resources[storage]: Required value"}},
		{Name: "bad", Diff: `{spec: {accessModes: [ReadWriteOncePod, ReadWriteOnce, Z], resources: {requests: {storage: "-1"}}, storageClassName: A_, volumeMode: Tape, volumeAttributesClassName: B_,
			selector: {matchLabels: {a: "b c"}}}}`,
			Want: []string{"spec.accessModes: Forbidden", "spec.accessModes: Unsupported value", "spec.resources[storage]: Invalid value", "spec.selector.matchLabels: Invalid value",
				"spec.storageClassName: Invalid value", "spec.volumeAttributesClassName: Invalid value", "spec.volumeMode: Unsupported value"}},
		{Name: "of no class", Diff: `{spec: {storageClassName: "", volumeAttributesClassName: ""}}`},
		{Name: "from a claim", Diff: `{spec: {dataSource: {kind: PersistentVolumeClaim, name: b}}}`},
		{Name: "from a pod", Diff: `{spec: {dataSourceRef: {kind: Pod, name: b}}}`, Want: []string{"spec.dataSource: Invalid value", "spec.dataSourceRef: Invalid value"}},
		{Name: "from nowhere", Diff: `{spec: {dataSourceRef: {apiGroup: A_, kind: "", name: ""}}}`, Want: []string{"spec.dataSource.apiGroup: Invalid value", "spec.dataSource.kind: Required value",
			"spec.dataSource.name: Required value", "spec.dataSourceRef.apiGroup: Invalid value", "spec.dataSourceRef.kind: Required value", "spec.dataSourceRef.name: Required value"}},
		{Name: "from two", Diff: `{spec: {dataSource: {kind: PersistentVolumeClaim, name: b}, dataSourceRef: {kind: PersistentVolumeClaim, name: c}}}`, Want: []string{"spec: Invalid value"}},
	})

	const bound = `{spec: {volumeName: v}, status: {phase: Bound, capacity: {storage: 5Gi}}}`
	size := func(q string) string { return `{spec: {volumeName: v, resources: {requests: {storage: ` + q + `}}}}` }
	kindtest.Update(t, PersistentVolumeClaims, claimYAML, []kindtest.Case{
		{Name: "bound", Diff: `{spec: {volumeName: v}}`},
		{Name: "bound to another", Diff: `{spec: {volumeName: w}}`, Old: bound, Want: []string{"spec: Forbidden"}},
		{Name: "grown", Diff: size("6Gi"), Old: bound},
		{Name: "grown before it is bound", Diff: `{spec: {resources: {requests: {storage: 6Gi}}}}`, Want: []string{"spec: Forbidden"}},
		{Name: "shrunk", Diff: size("4Gi"), Old: bound, Want: []string{"spec.resources.requests.storage: Forbidden"}},
		{Name: "growing less than it wanted", Diff: size("6Gi"), Old: `{spec: {volumeName: v, resources: {requests: {storage: 9Gi}}}, status: {phase: Bound, capacity: {storage: 5Gi}}}`},
		{Name: "not growing after all", Diff: size("5Gi"), Old: `{spec: {volumeName: v, resources: {requests: {storage: 9Gi}}}, status: {phase: Bound, capacity: {storage: 5Gi}}}`,
			Want: []string{"spec.resources.requests.storage: Forbidden"}},
		{Name: "a limit", Diff: `{spec: {volumeName: v, resources: {limits: {storage: 9Gi}}}}`, Old: bound, Want: []string{"spec: Forbidden"}},
		{Name: "other modes", Diff: `{spec: {accessModes: [ReadWriteMany], volumeMode: Block}}`, Want: []string{"spec: Forbidden", "volumeMode: Invalid value"}},
		{Name: "a class named", Diff: `{spec: {storageClassName: fast}}`},
		{Name: "another class", Diff: `{spec: {storageClassName: fast}}`, Old: `{spec: {storageClassName: slow}}`, Want: []string{"spec: Forbidden"}},
		{Name: "no class any more", Old: `{spec: {storageClassName: slow}}`, Want: []string{"spec: Forbidden"}},
		{Name: "the annotation's class", Diff: `{metadata: {annotations: {volume.beta.kubernetes.io/storage-class: slow}}, spec: {storageClassName: slow}}`,
			Old: `{metadata: {annotations: {volume.beta.kubernetes.io/storage-class: slow}}}`},
		{Name: "not the annotation's class", Diff: `{metadata: {annotations: {volume.beta.kubernetes.io/storage-class: slow}}, spec: {storageClassName: fast}}`,
			Old: `{metadata: {annotations: {volume.beta.kubernetes.io/storage-class: slow}}}`, Want: []string{"spec: Forbidden"}},
		{Name: "other attributes", Diff: `{spec: {volumeAttributesClassName: gold}}`, Old: `{spec: {volumeAttributesClassName: tin}, status: {currentVolumeAttributesClassName: tin}}`},
		{Name: "no attributes yet after all", Old: `{spec: {volumeAttributesClassName: tin}}`},
		{Name: "no attributes any more", Old: `{spec: {volumeAttributesClassName: tin}, status: {currentVolumeAttributesClassName: tin}}`,
			Want: []string{"spec.volumeAttributesClassName: Forbidden"}},
	})
	kindtest.Status(t, PersistentVolumeClaims, claimYAML, []kindtest.Case{
		{Name: "bound", Diff: `{status: {phase: Bound, capacity: {storage: 5Gi}, accessModes: [ReadWriteOnce]}}`},
		{Name: "growing", Diff: `{status: {allocatedResources: {storage: 6Gi, example.com/x: 1}, allocatedResourceStatuses: {storage: NodeResizePending, example.com/x: ControllerResizeInProgress}}}`},
		{Name: "bad", Diff: `{status: {capacity: {storage: "-1"}, allocatedResources: {storage: 0, cpu: 1}, allocatedResourceStatuses: {storage: Perhaps, kubernetes.io/x: NodeResizePending, "a b": NodeResizePending}}}`,
			Want: []string{"status.allocatedResourceStatuses: Invalid value", "status.allocatedResourceStatuses: Unsupported value", "status.allocatedResourceStatuses[storage]: Unsupported value",
				"status.allocatedResources: Unsupported value", "status.allocatedResources[storage]: Invalid value", "status.capacity[storage]: Invalid value"}},
	})
}

func TestVolumeColumns(t *testing.T) {
	kindtest.Shows(t, PersistentVolumes, kindtest.New(t, PersistentVolumes, volumeYAML, `{spec: {claimRef: {namespace: a, name: c}, storageClassName: fast}, status: {phase: Bound, reason: R}}`),
		map[string]string{"Capacity": "5Gi", "Access Modes": "RWO", "Reclaim Policy": "Retain", "Status": "Bound", "Claim": "a/c", "StorageClass": "fast",
			"VolumeAttributesClass": "<unset>", "Reason": "R", "VolumeMode": "Filesystem"})
	kindtest.Shows(t, PersistentVolumes, kindtest.New(t, PersistentVolumes, volumeYAML, `{metadata: {deletionTimestamp: "2026-01-01T00:00:00Z", annotations: {volume.beta.kubernetes.io/storage-class: old}}}`),
		map[string]string{"Status": "Terminating", "Claim": "", "StorageClass": "old"})
	kindtest.Shows(t, PersistentVolumeClaims, kindtest.New(t, PersistentVolumeClaims, claimYAML, ""),
		map[string]string{"Status": "Pending", "Volume": "", "Capacity": "", "Access Modes": "", "StorageClass": "", "VolumeAttributesClass": "<unset>", "VolumeMode": "Filesystem"})
	kindtest.Shows(t, PersistentVolumeClaims, kindtest.New(t, PersistentVolumeClaims, claimYAML,
		`{spec: {volumeName: v, storageClassName: fast}, status: {phase: Bound, capacity: {storage: 6Gi}, accessModes: [ReadWriteOnce]}}`),
		map[string]string{"Status": "Bound", "Volume": "v", "Capacity": "6Gi", "Access Modes": "RWO", "StorageClass": "fast"})
}

func TestVolumeWarnings(t *testing.T) {
	v := kindtest.New(t, PersistentVolumes, volumeYAML, `{metadata: {annotations: {volume.beta.kubernetes.io/storage-class: a, volume.beta.kubernetes.io/mount-options: b}},
	  spec: {capacity: {storage: 1500m}, persistentVolumeReclaimPolicy: Recycle, csi: null, cephfs: {monitors: [m]},
	  nodeAffinity: {required: {nodeSelectorTerms: [{matchExpressions: [{key: beta.kubernetes.io/os, operator: Exists}]}]}}}}`)
	c := kindtest.New(t, PersistentVolumeClaims, claimYAML, `{metadata: {annotations: {volume.beta.kubernetes.io/storage-class: a}}, spec: {resources: {requests: {storage: 1500m}}}}`)
	about := func(all []string) []string {
		var out []string
		for _, w := range all {
			path, _, _ := strings.Cut(w, ": ")
			out = append(out, path)
		}
		slices.Sort(out)
		return out
	}
	if got, want := about(PersistentVolumes.Warn(v, nil)), []string{"metadata.annotations[volume.beta.kubernetes.io/mount-options]", "metadata.annotations[volume.beta.kubernetes.io/storage-class]",
		"spec.capacity[storage]", "spec.cephfs", "spec.nodeAffinity.required.nodeSelectorTerms[0].matchExpressions[0].key", "spec.persistentVolumeReclaimPolicy"}; !slices.Equal(got, want) {
		t.Errorf("warns of %q, want %q", got, want)
	}
	if got, want := about(PersistentVolumeClaims.Warn(c, nil)), []string{"metadata.annotations[volume.beta.kubernetes.io/storage-class]", "spec.resources.requests[storage]"}; !slices.Equal(got, want) {
		t.Errorf("warns of %q, want %q", got, want)
	}
}
