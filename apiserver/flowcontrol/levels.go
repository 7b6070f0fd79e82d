package flowcontrol

import (
	"math"

	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
)

// Level is a PriorityLevelConfiguration, compiled: nothing of it is changed after CompileLevel.
type Level struct {
	Name string
	UID  string

	exempt   bool
	shares   int
	lendable int // percent
	borrows  int // percent; negative: as much as there is
	queues   int // 0: what finds no seat is refused
	hand     int
	length   int
	header   []string // UID as a header's value
}

// CompileLevel makes a Level. It keeps nothing of p.
func CompileLevel(p *flowcontrolv1.PriorityLevelConfiguration) *Level {
	l := &Level{Name: p.Name, UID: string(p.UID), header: []string{string(p.UID)}, borrows: -1}
	number := func(n *int32, otherwise int) int {
		if n == nil {
			return otherwise
		}
		return int(*n)
	}
	if p.Spec.Type == flowcontrolv1.PriorityLevelEnablementExempt {
		l.exempt = true
		if e := p.Spec.Exempt; e != nil {
			l.shares, l.lendable = number(e.NominalConcurrencyShares, 0), number(e.LendablePercent, 0)
		}
		return l
	}
	s := p.Spec.Limited
	if s == nil { // validation lets none pass
		return l
	}
	l.shares, l.lendable, l.borrows = number(s.NominalConcurrencyShares, 30), number(s.LendablePercent, 0), number(s.BorrowingLimitPercent, -1)
	if q := s.LimitResponse.Queuing; s.LimitResponse.Type == flowcontrolv1.LimitResponseTypeQueue && q != nil {
		l.queues, l.hand, l.length = int(q.Queues), min(int(q.HandSize), mostHand), int(q.QueueLengthLimit)
	}
	return l
}

// Levels are all priority levels.
type Levels struct{ ByName map[string]*Level }

// Gather makes Levels.
func Gather(all []*Level) *Levels {
	l := &Levels{make(map[string]*Level, len(all))}
	for _, one := range all {
		l.ByName[one.Name] = one
	}
	return l
}

// bounds are a level's limits in seats (https://kubernetes.io/docs/concepts/cluster-administration/flow-control/#prioritylevelconfiguration).
type bounds struct{ nominal, lower, upper int }

// share divides the server's seats among levels by their shares. What is rounded is rounded up: a level with a share has a seat.
func share(seats int, levels map[string]*Level) map[string]bounds {
	sum := 0
	for _, l := range levels {
		sum += l.shares
	}
	out := make(map[string]bounds, len(levels))
	for name, l := range levels {
		var b bounds
		if sum > 0 {
			b.nominal = int(math.Ceil(float64(seats) * float64(l.shares) / float64(sum)))
		}
		percent := func(n int) int { return int(math.Round(float64(b.nominal) * float64(n) / 100)) }
		b.lower = b.nominal - percent(l.lendable)
		b.upper = b.nominal + seats
		if l.borrows >= 0 {
			b.upper = b.nominal + percent(l.borrows)
		}
		out[name] = b
	}
	return out
}

// The mandatory objects, as they are meant to be, for the time before the first are read and for when somebody deletes them
// (https://kubernetes.io/docs/concepts/cluster-administration/flow-control/#mandatory-configuration-objects).
var (
	mandatoryLevels = []*Level{
		{Name: flowcontrolv1.PriorityLevelConfigurationNameExempt, exempt: true, borrows: -1, header: []string{""}},
		{Name: flowcontrolv1.PriorityLevelConfigurationNameCatchAll, shares: 5, borrows: -1, header: []string{""}},
	}
	mandatorySchemas = []*Schema{
		{
			Name: flowcontrolv1.FlowSchemaNameExempt, Level: flowcontrolv1.PriorityLevelConfigurationNameExempt, precedence: 1,
			rules: []rule{everythingOf("system:masters")}, header: []string{""},
		},
		{
			Name: flowcontrolv1.FlowSchemaNameCatchAll, Level: flowcontrolv1.PriorityLevelConfigurationNameCatchAll,
			precedence: flowcontrolv1.FlowSchemaMaxMatchingPrecedence, by: flowcontrolv1.FlowDistinguisherMethodByUserType,
			rules: []rule{everythingOf("system:unauthenticated", "system:authenticated")}, header: []string{""},
		},
	}
)

func everythingOf(groups ...string) rule {
	all := words{all: true}
	return rule{
		groups:    words{some: groups},
		resources: []resources{{all, all, all, all, true}},
		paths:     []paths{{verbs: all, whole: all}},
	}
}
