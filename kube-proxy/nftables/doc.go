// Package nftables is the data plane: it turns a table of services into
// elements of nftables sets and maps, and writes the difference to the kernel.
//
// Deciding is pure: render.go makes elements of services, diff.go finds what
// changed since the last wish, chains.go and picks.go are the rules as data.
// Doing is apply.go (one transaction, all or nothing), read.go (what the kernel
// holds) and writer.go (which of the two, and when to repair); the socket is
// nfconn's. README.md follows a packet through the rules.
//
// The syncer calls it, from one goroutine.
package nftables
