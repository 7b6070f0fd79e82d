package lookup

import (
	"context"
	"net/netip"
	"os"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"pilothouse.dev/apiserver/codec"
	"pilothouse.dev/apiserver/registry"
	"pilothouse.dev/apiserver/storage"
	"pilothouse.dev/apiserver/storage/etcd"
	"pilothouse.dev/apiserver/storage/watchcache"
	"pilothouse.dev/pkg/logging"
	"pilothouse.dev/pkg/testcluster"
)

var shared *testcluster.Etcd // set once by TestMain

func TestMain(m *testing.M) {
	os.Exit(testcluster.MainEtcd(m, func(e *testcluster.Etcd) { shared = e }))
}

// database is a real etcd's, with nothing in it.
func database(t *testing.T) *etcd.DB {
	t.Helper()
	db, err := etcd.Open(etcd.Config{Endpoints: []string{shared.Endpoint}, Prefix: "/" + t.Name()}, logging.ForTest(t))
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

// cached is a registry over the watch caches of a database; run starts them, until the test's end.
func cached(t *testing.T, kinds ...*registry.Resource) (reg *registry.Registry, caches *watchcache.Caches, run func()) {
	t.Helper()
	caches = watchcache.New(database(t), logging.ForTest(t))
	return registry.New(caches, kinds), caches, func() {
		ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
		ended := make(chan error, 1)
		go func() { ended <- caches.Run(ctx) }()
		t.Cleanup(func() {
			cancel()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		})
	}
}

// cluster is a registry over a real etcd, with the objects given.
func cluster(t *testing.T, objects map[string][]codec.Object) *Lookup {
	t.Helper()
	db := database(t)
	reg := registry.New(db, []*registry.Resource{
		registry.Define(registry.Kind[*corev1.Namespace]{Version: "v1", Kind: "Namespace", Plural: "namespaces"}),
		registry.Define(registry.Kind[*corev1.Service]{Version: "v1", Kind: "Service", Plural: "services", Namespaced: true}),
		registry.Define(registry.Kind[*corev1.ServiceAccount]{Version: "v1", Kind: "ServiceAccount", Plural: "serviceaccounts", Namespaced: true}),
	})
	for plural, all := range objects {
		for _, o := range all {
			value, err := codec.Marshal(o)
			if err != nil {
				t.Fatal(err)
			}
			key := storage.Key{Namespace: o.GetNamespace(), Name: o.GetName()}
			if _, err := reg.Find(core(plural)).Store.Create(t.Context(), key, value, 0); err != nil {
				t.Fatal(err)
			}
		}
	}
	return New(reg)
}

func TestGet(t *testing.T) {
	l := cluster(t, map[string][]codec.Object{
		"namespaces":      {&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "a"}, Status: corev1.NamespaceStatus{Phase: "Active"}}},
		"serviceaccounts": {&corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "default"}}},
	})
	ns, err := l.Namespace(t.Context(), "a")
	if err != nil || ns.Status.Phase != corev1.NamespaceActive || ns.ResourceVersion == "" {
		t.Errorf("namespace %+v (%v)", ns, err)
	}
	if _, err := l.ServiceAccount(t.Context(), "a", "default"); err != nil {
		t.Error(err)
	}
	_, err = l.ServiceAccount(t.Context(), "b", "default")
	if !apierrors.IsNotFound(err) || err.Error() != `serviceaccounts "default" not found` {
		t.Errorf("got %v", err)
	}
	if _, err := l.Node(t.Context(), "n"); !apierrors.IsNotFound(err) { // a kind that is not served
		t.Errorf("got %v", err)
	}
}

func TestServiceAddresses(t *testing.T) {
	service := func(name string, spec corev1.ServiceSpec) *corev1.Service {
		return &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: name}, Spec: spec}
	}
	l := cluster(t, map[string][]codec.Object{"services": {
		service("dual", corev1.ServiceSpec{ClusterIP: "10.96.0.1", ClusterIPs: []string{"10.96.0.1", "fd00::1"}}),
		service("headless", corev1.ServiceSpec{ClusterIP: "None", ClusterIPs: []string{"None"}}),
		service("ports", corev1.ServiceSpec{ClusterIP: "10.96.0.2", HealthCheckNodePort: 30002, Ports: []corev1.ServicePort{{Port: 1, NodePort: 30001}, {Port: 2}}}),
	}})
	uses, err := NewAddresses(l).ServiceAddresses(t.Context())
	if err != nil || len(uses) != 3 {
		t.Fatalf("uses %v (%v)", uses, err)
	}
	for i, want := range []struct {
		ips   []string
		ports []int
	}{{[]string{"10.96.0.1", "fd00::1"}, nil}, {nil, nil}, {[]string{"10.96.0.2"}, []int{30001, 30002}}} {
		var ips []netip.Addr
		for _, s := range want.ips {
			ips = append(ips, netip.MustParseAddr(s))
		}
		if u := uses[i]; !slices.Equal(u.IPs, ips) || !slices.Equal(u.Ports, want.ports) {
			t.Errorf("%s uses %v and %v, want %v and %v", u.Name, u.IPs, u.Ports, ips, want.ports)
		}
	}
}
