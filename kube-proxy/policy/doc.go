// Package policy enforces NetworkPolicies on one node: it follows policies, pods
// and namespaces, and keeps an nftables table of its own, beside that of the
// services, which drops what no policy allows.
//
// Facts (facts.go, compile.go) are what the API said, made small and immutable;
// world.go gathers them. Deciding is pure: ruleset.go moves from one state of
// the world to the next and finds the difference, with the help of classes.go
// (which peers and policies match which pods), blocks.go (ranges of addresses),
// numbers.go and ports.go; chains.go is the rules as data. Doing is apply.go,
// read.go and writer.go. enforcer.go is the loop. README.md follows a packet
// through the rules and says what is promised.
package policy
