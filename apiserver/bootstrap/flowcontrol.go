package bootstrap

import (
	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"pilothouse.dev/apiserver/authn"
	"pilothouse.dev/apiserver/authz"
)

// The mandatory and the suggested objects of https://kubernetes.io/docs/concepts/cluster-administration/flow-control/#defaults.

// flowMeta marks an object as one that may be brought up to date by the server.
func flowMeta(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Name: name, Annotations: map[string]string{flowcontrolv1.AutoUpdateAnnotationKey: "true"}}
}

func priorityLevels() []*flowcontrolv1.PriorityLevelConfiguration {
	level := func(name string, shares, lendable int32, response flowcontrolv1.LimitResponse) *flowcontrolv1.PriorityLevelConfiguration {
		return &flowcontrolv1.PriorityLevelConfiguration{
			ObjectMeta: flowMeta(name),
			Spec: flowcontrolv1.PriorityLevelConfigurationSpec{
				Type: flowcontrolv1.PriorityLevelEnablementLimited,
				Limited: &flowcontrolv1.LimitedPriorityLevelConfiguration{
					NominalConcurrencyShares: &shares, LendablePercent: &lendable, LimitResponse: response,
				},
			},
		}
	}
	queues := func(number, hand int32) flowcontrolv1.LimitResponse {
		return flowcontrolv1.LimitResponse{
			Type:    flowcontrolv1.LimitResponseTypeQueue,
			Queuing: &flowcontrolv1.QueuingConfiguration{Queues: number, HandSize: hand, QueueLengthLimit: 50},
		}
	}
	return []*flowcontrolv1.PriorityLevelConfiguration{
		{
			ObjectMeta: flowMeta(flowcontrolv1.PriorityLevelConfigurationNameExempt),
			Spec: flowcontrolv1.PriorityLevelConfigurationSpec{
				Type:   flowcontrolv1.PriorityLevelEnablementExempt,
				Exempt: &flowcontrolv1.ExemptPriorityLevelConfiguration{NominalConcurrencyShares: new(int32), LendablePercent: new(int32)},
			},
		},
		level(flowcontrolv1.PriorityLevelConfigurationNameCatchAll, 5, 0, flowcontrolv1.LimitResponse{Type: flowcontrolv1.LimitResponseTypeReject}),
		level("system", 30, 33, queues(64, 6)),
		level("node-high", 40, 25, queues(64, 6)),
		level("leader-election", 10, 0, queues(16, 4)),
		level("workload-high", 40, 50, queues(128, 6)),
		level("workload-low", 100, 90, queues(128, 6)),
		level("global-default", 20, 50, queues(128, 6)),
	}
}

const (
	byUser      = flowcontrolv1.FlowDistinguisherMethodByUserType
	byNamespace = flowcontrolv1.FlowDistinguisherMethodByNamespaceType
)

var (
	every = []string{"*"}
	lead  = []string{"get", "create", "update"}

	anyResource = flowcontrolv1.ResourcePolicyRule{Verbs: every, APIGroups: every, Resources: every, Namespaces: every, ClusterScope: true}
	anyPath     = flowcontrolv1.NonResourcePolicyRule{Verbs: every, NonResourceURLs: every}
	leases      = flowcontrolv1.ResourcePolicyRule{Verbs: lead, APIGroups: []string{"coordination.k8s.io"}, Resources: []string{"leases"}, Namespaces: every}
)

func flows() []*flowcontrolv1.FlowSchema {
	everybody := groups(authn.Unauthenticated, authn.Authenticated)
	all := func(s ...flowcontrolv1.Subject) flowcontrolv1.PolicyRulesWithSubjects {
		return flowcontrolv1.PolicyRulesWithSubjects{
			Subjects: s, ResourceRules: []flowcontrolv1.ResourcePolicyRule{anyResource}, NonResourceRules: []flowcontrolv1.NonResourcePolicyRule{anyPath},
		}
	}
	some := func(s []flowcontrolv1.Subject, r ...flowcontrolv1.ResourcePolicyRule) flowcontrolv1.PolicyRulesWithSubjects {
		return flowcontrolv1.PolicyRulesWithSubjects{Subjects: s, ResourceRules: r}
	}
	daemons := []flowcontrolv1.Subject{user("system:kube-controller-manager"), user("system:kube-scheduler")}
	systems := account(metav1.NamespaceSystem, "*")
	return []*flowcontrolv1.FlowSchema{
		flow(flowcontrolv1.FlowSchemaNameExempt, flowcontrolv1.PriorityLevelConfigurationNameExempt, 1, "", all(groups(authz.Masters)...)),
		flow("probes", flowcontrolv1.PriorityLevelConfigurationNameExempt, 2, "", flowcontrolv1.PolicyRulesWithSubjects{
			Subjects: everybody,
			NonResourceRules: []flowcontrolv1.NonResourcePolicyRule{
				{Verbs: []string{"get"}, NonResourceURLs: []string{"/healthz", "/readyz", "/livez"}},
			},
		}),
		flow("system-leader-election", "leader-election", 100, byUser, some([]flowcontrolv1.Subject{daemons[0], daemons[1], systems}, leases)),
		flow("system-node-high", "node-high", 400, byUser, some(groups("system:nodes"),
			flowcontrolv1.ResourcePolicyRule{Verbs: every, APIGroups: []string{""}, Resources: []string{"nodes", "nodes/status"}, Namespaces: every, ClusterScope: true},
			flowcontrolv1.ResourcePolicyRule{Verbs: every, APIGroups: []string{"coordination.k8s.io"}, Resources: []string{"leases"}, Namespaces: every})),
		flow("system-nodes", "system", 500, byUser, all(groups("system:nodes")...)),
		flow("kube-controller-manager", "workload-high", 800, byNamespace, all(daemons[0])),
		flow("kube-scheduler", "workload-high", 800, byNamespace, all(daemons[1])),
		flow("kube-system-service-accounts", "workload-high", 900, byNamespace, all(systems)),
		flow("service-accounts", "workload-low", 9000, byUser, all(groups("system:serviceaccounts")...)),
		flow("global-default", "global-default", 9900, byUser, all(everybody...)),
		flow(flowcontrolv1.FlowSchemaNameCatchAll, flowcontrolv1.PriorityLevelConfigurationNameCatchAll, flowcontrolv1.FlowSchemaMaxMatchingPrecedence, byUser, all(everybody...)),
	}
}

func flow(name, level string, precedence int32, by flowcontrolv1.FlowDistinguisherMethodType, rules flowcontrolv1.PolicyRulesWithSubjects) *flowcontrolv1.FlowSchema {
	f := &flowcontrolv1.FlowSchema{
		ObjectMeta: flowMeta(name),
		Spec: flowcontrolv1.FlowSchemaSpec{
			PriorityLevelConfiguration: flowcontrolv1.PriorityLevelConfigurationReference{Name: level},
			MatchingPrecedence:         precedence, Rules: []flowcontrolv1.PolicyRulesWithSubjects{rules},
		},
	}
	if by != "" {
		f.Spec.DistinguisherMethod = &flowcontrolv1.FlowDistinguisherMethod{Type: by}
	}
	return f
}

func groups(names ...string) []flowcontrolv1.Subject {
	var all []flowcontrolv1.Subject
	for _, n := range names {
		all = append(all, flowcontrolv1.Subject{Kind: flowcontrolv1.SubjectKindGroup, Group: &flowcontrolv1.GroupSubject{Name: n}})
	}
	return all
}

func user(name string) flowcontrolv1.Subject {
	return flowcontrolv1.Subject{Kind: flowcontrolv1.SubjectKindUser, User: &flowcontrolv1.UserSubject{Name: name}}
}

func account(namespace, name string) flowcontrolv1.Subject {
	return flowcontrolv1.Subject{
		Kind: flowcontrolv1.SubjectKindServiceAccount, ServiceAccount: &flowcontrolv1.ServiceAccountSubject{Namespace: namespace, Name: name},
	}
}
