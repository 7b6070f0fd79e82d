// Package pod answers questions about one pod from its object alone: what it asks for, how it is classed, whether it is
// ready, finished or ending, and where a container's spec and status stand in it.
//
// All functions are pure, keep nothing and change nothing, except SetCondition, which changes the status it is given. The
// scheduler, the controllers and the kubelet use them, so that they never disagree about such a fact.
package pod
