// Package cgroups keeps the node's QoS tree of control groups: <root>/kubepods[/burstable|/besteffort]/pod<uid>/<container>.
//
// The pod workers call it to make and remove a pod's group, containers runs its processes in a child of that group (runc makes the
// child itself, from the limits in the OCI spec), stats and eviction read numbers from it. It works the same on a v1 machine (each
// controller its own hierarchy), on a hybrid one and on v2; callers only see paths relative to the mount point, always starting
// with «/», which is also the form that an OCI spec's cgroupsPath wants.
//
// What always holds: a method that is called twice does the same as called once; a removed group's processes are dead. The
// arithmetic (milliCPU to shares, quota, weight) is in math.go, pure. It leaves to others: which limits a pod has.
package cgroups
