package server_test

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"

	"pilothouse.dev/pkg/testcluster"
)

// Of many requests at the same time each has its stages exactly once.
func testAuditOnce(t *testing.T, c *testcluster.Cluster, log trail) {
	admin, alice, nobody := client(c, t, "admin", "system:masters"), client(c, t, "alice"), client(c, t, "")
	cm := fmt.Sprintf(cmPath, "default")
	admin.must(t, 201, "POST", cm, `{"metadata":{"name":"there"}}`)
	kinds := []struct {
		as           *api
		method, path string
		body         string
		header       []string
		code         int
	}{
		{admin, "GET", cm + "/there", "", nil, 200},
		{admin, "GET", cm + "/none", "", nil, 404},
		{admin, "POST", cm, `{"metadata":{"name":"there"}}`, nil, 409},
		{alice, "GET", cm + "/there", "", nil, 403},
		{nobody, "GET", cm + "/there", "", []string{"Authorization", "Bearer none"}, 401},
		{admin, "GET", cm + "?watch=1&timeoutSeconds=1", "", nil, 200},
	}
	const all = 1000
	var group sync.WaitGroup
	turn := make(chan struct{}, 50)
	for i := range all {
		group.Go(func() {
			turn <- struct{}{}
			defer func() { <-turn }()
			k := kinds[i%len(kinds)]
			r, err := k.as.try(t.Context(), k.method, k.path, k.body, append(slices.Clone(k.header), "Audit-ID", fmt.Sprintf("once-%d", i))...)
			if err != nil || r.code != k.code {
				t.Errorf("%s %s: %d, %v", k.method, k.path, r.code, err)
			}
		})
	}
	group.Wait()
	for i := range all {
		if i%100 == 0 {
			log.of(t, fmt.Sprintf("once-%d", i))
		}
	}
	log.of(t, fmt.Sprintf("once-%d", all-1))
	stages := map[string][]auditv1.Stage{}
	for _, e := range log.events(t) {
		if strings.HasPrefix(string(e.AuditID), "once-") {
			stages[string(e.AuditID)] = append(stages[string(e.AuditID)], e.Stage)
		}
	}
	for i := range all {
		want := []auditv1.Stage{auditv1.StageRequestReceived, auditv1.StageResponseComplete}
		if i%len(kinds) == 5 {
			want = slices.Insert(want, 1, auditv1.StageResponseStarted)
		}
		if got := stages[fmt.Sprintf("once-%d", i)]; !slices.Equal(got, want) {
			t.Errorf("request %d: %v, want %v", i, got, want)
		}
	}
}

// A changed policy holds without a restart, and a bad one does not.
func testAuditReload(t *testing.T, c *testcluster.Cluster, log trail, policy string) {
	admin := client(c, t, "admin", "system:masters")
	put := func(text string) {
		if err := os.WriteFile(policy+".new", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(policy+".new", policy); err != nil {
			t.Fatal(err)
		}
	}
	metric := func(line string) {
		t.Helper()
		for limit := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
			r, err := admin.try(t.Context(), "GET", "/metrics", "")
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(r.body, line) {
				return
			}
			if time.Now().After(limit) {
				t.Fatalf("no %q in the metrics", line)
			}
		}
	}
	put("apiVersion: audit.k8s.io/v1\nkind: Policy\nrules:\n- level: Everything\n")
	metric(`apiserver_audit_policy_automatic_reloads_total{status="failure"} 1`)
	log.of(t, admin.do(t, "GET", "/version", "").header.Get("Audit-ID"))
	put("apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived]\nrules:\n- level: Metadata\n")
	metric(`apiserver_audit_policy_automatic_reloads_total{status="success"} 1`)
	if got := log.of(t, admin.do(t, "GET", "/version", "").header.Get("Audit-ID")); len(got) != 1 {
		t.Errorf("stages: %v", got)
	}
}

// The last requests before the server ends are in the log.
func testAuditDrain(t *testing.T, c *testcluster.Cluster, log trail) {
	admin := client(c, t, "admin", "system:masters")
	req, err := http.NewRequestWithContext(t.Context(), "GET", admin.URL()+fmt.Sprintf(cmPath, "default")+"?watch=1", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Audit-ID", "drained")
	resp, err := admin.http.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if err := c.SignalAPIServer(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		t.Logf("the watch ended: %v", err)
	}
	log.of(t, "drained")
}

// What cannot be used stops the server at its start.
func testAuditBadFlags(t *testing.T, c *testcluster.Cluster, _ trail) {
	dir := t.TempDir()
	policy := filepath.Join(dir, "policy.yaml")
	if err := os.WriteFile(policy, []byte("apiVersion: audit.k8s.io/v1\nkind: Policy\nrules:\n- levle: Metadata\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, f := range []struct {
		flags []string
		want  []string
	}{
		{[]string{"--audit-policy-file=" + policy}, []string{policy, "line 4", "levle"}},
		{[]string{"--audit-webhook-config-file=" + policy}, []string{policy}},
		{[]string{"--audit-log-path=" + policy + "/log"}, []string{policy}},
		{[]string{"--audit-log-path=-", "--audit-log-mode=never"}, []string{"--audit-log-mode", "blocking-strict"}},
	} {
		said := c.Refused(f.flags...)
		for _, want := range f.want {
			if !strings.Contains(said, want) {
				t.Errorf("%v: %q does not say %q", f.flags, said, want)
			}
		}
	}
}

// A disk that takes nothing does not touch requests, unless every event must be written.
func testAuditFullDisk(t *testing.T, c *testcluster.Cluster, _ trail) {
	policy := filepath.Join(t.TempDir(), "policy.yaml")
	text := "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules:\n- {level: None, userGroups: [\"system:masters\"]}\n- {level: None, users: [\"system:apiserver\"]}\n- level: Metadata\n"
	if err := os.WriteFile(policy, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for mode, want := range map[string]struct {
		code   int
		metric string
	}{
		"blocking":        {200, "apiserver_audit_requests_rejected_total 0"},
		"blocking-strict": {500, "apiserver_audit_requests_rejected_total 1"},
	} {
		other := c.Another("--audit-policy-file="+policy, "--audit-log-path=/dev/full", "--audit-log-mode="+mode)
		r := client(other, t, "alice").do(t, "GET", "/version", "")
		if r.code != want.code || r.header.Get("Audit-ID") == "" {
			t.Errorf("%s: got %d: %s", mode, r.code, r.body)
		}
		got, err := client(other, t, "admin", "system:masters").try(t.Context(), "GET", "/metrics", "")
		if err != nil || !strings.Contains(got.body, want.metric) || !strings.Contains(got.body, `apiserver_audit_error_total{plugin="log"}`) {
			t.Errorf("%s: no %q, or no lost event, in the metrics: %v", mode, want.metric, err)
		}
		other.KillAPIServer()
	}
}
