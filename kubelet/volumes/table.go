package volumes

import "pilothouse.dev/kubelet/csi"

// table is every kind of volume this kubelet knows: one line and one file a kind.
var table = []kind{
	{name: emptyDirKind, takes: isEmptyDir, setup: setupEmptyDir},
	{name: "host-path", takes: isHostPath, setup: setupHostPath},
	{name: imageKind, takes: isImage, setup: setupImage},
	{name: claimKind, takes: isClaim, setup: setupClaim},
	{name: csi.Folder, takes: isInline, setup: setupInline},
	{name: nfsKind, takes: isNFS, setup: setupNFS},
	{name: "configmap", takes: isConfigMap, setup: setupConfigMap, fresh: true},
	{name: "secret", takes: isSecret, setup: setupSecret, fresh: true},
	{name: "downward-api", takes: isDownward, setup: setupDownward, fresh: true},
	{name: "projected", takes: isProjected, setup: setupProjected, fresh: true},
}
