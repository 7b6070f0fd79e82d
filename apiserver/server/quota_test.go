package server_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pilothouse.dev/pkg/testcluster"
)

// TestQuotas drives the admission of quotas over two servers of one etcd, whose caches lag behind each other's writes. Nobody
// reckons what is used here: the tests do, and so see what is left over.
func TestQuotas(t *testing.T) {
	c := testcluster.Start(t)
	servers := make([]*api, 2)
	for i, c := range []*testcluster.Cluster{c, c.Another()} {
		servers[i] = &api{c, &http.Client{Transport: &http.Transport{TLSClientConfig: c.TLS(), ForceAttemptHTTP2: true}}}
		t.Cleanup(servers[i].http.CloseIdleConnections)
	}
	for _, test := range []struct {
		name string
		run  func(*testing.T, []*api)
	}{
		{"fifty at once", testQuotaFifty}, {"names that are taken", testQuotaConflicts}, {"freed between", testQuotaFreed}, {"words", testQuotaWords},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, servers) })
	}
}

// quotaIn makes a quota in a namespace of its own, with nothing used, and waits until both servers know it.
func quotaIn(t *testing.T, on []*api, hard string) (base string) {
	t.Helper()
	base = "/api/v1/namespaces/" + on[0].namespace(t)
	on[0].must(t, 201, "POST", base+"/resourcequotas", fmt.Sprintf(`{"metadata":{"name":"q"},"spec":{"hard":%s}}`, hard))
	used := strings.NewReplacer(`"10"`, `"0"`, `"1"`, `"0"`).Replace(hard)
	on[0].must(t, 200, "PATCH", base+"/resourcequotas/q/status", fmt.Sprintf(`{"status":{"hard":%s,"used":%s}}`, hard, used), "Content-Type", "application/merge-patch+json")
	for _, a := range on {
		deadline := time.Now().Add(30 * time.Second)
		for { // what a server's own cache holds may be older than both writes: not there, or without a status
			r, err := a.try(t.Context(), "GET", base+"/resourcequotas/q?resourceVersion=0", "")
			if err != nil {
				t.Fatal(err)
			}
			var quota map[string]any
			if err := json.Unmarshal([]byte(r.body), &quota); err != nil {
				t.Fatal(err)
			}
			if r.code == 200 && at(quota, "status.hard") != nil {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("a server does not see the quota: %d %s", r.code, r.body)
			}
			time.Sleep(5 * time.Millisecond)
		}
	}
	return base
}

func usedOf(t *testing.T, a *api, base, name string) string {
	t.Helper()
	used, _ := at(a.must(t, 200, "GET", base+"/resourcequotas/q", ""), "status.used").(map[string]any)
	return fmt.Sprint(used[name])
}

func items(t *testing.T, a *api, path string) int {
	t.Helper()
	list, _ := a.must(t, 200, "GET", path, "")["items"].([]any)
	return len(list)
}

// together asks for n config maps at once, in turns of the servers, and tells how many answers had each code.
func together(t *testing.T, on []*api, n int, base string, name func(i int) string) map[int]int {
	t.Helper()
	codes := make([]int, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			r, err := on[i%len(on)].try(t.Context(), "POST", base+"/configmaps", fmt.Sprintf(`{"metadata":{"name":%q}}`, name(i)))
			if err != nil {
				t.Error(err)
			}
			if codes[i] = r.code; r.code == 403 && !strings.Contains(r.body, "exceeded quota: q, requested: configmaps=1, used: configmaps=10, limited: configmaps=10") {
				t.Errorf("refused with %s", r.body)
			}
		})
	}
	wg.Wait()
	count := map[int]int{}
	for _, c := range codes {
		count[c]++
	}
	return count
}

func testQuotaFifty(t *testing.T, on []*api) {
	for _, servers := range [][]*api{on[:1], on} {
		base := quotaIn(t, on, `{"configmaps":"10"}`)
		got := together(t, servers, 50, base, func(i int) string { return fmt.Sprint("m", i) })
		if got[201] != 10 || got[403] != 40 {
			t.Errorf("on %d servers: answers %v, want 10 × 201 and 40 × 403", len(servers), got)
		}
		if n := items(t, on[0], base+"/configmaps"); n != 10 || usedOf(t, on[0], base, "configmaps") != "10" {
			t.Errorf("on %d servers: there are %d, and %s are used", len(servers), n, usedOf(t, on[0], base, "configmaps"))
		}
	}
}

// Many want the same names: who loses gives back what he took, so that in the end what is used is what there is.
func testQuotaConflicts(t *testing.T, on []*api) {
	base := quotaIn(t, on, `{"configmaps":"10"}`)
	got := together(t, on, 60, base, func(i int) string { return fmt.Sprint("m", i%8) })
	n := items(t, on[0], base+"/configmaps")
	if got[201] != n || got[201]+got[409]+got[403] != 60 || n > 8 || n == 0 {
		t.Errorf("answers %v, and there are %d", got, n)
	}
	if used := usedOf(t, on[0], base, "configmaps"); used != fmt.Sprint(n) {
		t.Errorf("there are %d, and %s are used", n, used)
	}
	// Dry runs and objects that are refused otherwise take nothing.
	on[0].must(t, 201, "POST", base+"/configmaps?dryRun=All", `{"metadata":{"name":"dry"}}`)
	if r := on[0].do(t, "POST", base+"/configmaps", `{"metadata":{"name":"UPPER"}}`); r.code != 422 {
		t.Errorf("a bad name: %d", r.code)
	}
	if used := usedOf(t, on[0], base, "configmaps"); used != fmt.Sprint(n) {
		t.Errorf("after a dry run and a refusal %s are used, want %d", used, n)
	}
}

// While somebody makes as many as he can by two servers, another takes away and says so in the quota: at no time is there more than
// the quota allows.
func testQuotaFreed(t *testing.T, on []*api) {
	base := quotaIn(t, on, `{"configmaps":"10"}`)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var wg sync.WaitGroup
	var made atomic.Int64
	for i := range 8 {
		wg.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				r, err := on[i%2].try(ctx, "POST", base+"/configmaps", fmt.Sprintf(`{"metadata":{"name":"m-%d-%d"}}`, i, n))
				if err != nil {
					return // the end
				}
				switch r.code {
				case 201:
					made.Add(1)
				case 403:
				default:
					t.Errorf("%d: %s", r.code, r.body)
					return
				}
			}
		})
	}
	for freed := 0; freed < 30; {
		list, _ := on[freed%2].must(t, 200, "GET", base+"/configmaps", "")["items"].([]any)
		if len(list) > 10 {
			t.Fatalf("there are %d", len(list))
		}
		for _, o := range list {
			on[0].must(t, 200, "DELETE", base+"/configmaps/"+fmt.Sprint(at(o.(map[string]any), "metadata.name")), "")
			freed++
			give(t, on[freed%2], base)
		}
	}
	cancel()
	wg.Wait()
	if made.Load() < 30 {
		t.Errorf("only %d were made", made.Load())
	}
}

// give takes one from what is used, as the controller does for what is deleted.
func give(t *testing.T, a *api, base string) {
	t.Helper()
	for {
		q := a.must(t, 200, "GET", base+"/resourcequotas/q", "")
		var used int
		if _, err := fmt.Sscan(fmt.Sprint(at(q, "status.used.configmaps")), &used); err != nil {
			t.Fatal(err)
		}
		r := a.do(t, "PATCH", base+"/resourcequotas/q/status", fmt.Sprintf(`{"metadata":{"resourceVersion":%q},"status":{"used":{"configmaps":"%d"}}}`,
			at(q, "metadata.resourceVersion"), used-1), "Content-Type", "application/merge-patch+json")
		switch r.code {
		case 200:
			return
		case 409:
		default:
			t.Fatalf("%d: %s", r.code, r.body)
		}
	}
}

func testQuotaWords(t *testing.T, on []*api) {
	a := on[0]
	base := quotaIn(t, on, `{"limits.cpu":"1","pods":"1","services.nodeports":"1","count/deployments.apps":"1"}`)
	refused := func(path, body, want string) {
		t.Helper()
		if r := a.do(t, "POST", path, body); r.code != 403 || r.status.Message != want {
			t.Errorf("%d %q, want %q", r.code, r.status.Message, want)
		}
	}
	pod := func(name, limits string) string {
		return fmt.Sprintf(`{"metadata":{"name":%q},"spec":{"containers":[{"name":"c","image":"i","resources":{"limits":{%s}}}]}}`, name, limits)
	}
	refused(base+"/pods", pod("p", ""), `pods "p" is forbidden: failed quota: q: must specify limits.cpu for: c`)
	refused(base+"/pods", pod("p", `"cpu":"1500m"`), `pods "p" is forbidden: exceeded quota: q, requested: limits.cpu=1500m, used: limits.cpu=0, limited: limits.cpu=1`)
	a.must(t, 201, "POST", base+"/pods", pod("p", `"cpu":"600m"`))
	refused(base+"/pods", pod("p2", `"cpu":"600m"`), `pods "p2" is forbidden: exceeded quota: q, requested: limits.cpu=600m,pods=1, used: limits.cpu=600m,pods=1, limited: limits.cpu=1,pods=1`)
	refused(base+"/services", `{"metadata":{"name":"s"},"spec":{"type":"NodePort","ports":[{"name":"a","port":1},{"name":"b","port":2}]}}`,
		`services "s" is forbidden: exceeded quota: q, requested: services.nodeports=2, used: services.nodeports=0, limited: services.nodeports=1`)
	deployment := `{"metadata":{"name":"d"},"spec":{"selector":{"matchLabels":{"a":"b"}},"template":{"metadata":{"labels":{"a":"b"}},"spec":{"containers":[{"name":"c","image":"i"}]}}}}`
	apps := strings.Replace(base, "/api/v1", "/apis/apps/v1", 1) + "/deployments"
	a.must(t, 201, "POST", apps, deployment)
	refused(apps, strings.Replace(deployment, `"d"`, `"e"`, 1),
		`deployments.apps "e" is forbidden: exceeded quota: q, requested: count/deployments.apps=1, used: count/deployments.apps=1, limited: count/deployments.apps=1`)
	q := a.must(t, 200, "GET", base+"/resourcequotas/q", "")
	if managers := fmt.Sprint(at(q, "metadata.managedFields")); !strings.Contains(managers, "manager:apiserver operation:Update subresource:status") || strings.Count(managers, "manager:") != 3 {
		t.Errorf("what is used is written by %s", managers)
	}
}
