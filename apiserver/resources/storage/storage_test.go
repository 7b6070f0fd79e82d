package storage

import (
	"strings"
	"testing"

	storagev1 "k8s.io/api/storage/v1"

	"pilothouse.dev/apiserver/registry/kindtest"
)

func TestStorageClasses(t *testing.T) {
	const class = `{provisioner: example.com/disk, parameters: {a: b}}`
	kindtest.Create(t, StorageClasses, class, []kindtest.Case{
		{Name: "good", Diff: `{mountOptions: [ro], allowVolumeExpansion: true, allowedTopologies: [{matchLabelExpressions: [{key: zone, values: [a, b]}]}]}`},
		{Name: "no provisioner", Diff: `{provisioner: ""}`, Want: []string{"provisioner: Required value"}},
		{Name: "bad provisioner", Diff: `{provisioner: a/b/c}`, Want: []string{"provisioner: Invalid value"}},
		{Name: "a parameter of no name", Diff: `{parameters: {"": x}}`, Want: []string{"parameters: Invalid value"}},
		{Name: "long parameters", Diff: `{parameters: {a: ` + strings.Repeat("x", mostText) + `}}`, Want: []string{"parameters: Too long"}},
		{Name: "bad policies", Diff: `{reclaimPolicy: Recycle, volumeBindingMode: Later}`, Want: []string{"reclaimPolicy: Unsupported value", "volumeBindingMode: Unsupported value"}},
		{Name: "bad topologies", Diff: `{allowedTopologies: [{matchLabelExpressions: [{key: a, values: []}, {key: a, values: [b, b]}, {key: "c d", values: [e]}]}]}`,
			Want: []string{"allowedTopologies[0].matchLabelExpressions[0].values: Required value", "allowedTopologies[0].matchLabelExpressions[1].key: Duplicate value",
				"allowedTopologies[0].matchLabelExpressions[1].values[1]: Duplicate value", "allowedTopologies[0].matchLabelExpressions[2].key: Invalid value"}},
		{Name: "one topology twice", Diff: `{allowedTopologies: [{matchLabelExpressions: [{key: a, values: [b, c]}]}, {matchLabelExpressions: [{key: a, values: [c, b]}]}]}`,
			Want: []string{"allowedTopologies[1].matchLabelExpressions: Duplicate value"}},
	})
	kindtest.Update(t, StorageClasses, class, []kindtest.Case{
		{Name: "may grow now", Diff: `{allowVolumeExpansion: true, mountOptions: [ro]}`},
		{Name: "all else", Diff: `{provisioner: example.com/other, parameters: {a: c}, reclaimPolicy: Retain, volumeBindingMode: WaitForFirstConsumer}`,
			Want: []string{"parameters: Invalid value", "provisioner: Invalid value", "reclaimPolicy: Invalid value", "volumeBindingMode: Invalid value"}},
	})
	c := kindtest.New(t, StorageClasses, class, `{metadata: {annotations: {storageclass.kubernetes.io/is-default-class: "true"}},
	  allowedTopologies: [{matchLabelExpressions: [{key: failure-domain.beta.kubernetes.io/zone, values: [a]}]}]}`)
	kindtest.Shows(t, StorageClasses, c, map[string]string{"Name": "a (default)", "Provisioner": "example.com/disk", "ReclaimPolicy": "Delete",
		"VolumeBindingMode": "Immediate", "AllowVolumeExpansion": "false"})
	if w := StorageClasses.Warn(c, nil); len(w) != 1 || !strings.HasPrefix(w[0], "allowedTopologies[0].matchLabelExpressions[0].key: ") {
		t.Errorf("warns %q of an old label", w)
	}
	kindtest.Shows(t, StorageClasses, kindtest.New(t, StorageClasses, class, ""), map[string]string{"Name": "a"})
}

func TestVolumeAttributesClasses(t *testing.T) {
	const class = `{driverName: disk.example.com, parameters: {iops: "5"}}`
	kindtest.Create(t, VolumeAttributesClasses, class, []kindtest.Case{
		{Name: "good"},
		{Name: "nothing", Diff: `{driverName: "", parameters: null}`, Want: []string{"driverName: Required value", "parameters: Required value"}},
		{Name: "a parameter of no name", Diff: `{parameters: {"": x}}`, Want: []string{"parameters: Invalid value"}},
	})
	kindtest.Update(t, VolumeAttributesClasses, class, []kindtest.Case{
		{Name: "others", Diff: `{driverName: other, parameters: {iops: "6"}}`, Want: []string{"driverName: Invalid value", "parameters: Invalid value"}},
	})
	kindtest.Shows(t, VolumeAttributesClasses, kindtest.New(t, VolumeAttributesClasses, class, ""), map[string]string{"DriverName": "disk.example.com"})
}

func TestVolumeAttachments(t *testing.T) {
	const attachment = `{spec: {attacher: disk.example.com, nodeName: n1, source: {persistentVolumeName: v}}}`
	const inline = `{spec: {source: {persistentVolumeName: null, inlineVolumeSpec: {accessModes: [ReadWriteOnce], csi: {driver: disk.example.com, volumeHandle: h}}}}}`
	kindtest.Create(t, VolumeAttachments, attachment, []kindtest.Case{
		{Name: "good"},
		{Name: "inline", Diff: inline},
		{Name: "bad names", Diff: `{spec: {attacher: "", nodeName: N_, source: {persistentVolumeName: V_}}}`,
			Want: []string{"spec.attacher: Required value", "spec.nodeName: Invalid value", "spec.source.persistentVolumeName: Invalid value"}},
		{Name: "of nothing", Diff: `{spec: {source: {persistentVolumeName: null}}}`, Want: []string{"spec.source: Required value"}},
		{Name: "of an empty name", Diff: `{spec: {source: {persistentVolumeName: ""}}}`, Want: []string{"spec.source.persistentVolumeName: Required value"}},
		{Name: "of both", Diff: `{spec: {source: {inlineVolumeSpec: {}}}}`, Want: []string{"spec.source: Forbidden"}},
		{Name: "inline with more than a place", Diff: `{spec: {source: {persistentVolumeName: null, inlineVolumeSpec: {
			accessModes: [ReadWriteOnce], nfs: {server: s, path: /p}, capacity: {storage: 1Gi}, claimRef: {name: c}, storageClassName: s,
			volumeMode: Block, persistentVolumeReclaimPolicy: Delete, nodeAffinity: {required: {nodeSelectorTerms: []}}}}}}`,
			Want: []string{"spec.source.inlineVolumeSpec.capacity: Forbidden", "spec.source.inlineVolumeSpec.claimRef: Forbidden", "spec.source.inlineVolumeSpec.csi: Required value",
				"spec.source.inlineVolumeSpec.nodeAffinity: Forbidden", "spec.source.inlineVolumeSpec.persistentVolumeReclaimPolicy: Forbidden",
				"spec.source.inlineVolumeSpec.storageClassName: Forbidden", "spec.source.inlineVolumeSpec.volumeMode: Forbidden"}},
	})
	kindtest.Update(t, VolumeAttachments, attachment, []kindtest.Case{
		{Name: "labels", Diff: `{metadata: {labels: {a: b}}}`},
		{Name: "another node", Diff: `{spec: {nodeName: m1}}`, Want: []string{"spec: Invalid value"}},
	})
	kindtest.Status(t, VolumeAttachments, attachment, []kindtest.Case{
		{Name: "attached", Diff: `{status: {attached: true, attachmentMetadata: {a: b}}}`},
		{Name: "long", Diff: `{status: {attachError: {message: ` + strings.Repeat("x", 1025) + `}, attachmentMetadata: {"": b}}}`,
			Want: []string{"status.attachError.message: Too long", "status.attachmentMetadata: Invalid value"}},
	})
	a := kindtest.New(t, VolumeAttachments, attachment, `{status: {attached: true}}`)
	kindtest.Shows(t, VolumeAttachments, a, map[string]string{"Attacher": "disk.example.com", "PV": "v", "Node": "n1", "Attached": "true"})
	VolumeAttachments.BeforeCreate(a)
	if a.(*storagev1.VolumeAttachment).Status.Attached {
		t.Error("a new one is attached already")
	}
}

func TestCSIDrivers(t *testing.T) {
	const driver = `{metadata: {name: disk.example.com}}`
	kindtest.Create(t, CSIDrivers, driver, []kindtest.Case{
		{Name: "good"},
		{Name: "long", Diff: `{metadata: {name: ` + strings.Repeat("a", 64) + `}}`, Want: []string{"metadata.name: Too long"}},
		{Name: "unknown words", Diff: `{spec: {fsGroupPolicy: Some, volumeLifecycleModes: [Persistent, Eternal]}}`,
			Want: []string{"spec.fsGroupPolicy: Unsupported value", "spec.volumeLifecycleModes: Unsupported value"}},
		{Name: "tokens", Diff: `{spec: {tokenRequests: [{audience: ""}, {audience: b, expirationSeconds: 600}], serviceAccountTokenInSecrets: true}}`},
		{Name: "bad tokens", Diff: `{spec: {tokenRequests: [{audience: a, expirationSeconds: 599}, {audience: a, expirationSeconds: 4294967297}]}}`,
			Want: []string{"spec.tokenRequests[0].expirationSeconds: Invalid value", "spec.tokenRequests[1].audience: Duplicate value", "spec.tokenRequests[1].expirationSeconds: Invalid value"}},
		{Name: "no tokens in secrets", Diff: `{spec: {serviceAccountTokenInSecrets: true}}`, Want: []string{"spec.serviceAccountTokenInSecrets: Invalid value"}},
		{Name: "too often", Diff: `{spec: {nodeAllocatableUpdatePeriodSeconds: 9}}`, Want: []string{"spec.nodeAllocatableUpdatePeriodSeconds: Invalid value"}},
	})
	kindtest.Update(t, CSIDrivers, driver, []kindtest.Case{
		{Name: "what may", Diff: `{spec: {podInfoOnMount: true, storageCapacity: true, fsGroupPolicy: File}}`},
		{Name: "what may not", Diff: `{spec: {attachRequired: false, volumeLifecycleModes: [Ephemeral]}}`,
			Want: []string{"spec.attachRequired: Invalid value", "spec.volumeLifecycleModes: Invalid value"}},
	})
	kindtest.Shows(t, CSIDrivers, kindtest.New(t, CSIDrivers, driver, ""), map[string]string{"AttachRequired": "true", "PodInfoOnMount": "false",
		"StorageCapacity": "false", "TokenRequests": "<unset>", "RequiresRepublish": "false", "Modes": "Persistent"})
	kindtest.Shows(t, CSIDrivers, kindtest.New(t, CSIDrivers, driver, `{spec: {tokenRequests: [{audience: a}, {audience: b}], volumeLifecycleModes: [Persistent, Ephemeral]}}`),
		map[string]string{"TokenRequests": "a,b", "Modes": "Persistent,Ephemeral"})
}

func TestCSINodes(t *testing.T) {
	const node = `{spec: {drivers: [{name: d, nodeID: n1, topologyKeys: [zone], allocatable: {count: 5}}]}}`
	kindtest.Create(t, CSINodes, node, []kindtest.Case{
		{Name: "good"},
		{Name: "no drivers", Diff: `{spec: {drivers: []}}`},
		{Name: "bad drivers", Diff: `{spec: {drivers: [{name: "", nodeID: ""}, {name: d, nodeID: ` + strings.Repeat("x", 193) + `, topologyKeys: [a, a, "b c"], allocatable: {count: -1}}, {name: d, nodeID: n1}]}}`,
			Want: []string{"spec.drivers[0].name: Required value", "spec.drivers[0].nodeID: Required value", "spec.drivers[1].allocatable.count: Invalid value",
				"spec.drivers[1].nodeID: Too long", "spec.drivers[1]: Duplicate value", "spec.drivers[1]: Invalid value", "spec.drivers[2].name: Duplicate value"}},
	})
	kindtest.Update(t, CSINodes, node, []kindtest.Case{
		{Name: "another driver", Diff: `{spec: {drivers: [{name: e, nodeID: n1}]}}`},
		{Name: "more room", Diff: `{spec: {drivers: [{name: d, nodeID: n1, topologyKeys: [zone], allocatable: {count: 9}}]}}`},
		{Name: "another name for the node", Diff: `{spec: {drivers: [{name: d, nodeID: m1, topologyKeys: [zone], allocatable: {count: 5}}]}}`, Want: []string{"spec.drivers[0]: Invalid value"}},
	})
	n := kindtest.New(t, CSINodes, node, `{status: {storageHealth: [{name: d}]}}`).(*storagev1.CSINode)
	CSINodes.BeforeCreate(n)
	if n.Status.StorageHealth != nil {
		t.Error("keeps an alpha field")
	}
	kindtest.Shows(t, CSINodes, n, map[string]string{"Drivers": "1"})
}

func TestCSIStorageCapacities(t *testing.T) {
	const capacity = `{storageClassName: fast, capacity: 5Gi, nodeTopology: {matchLabels: {a: b}}}`
	kindtest.Create(t, CSIStorageCapacities, capacity, []kindtest.Case{
		{Name: "good"},
		{Name: "bad", Diff: `{storageClassName: "", capacity: "-1", maximumVolumeSize: "-1", nodeTopology: {matchLabels: {a: "b c"}}}`,
			Want: []string{"capacity: Invalid value", "maximumVolumeSize: Invalid value", "nodeTopology.matchLabels: Invalid value", "storageClassName: Invalid value"}},
	})
	kindtest.Update(t, CSIStorageCapacities, capacity, []kindtest.Case{
		{Name: "less", Diff: `{capacity: 1Gi}`},
		{Name: "elsewhere", Diff: `{storageClassName: slow, nodeTopology: {matchLabels: {a: c}}}`, Want: []string{"nodeTopology: Invalid value", "storageClassName: Invalid value"}},
	})
	kindtest.Shows(t, CSIStorageCapacities, kindtest.New(t, CSIStorageCapacities, capacity, ""), map[string]string{"StorageClassName": "fast", "Capacity": "5Gi"})
}
