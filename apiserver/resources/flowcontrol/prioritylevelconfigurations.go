package flowcontrol

import (
	"fmt"
	"math"

	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"pilothouse.dev/apiserver/registry"
)

// PriorityLevelConfigurations share the server's capacity out and say what becomes of requests over it.
var PriorityLevelConfigurations = registry.Define(registry.Kind[*flowcontrolv1.PriorityLevelConfiguration]{
	Group: group, Version: version, Kind: "PriorityLevelConfiguration", Plural: "prioritylevelconfigurations",
	Status: true, Generation: true,
	Default: defaultLevel,
	BeforeCreate: func(l *flowcontrolv1.PriorityLevelConfiguration) {
		l.Status = flowcontrolv1.PriorityLevelConfigurationStatus{}
	},
	Validate: validateLevel,
	ValidateStatus: func(l, _ *flowcontrolv1.PriorityLevelConfiguration) field.ErrorList {
		var types []string
		for _, c := range l.Status.Conditions {
			types = append(types, string(c.Type))
		}
		return validateConditions(types)
	},
	Columns: []registry.Column[*flowcontrolv1.PriorityLevelConfiguration]{
		{Name: "Type", Description: "Whether it has limits.", Value: func(l *flowcontrolv1.PriorityLevelConfiguration) any { return string(l.Spec.Type) }},
		{Name: "NominalConcurrencyShares", Description: "Its share of the server's capacity.", Value: func(l *flowcontrolv1.PriorityLevelConfiguration) any {
			if l.Spec.Limited == nil || l.Spec.Limited.NominalConcurrencyShares == nil {
				return none
			}
			return int64(*l.Spec.Limited.NominalConcurrencyShares)
		}},
		queuing("Queues", "How many queues it has.", func(q *flowcontrolv1.QueuingConfiguration) int32 { return q.Queues }),
		queuing("HandSize", "How many queues a flow may use.", func(q *flowcontrolv1.QueuingConfiguration) int32 { return q.HandSize }),
		queuing("QueueLengthLimit", "How many requests wait in a queue.", func(q *flowcontrolv1.QueuingConfiguration) int32 { return q.QueueLengthLimit }),
		registry.Age[*flowcontrolv1.PriorityLevelConfiguration](),
	},
})

func queuing(name, about string, of func(*flowcontrolv1.QueuingConfiguration) int32) registry.Column[*flowcontrolv1.PriorityLevelConfiguration] {
	return registry.Column[*flowcontrolv1.PriorityLevelConfiguration]{Name: name, Description: about, Value: func(l *flowcontrolv1.PriorityLevelConfiguration) any {
		if l.Spec.Limited == nil || l.Spec.Limited.LimitResponse.Queuing == nil {
			return none
		}
		return int64(of(l.Spec.Limited.LimitResponse.Queuing))
	}}
}

func defaultLevel(l *flowcontrolv1.PriorityLevelConfiguration) {
	zero := func(n **int32) {
		if *n == nil {
			*n = ptr.To[int32](0)
		}
	}
	if e := l.Spec.Exempt; e != nil {
		zero(&e.NominalConcurrencyShares)
		zero(&e.LendablePercent)
	}
	limited := l.Spec.Limited
	if limited == nil {
		return
	}
	if limited.NominalConcurrencyShares == nil {
		limited.NominalConcurrencyShares = ptr.To[int32](30)
	}
	zero(&limited.LendablePercent)
	if q := limited.LimitResponse.Queuing; q != nil {
		for n, otherwise := range map[*int32]int32{&q.Queues: 64, &q.HandSize: 8, &q.QueueLengthLimit: 50} {
			if *n == 0 {
				*n = otherwise
			}
		}
	}
}

// fixedLevel is the spec of a level that every cluster has and nobody may change, nil for others. Of exempt the field exempt is
// free.
func fixedLevel(name string) *flowcontrolv1.PriorityLevelConfigurationSpec {
	switch name {
	case flowcontrolv1.PriorityLevelConfigurationNameExempt:
		return &flowcontrolv1.PriorityLevelConfigurationSpec{Type: flowcontrolv1.PriorityLevelEnablementExempt}
	case flowcontrolv1.PriorityLevelConfigurationNameCatchAll:
		return &flowcontrolv1.PriorityLevelConfigurationSpec{
			Type: flowcontrolv1.PriorityLevelEnablementLimited,
			Limited: &flowcontrolv1.LimitedPriorityLevelConfiguration{
				NominalConcurrencyShares: ptr.To[int32](5), LendablePercent: ptr.To[int32](0),
				LimitResponse: flowcontrolv1.LimitResponse{Type: flowcontrolv1.LimitResponseTypeReject},
			},
		}
	}
	return nil
}

var (
	enablements = sets.New(flowcontrolv1.PriorityLevelEnablementExempt, flowcontrolv1.PriorityLevelEnablementLimited)
	responses   = sets.New(flowcontrolv1.LimitResponseTypeQueue, flowcontrolv1.LimitResponseTypeReject)
)

func validateLevel(l *flowcontrolv1.PriorityLevelConfiguration) field.ErrorList {
	var errs field.ErrorList
	spec, s := field.NewPath("spec"), &l.Spec
	if (l.Name == flowcontrolv1.PriorityLevelConfigurationNameExempt) != (s.Type == flowcontrolv1.PriorityLevelEnablementExempt) {
		errs = append(errs, field.Invalid(spec.Child("type"), s.Type, "type must be 'Exempt' if and only if name is 'exempt'"))
	}
	switch s.Type {
	case flowcontrolv1.PriorityLevelEnablementExempt:
		if s.Limited != nil {
			errs = append(errs, field.Forbidden(spec.Child("limited"), "must be nil if the type is not Limited"))
		}
		if s.Exempt != nil {
			errs = append(errs, validateShares(s.Exempt.NominalConcurrencyShares, s.Exempt.LendablePercent, spec.Child("exempt"))...)
		}
	case flowcontrolv1.PriorityLevelEnablementLimited:
		if s.Exempt != nil {
			errs = append(errs, field.Forbidden(spec.Child("exempt"), "must be nil if the type is Limited"))
		}
		if s.Limited == nil {
			errs = append(errs, field.Required(spec.Child("limited"), "must not be empty when type is Limited"))
		} else {
			errs = append(errs, validateLimited(s.Limited, spec.Child("limited"))...)
		}
	default:
		errs = append(errs, field.NotSupported(spec.Child("type"), s.Type, sets.List(enablements)))
	}
	if fixed := fixedLevel(l.Name); fixed != nil {
		detail := fmt.Sprintf("spec of '%s' must equal the fixed value", l.Name)
		if s.Type == flowcontrolv1.PriorityLevelEnablementExempt {
			fixed.Exempt = s.Exempt
			detail = fmt.Sprintf("spec of '%s' except the 'spec.exempt' field must equal the fixed value", l.Name)
		}
		if !apiequality.Semantic.DeepEqual(*s, *fixed) {
			errs = append(errs, field.Invalid(spec, *s, detail))
		}
	}
	return errs
}

func validateShares(shares, lendable *int32, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if shares != nil && *shares < 0 {
		errs = append(errs, field.Invalid(at.Child("nominalConcurrencyShares"), *shares, "must be a non-negative integer"))
	}
	if lendable != nil && (*lendable < 0 || *lendable > 100) {
		errs = append(errs, field.Invalid(at.Child("lendablePercent"), *lendable, "must be between 0 and 100, inclusive"))
	}
	return errs
}

func validateLimited(l *flowcontrolv1.LimitedPriorityLevelConfiguration, at *field.Path) field.ErrorList {
	errs := validateShares(l.NominalConcurrencyShares, l.LendablePercent, at)
	if n := l.BorrowingLimitPercent; n != nil && *n < 0 {
		errs = append(errs, field.Invalid(at.Child("borrowingLimitPercent"), *n, "if specified, must be a non-negative integer"))
	}
	at = at.Child("limitResponse")
	switch r := l.LimitResponse; r.Type {
	case flowcontrolv1.LimitResponseTypeReject:
		if r.Queuing != nil {
			errs = append(errs, field.Forbidden(at.Child("queuing"), "must be nil if limited.limitResponse.type is not Limited"))
		}
	case flowcontrolv1.LimitResponseTypeQueue:
		if r.Queuing == nil {
			errs = append(errs, field.Required(at.Child("queuing"), "must not be empty if limited.limitResponse.type is Limited"))
		} else {
			errs = append(errs, validateQueuing(r.Queuing, at.Child("queuing"))...)
		}
	default:
		errs = append(errs, field.NotSupported(at.Child("type"), r.Type, sets.List(responses)))
	}
	return errs
}

const (
	mostQueues  = 10_000_000
	mostEntropy = 60 // bits of a flow's hash that may be used to deal its hand
)

func validateQueuing(q *flowcontrolv1.QueuingConfiguration, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if q.QueueLengthLimit <= 0 {
		errs = append(errs, field.Invalid(at.Child("queueLengthLimit"), q.QueueLengthLimit, "must be positive"))
	}
	if q.Queues <= 0 {
		errs = append(errs, field.Invalid(at.Child("queues"), q.Queues, "must be positive"))
	} else if q.Queues > mostQueues {
		errs = append(errs, field.Invalid(at.Child("queues"), q.Queues, fmt.Sprintf("must not be greater than %d", mostQueues)))
	}
	hand := at.Child("handSize")
	switch {
	case q.HandSize <= 0:
		errs = append(errs, field.Invalid(hand, q.HandSize, "must be positive"))
	case q.HandSize > q.Queues:
		errs = append(errs, field.Invalid(hand, q.HandSize, fmt.Sprintf("should not be greater than queues (%d)", q.Queues)))
	case math.Ceil(math.Log2(float64(q.Queues))*float64(q.HandSize)) > mostEntropy:
		errs = append(errs, field.Invalid(hand, q.HandSize,
			fmt.Sprintf("required entropy bits of deckSize %d and handSize %d should not be greater than %d", q.Queues, q.HandSize, mostEntropy)))
	}
	return errs
}
