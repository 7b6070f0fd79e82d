// Command etcd is the store of a local cluster: the genuine etcd server, built
// from its published module so that a bare machine needs no download of a binary.
package main

import (
	"os"

	"go.etcd.io/etcd/server/v3/etcdmain"
)

func main() {
	etcdmain.Main(os.Args)
}
