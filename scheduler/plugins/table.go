// Package plugins holds what the scheduler knows of pods and nodes: a file a plugin, and the table that lists them. Plugins
// are pure functions of a pod and the snapshot, but for those of volumes, which read the informers' caches too; names and reasons
// are those that users of Kubernetes know.
package plugins

import "pilothouse.dev/scheduler/framework"

// Table is the plugins in the order in which they are asked: what refuses cheaply and most tellingly comes first, because the
// first refusal of a node is the one that is told. The number is the weight of the plugin's score.
var Table = []framework.Entry{
	{Name: gatesName, New: newGates},
	{Name: unschedulableName, New: newUnschedulable},
	{Name: nodeNameName, New: newNodeName},
	{Name: taintsName, New: newTaints, Weight: 3},
	{Name: affinityName, New: newAffinity, Weight: 2},
	{Name: portsName, New: newPorts},
	{Name: fitName, New: newFit, Weight: 1},
	{Name: restrictionsName, New: newVolumeRestrictions},
	{Name: limitsName, New: newVolumeLimits},
	{Name: bindingName, New: newVolumeBinding},
	{Name: zoneName, New: newVolumeZone},
	{Name: balancedName, New: newBalanced, Weight: 1},
	{Name: spreadName, New: newSpread, Weight: 2},
}
