// Package certificates declares the kinds of the group certificates.k8s.io, a file each; see resources/core for what a kind's
// file holds. Who asks for a certificate is written into a request by the admission plugin certificate_request.
package certificates

const group, version = "certificates.k8s.io", "v1"
