package volumes

// table is every kind of volume this kubelet knows: one line and one file a kind.
var table = []kind{
	{name: emptyDirKind, takes: isEmptyDir, setup: setupEmptyDir},
	{name: "host-path", takes: isHostPath, setup: setupHostPath},
	{name: claimKind, takes: isClaim, setup: setupClaim},
	{name: "configmap", takes: isConfigMap, setup: setupConfigMap, fresh: true},
	{name: "secret", takes: isSecret, setup: setupSecret, fresh: true},
	{name: "downward-api", takes: isDownward, setup: setupDownward, fresh: true},
	{name: "projected", takes: isProjected, setup: setupProjected, fresh: true},
}
