// Package status says how pods are: Compute turns what is known into a PodStatus, pure; the Writer is the only one on this node that writes
// the status of pods to the API, and it deletes a pod's object once the pod is truly gone.
//
// The pod workers call it. What always holds: of one pod, one write is under way at a time, the newest status wins, and a deletion comes after the last
// status; a write names the pod's UID, so the status of a namesake is never touched; what others wrote into the status (conditions, nominated node)
// stays. When the API is away the writer keeps only the newest status of each pod and goes on trying.
package status
