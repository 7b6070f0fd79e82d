// Package conformance does what the rows of the Kubernetes conformance list demand, a test a row, by clients from outside.
//
// rows.tsv is the list: the row's id, its area, its name, and what it needs (api: the API server alone; ctrl: controllers; kubectl;
// pods: containers; net: a network between them). rows_test.go says which function proves which row; the functions are in a file
// an area. Rows whose steps are the same, operations on one kind after another, share the two engines operations_test.go and
// crud_test.go.
//
// All rows share one cluster. A row makes what it needs in namespaces and under names of its own, so rows run side by side, and any
// one of them alone:
//
//	go test ./e2e/conformance -cluster=namespaces                             a local cluster, made for the tests and taken down after
//	go test ./e2e/conformance -kubeconfig=FILE -run 'TestConformance/AM-006'   one row, any cluster
//	go test ./e2e/conformance -cluster=namespaces -all                         fail also when a row of the list has no test
//
// At the end it prints how many rows of each area passed, of all rows in the list: one without a test, or whose test was not run or
// skipped, does not count.
package conformance
