package flowcontrol

import (
	flowcontrolv1 "k8s.io/api/flowcontrol/v1"

	"pilothouse.dev/apiserver/registry"
)

// FlowSchemas sort requests into flows and flows into priority levels.
var FlowSchemas = registry.Define(registry.Kind[*flowcontrolv1.FlowSchema]{
	Group: group, Version: version, Kind: "FlowSchema", Plural: "flowschemas",
	Status: true, Generation: true,
	Default: func(f *flowcontrolv1.FlowSchema) {
		if f.Spec.MatchingPrecedence == 0 {
			f.Spec.MatchingPrecedence = 1000
		}
	},
	BeforeCreate:   func(f *flowcontrolv1.FlowSchema) { f.Status = flowcontrolv1.FlowSchemaStatus{} },
	Validate:       validateFlow,
	ValidateStatus: validateFlowStatus,
	Columns: []registry.Column[*flowcontrolv1.FlowSchema]{
		{Name: "PriorityLevel", Description: "Where its requests go.", Value: func(f *flowcontrolv1.FlowSchema) any { return f.Spec.PriorityLevelConfiguration.Name }},
		{Name: "MatchingPrecedence", Description: "The lower, the sooner it is tried.", Value: func(f *flowcontrolv1.FlowSchema) any { return int64(f.Spec.MatchingPrecedence) }},
		{Name: "DistinguisherMethod", Description: "What tells flows apart.", Value: func(f *flowcontrolv1.FlowSchema) any {
			if f.Spec.DistinguisherMethod == nil {
				return none
			}
			return string(f.Spec.DistinguisherMethod.Type)
		}},
		registry.Age[*flowcontrolv1.FlowSchema](),
		{Name: "MissingPL", Description: "Whether its priority level does not exist.", Value: func(f *flowcontrolv1.FlowSchema) any {
			for _, c := range f.Status.Conditions {
				if c.Type == flowcontrolv1.FlowSchemaConditionDangling {
					return string(c.Status)
				}
			}
			return "?"
		}},
	},
})

// fixedFlow is the spec of a schema that every cluster has and nobody may change, nil for others.
func fixedFlow(name string) *flowcontrolv1.FlowSchemaSpec {
	everything := func(groups ...string) []flowcontrolv1.PolicyRulesWithSubjects {
		any := []string{all}
		rule := flowcontrolv1.PolicyRulesWithSubjects{
			ResourceRules:    []flowcontrolv1.ResourcePolicyRule{{Verbs: any, APIGroups: any, Resources: any, ClusterScope: true, Namespaces: any}},
			NonResourceRules: []flowcontrolv1.NonResourcePolicyRule{{Verbs: any, NonResourceURLs: any}},
		}
		for _, g := range groups {
			rule.Subjects = append(rule.Subjects, flowcontrolv1.Subject{Kind: flowcontrolv1.SubjectKindGroup, Group: &flowcontrolv1.GroupSubject{Name: g}})
		}
		return []flowcontrolv1.PolicyRulesWithSubjects{rule}
	}
	switch name {
	case flowcontrolv1.FlowSchemaNameExempt:
		return &flowcontrolv1.FlowSchemaSpec{
			PriorityLevelConfiguration: flowcontrolv1.PriorityLevelConfigurationReference{Name: flowcontrolv1.PriorityLevelConfigurationNameExempt},
			MatchingPrecedence:         1,
			Rules:                      everything("system:masters"),
		}
	case flowcontrolv1.FlowSchemaNameCatchAll:
		return &flowcontrolv1.FlowSchemaSpec{
			PriorityLevelConfiguration: flowcontrolv1.PriorityLevelConfigurationReference{Name: flowcontrolv1.PriorityLevelConfigurationNameCatchAll},
			MatchingPrecedence:         flowcontrolv1.FlowSchemaMaxMatchingPrecedence,
			DistinguisherMethod:        &flowcontrolv1.FlowDistinguisherMethod{Type: flowcontrolv1.FlowDistinguisherMethodByUserType},
			Rules:                      everything("system:unauthenticated", "system:authenticated"),
		}
	}
	return nil
}
