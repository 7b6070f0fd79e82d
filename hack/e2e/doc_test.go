// Package e2e proves the system from outside: genuine kubectl and curl against real clusters, a script a behaviour.
//
// The scripts are in testdata, in testscript's form: commands with what they must answer, which a reader can give by hand with
// KUBECONFIG set. kubectl/ has a file a verb, workload/ what applications see, fault/ what happens when parts fail, cluster/ what
// bin/cluster promises. TestKinds is no script: it goes through kubectl's commands with the manifests in kinds/, one of every kind.
// Each script has a namespace of its own, $NS, and kubectl's context is set to it.
//
//	go test ./e2e -cluster=namespaces                      a local cluster of three nodes, made for the tests and taken down after
//	go test ./e2e -cluster=namespaces -name=local          the one of that name, which stays; it is made if there is none
//	go test ./e2e -kubeconfig=FILE -run 'Kubectl|Workload'  any cluster
//	go test ./e2e -cluster=namespaces -run Kubectl/apply    one script
//
// Beside testscript's own commands there are these:
//
//	kubectl ARG…                  bin/kubectl
//	cluster ARG…                  bin/cluster for the cluster under test
//	eventually SECONDS REGEXP COMMAND…  repeat a command until its output matches
//	load NAME URL                 call URL all the time, a new connection each
//	load-end NAME [MIN]           end that; fails if any call failed or there were fewer than MIN
//	demand VAR COMMAND…           run a command and keep its trimmed output in a variable
package e2e
