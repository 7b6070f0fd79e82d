// Package credentials finds what may open a registry for a pod: its pull secrets, the node's docker configuration, and the credential provider
// plugins that the node's operator installed.
//
// images asks Lookup before each pull, and before a pod uses a private image that is already here. What always holds: credentials are in memory
// only; a Credential prints as its origin, never as what it holds; what a plugin says goes neither into logs nor into errors; a plugin gets
// tokens on its standard input alone.
//
// It leaves to others: which secrets a pod names (pods), tokens (tokens), trying the credentials (images).
package credentials
