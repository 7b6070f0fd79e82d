package etcd

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"pilothouse.dev/apiserver/storage/storagetest"
	"pilothouse.dev/pkg/logging"
	"pilothouse.dev/pkg/testcluster"
)

var shared *testcluster.Etcd // set once by TestMain

func TestMain(m *testing.M) {
	os.Exit(testcluster.MainEtcd(m, func(e *testcluster.Etcd) { shared = e }))
}

// open is a database of its own for t, under a prefix of the shared server.
func open(t testing.TB, e *testcluster.Etcd) *DB {
	db, err := Open(Config{
		Endpoints: []string{e.Endpoint},
		Prefix:    fmt.Sprintf("/%s-%d", strings.NewReplacer("/", "-", " ", "_").Replace(t.Name()), time.Now().UnixNano()), // also with -count
		Bookmarks: 100 * time.Millisecond,
	}, logging.ForTest(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

func TestContract(t *testing.T) {
	storagetest.Test(t, func(t *testing.T) storagetest.Subject {
		db := open(t, shared)
		return storagetest.Subject{Backend: db, Compact: db.Compact}
	})
}
