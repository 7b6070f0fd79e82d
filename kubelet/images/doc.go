// Package images brings container images to the node, keeps the list of them, and removes those that nobody needs where the disk is short.
//
// The pod workers call Ensure before each container and Mount for each image volume; node asks List for the node's status; eviction calls
// RemoveUnused; a Collector watches the disk. It uses the containerd client that containers opened. What always holds: one image is pulled once at a
// time however many ask with the same credentials; pulls at the same time are bounded; a pull that failed is not tried again before its back-off is
// over; a pull that nobody waits for any more is given up; an image that Ensure returned is unpacked and ready; a private image that is here is given
// to those only whose credentials have opened it (access.go).
//
// There is no database: what must be known after a restart is in the labels of containerd's images, snapshots and leases.
//
// It leaves to others: which secrets a pod names, what opens a registry (credentials), events. A Failure carries the reason and the words for a
// container's waiting state.
package images
