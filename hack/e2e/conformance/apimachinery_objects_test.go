package conformance

import (
	admissionv1 "k8s.io/api/admissionregistration/v1"
	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
	migrationv1 "k8s.io/api/storagemigration/v1"
)

// AM-035
func flowSchemas(r *row) {
	r.operate(operations{
		gvr: flowcontrolv1.SchemeGroupVersion.WithResource("flowschemas"), kind: "FlowSchema",
		manifest: `
spec:
  matchingPrecedence: 10000
  priorityLevelConfiguration: {name: global-default}
  distinguisherMethod: {type: ByUser}
  rules:
  - subjects:
    - kind: User
      user: {name: example-e2e-non-existent-user}
    nonResourceRules:
    - {verbs: ["*"], nonResourceURLs: ["/conformance-nothing"]}`,
		edit: `{spec: {matchingPrecedence: 9999}}`,
		status: `{status: {conditions: [{type: PatchStatusFailed, status: "False", reason: PatchedByTest, message: "we patched it",
  lastTransitionTime: "2026-01-01T00:00:00Z"}]}}`,
		update: `{status: {conditions: [{type: UpdateStatusFailed, status: "False", reason: UpdatedByTest, message: "we updated it",
  lastTransitionTime: "2026-01-02T00:00:00Z"}]}}`,
	})
}

// AM-036
func priorityLevels(r *row) {
	r.operate(operations{
		gvr: flowcontrolv1.SchemeGroupVersion.WithResource("prioritylevelconfigurations"), kind: "PriorityLevelConfiguration",
		manifest: `
spec:
  type: Limited
  limited:
    nominalConcurrencyShares: 2
    limitResponse: {type: Reject}`,
		edit: `{spec: {limited: {nominalConcurrencyShares: 4}}}`,
		status: `{status: {conditions: [{type: PatchStatusFailed, status: "False", reason: PatchedByTest, message: "we patched it",
  lastTransitionTime: "2026-01-01T00:00:00Z"}]}}`,
		update: `{status: {conditions: [{type: UpdateStatusFailed, status: "False", reason: UpdatedByTest, message: "we updated it",
  lastTransitionTime: "2026-01-02T00:00:00Z"}]}}`,
	})
}

// AM-046: policies as objects; without a binding they do nothing.
func mutatingPolicies(r *row) {
	r.operate(operations{
		gvr: admissionv1.SchemeGroupVersion.WithResource("mutatingadmissionpolicies"), kind: "MutatingAdmissionPolicy",
		manifest: `
spec:
  matchConstraints:
    resourceRules:
    - {apiGroups: [apps], apiVersions: [v1], operations: [CREATE, UPDATE], resources: [deployments]}
  reinvocationPolicy: Never
  failurePolicy: Fail
  mutations:
  - patchType: JSONPatch
    jsonPatch:
      expression: '[JSONPatch{op: "replace", path: "/spec/replicas", value: object.spec.replicas * 2}]'`,
		edit: `{spec: {reinvocationPolicy: IfNeeded}}`,
	})
}

// AM-047
func mutatingPolicyBindings(r *row) {
	r.operate(operations{
		gvr: admissionv1.SchemeGroupVersion.WithResource("mutatingadmissionpolicybindings"), kind: "MutatingAdmissionPolicyBinding",
		manifest: `
spec:
  policyName: replicalimit-policy.example.com
  matchResources:
    namespaceSelector:
      matchLabels: {conformance.example.com/nobody: has-this}`,
		edit: `{spec: {matchResources: {namespaceSelector: {matchLabels: {conformance.example.com/nobody: nor-that}}}}}`,
	})
}

// AM-071
func validatingPolicies(r *row) {
	r.operate(operations{
		gvr: admissionv1.SchemeGroupVersion.WithResource("validatingadmissionpolicies"), kind: "ValidatingAdmissionPolicy",
		manifest: `
spec:
  matchConstraints:
    resourceRules:
    - {apiGroups: [apps], apiVersions: [v1], operations: [CREATE, UPDATE], resources: [deployments]}
  failurePolicy: Fail
  validations:
  - {expression: "object.spec.replicas <= 100", message: too many}`,
		edit: `{spec: {validations: [{expression: "object.spec.replicas <= 50", message: far too many}]}}`,
		status: `{status: {conditions: [{type: Patched, status: "True", reason: PatchedByTest, message: "we patched it",
  lastTransitionTime: "2026-01-01T00:00:00Z"}]}}`,
		update: `{status: {conditions: [{type: Updated, status: "True", reason: UpdatedByTest, message: "we updated it",
  lastTransitionTime: "2026-01-02T00:00:00Z"}]}}`,
		silent: true,
	})
}

// AM-072
func validatingPolicyBindings(r *row) {
	r.operate(operations{
		gvr: admissionv1.SchemeGroupVersion.WithResource("validatingadmissionpolicybindings"), kind: "ValidatingAdmissionPolicyBinding",
		manifest: `
spec:
  policyName: replicalimit-policy.example.com
  validationActions: [Deny]
  matchResources:
    namespaceSelector:
      matchLabels: {conformance.example.com/nobody: has-this}`,
		edit: `{spec: {validationActions: [Warn, Audit]}}`,
	})
}

// AM-068: the kind of resource to migrate does not exist, so nobody starts to.
func storageVersionMigrations(r *row) {
	c := crud{row: r, operations: operations{
		gvr: migrationv1.SchemeGroupVersion.WithResource("storageversionmigrations"), kind: "StorageVersionMigration",
		manifest: `{spec: {resource: {group: "", resource: foo}}}`,
		edit:     `{metadata: {labels: {test.storagemigration.example.com: test}}}`, // the spec never changes
		status: `{status: {conditions: [{type: TestCondition, status: "True", reason: TestReason, message: TestMessage,
  lastTransitionTime: "2026-01-01T00:00:00Z"}]}}`,
	}}
	c.jsonEdit = `[{"op": "add", "path": "/metadata/labels/test.storagemigration.example.com", "value": "test"}]`
	c.jsonStatus = `[{"op": "add", "path": "/status/conditions", "value": [{"type": "TestCondition", "status": "True", "reason": "TestReason",
  "message": "TestMessage", "lastTransitionTime": "2026-01-01T00:00:00Z"}]}]`
	c.run()
}
