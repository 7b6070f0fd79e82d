// Package images brings container images to the node and keeps the list of them.
//
// The pod workers call Ensure before each container; node asks List for the node's status. It uses the containerd client that containers
// opened. What always holds: one image is pulled once at a time however many ask; pulls at the same time are bounded; a pull that failed is
// not tried again before its back-off is over; an image that Ensure returned is unpacked and ready.
//
// It leaves to others: which secrets a pod may use, events and waiting reasons (Reason turns an error into one).
package images
