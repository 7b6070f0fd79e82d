// Command kubectl is the genuine client, built from its published module, so
// that tests and demos on a bare machine drive the cluster with the very program
// its users will have.
package main

import (
	"k8s.io/component-base/cli"
	"k8s.io/kubectl/pkg/cmd"
	"k8s.io/kubectl/pkg/cmd/util"
)

func main() {
	// CheckErr tells kubectl's own errors and carries a remote command's exit code.
	util.CheckErr(cli.RunNoErrOutput(cmd.NewDefaultKubectlCommand()))
}
