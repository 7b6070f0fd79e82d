package garbagecollector

import (
	"errors"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// errNoKind: the kind an owner reference names is not served, or not yet known to be.
var errNoKind = errors.New("no such kind")

// ownerState is what has become of an owner.
type ownerState int

const (
	solid    ownerState = iota // there
	dangling                   // gone
	waiting                    // going, and waits for its dependents to go first
)

// step is what an object needs, by the graph alone.
type step int

const (
	stepNone    step = iota
	stepOrphan       // going, and its dependents are to be orphaned
	stepRelease      // going in the foreground, and nothing blocks it any more
	stepJudge        // an owner may be gone
)

func (v view) step() step {
	switch {
	case v.going && v.orphan:
		return stepOrphan
	case v.going && v.foreground && v.blocking == 0:
		return stepRelease
	case v.going:
		return stepNone
	}
	for _, o := range v.owners {
		if s, sure := v.known(o); !sure || s != solid {
			return stepJudge
		}
	}
	return stepNone
}

// known is the state of an owner as far as the graph is sure of it.
func (v view) known(owner types.UID) (s ownerState, sure bool) {
	s, sure = v.states[owner]
	return s, sure
}

// owners are an object's, by what has become of them.
type owners struct{ solid, dangling, waiting []metav1.OwnerReference }

func (o *owners) add(ref metav1.OwnerReference, s ownerState) {
	switch s {
	case solid:
		o.solid = append(o.solid, ref)
	case dangling:
		o.dangling = append(o.dangling, ref)
	case waiting:
		o.waiting = append(o.waiting, ref)
	}
}

type action int

const (
	keep   action = iota
	unref         // leave it only the owners given
	remove        // delete it; first set the owners given, if any
)

type judgement struct {
	do     action
	owners []metav1.OwnerReference
	policy metav1.DeletionPropagation
}

// verdict: an object with an owner left loses its references to the others; one without is deleted, in the way its own
// finalizers ask for. Whose owner waits for it and that has dependents itself is deleted in the foreground, so that the wait
// covers them too; if one of those waits already, it is a circle, which is broken by blocking nobody.
func verdict(o owners, finalizers []string, v view) judgement {
	switch {
	case len(o.dangling)+len(o.waiting) == 0:
		return judgement{do: keep}
	case len(o.solid) > 0:
		return judgement{do: unref, owners: o.solid}
	case len(o.waiting) > 0 && len(v.dependents) > 0:
		j := judgement{do: remove, policy: metav1.DeletePropagationForeground}
		if v.circular {
			for _, ref := range slices.Concat(o.dangling, o.waiting) {
				ref.BlockOwnerDeletion = nil
				j.owners = append(j.owners, ref)
			}
		}
		return j
	case has(finalizers, metav1.FinalizerOrphanDependents):
		return judgement{do: remove, policy: metav1.DeletePropagationOrphan}
	case has(finalizers, metav1.FinalizerDeleteDependents):
		return judgement{do: remove, policy: metav1.DeletePropagationForeground}
	}
	return judgement{do: remove, policy: metav1.DeletePropagationBackground}
}
