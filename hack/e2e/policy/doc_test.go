// Package policy proves NetworkPolicy from outside: nine pods, three in each of three namespaces and on as many nodes as there are, answer
// on three ports each, and after each change of policies every pod says which ports of which pods it reaches. What it should reach is said,
// case by case, by a rule that is written beside the policies and knows nothing of them.
//
//	go test ./e2e/policy -cluster=namespaces                                 a local cluster, made for the tests and taken down after
//	go test ./e2e/policy -kubeconfig=FILE -run 'TestPolicies/a_port_by_name'  one case, any cluster that has the image testapp
//
// The cases are in cases_*_test.go, changes under way in changes_test.go. A case that fails prints the matrix.
package policy
