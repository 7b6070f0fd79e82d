package server_test

import (
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"pilothouse.dev/pkg/testcluster"
)

const (
	ipPath   = "/apis/networking.k8s.io/v1/ipaddresses"
	cidrPath = "/apis/networking.k8s.io/v1/servicecidrs"
)

// TestServiceRanges is the life of cluster IPs in a range of six: each has its IPAddress, others' IPAddresses are respected, and
// ServiceCIDRs are taken into use and out of it.
func TestServiceRanges(t *testing.T) {
	c := testcluster.Start(t, "--service-cluster-ip-range=10.96.0.0/29")
	a := &api{c, &http.Client{Transport: &http.Transport{TLSClientConfig: c.TLS(), ForceAttemptHTTP2: true}}}
	t.Cleanup(a.http.CloseIdleConnections)
	ns := a.namespace(t)
	services := "/api/v1/namespaces/" + ns + "/services"
	body := func(name, ip string) string {
		return fmt.Sprintf(`{"metadata":{"name":%q},"spec":{"clusterIP":%q,"ports":[{"port":80}]}}`, name, ip)
	}
	addressOf := func(m map[string]any) string { return at(m, "spec.clusterIP").(string) }
	until(t, "the first service", func() bool { return a.do(t, "GET", ipPath+"/10.96.0.1", "").code == 200 })

	m := a.must(t, 200, "GET", ipPath+"/10.96.0.1", "")
	for path, want := range map[string]string{
		"spec.parentRef.resource": "services", "spec.parentRef.namespace": "default", "spec.parentRef.name": "kubernetes",
	} {
		if at(m, path) != want {
			t.Errorf("%s is %v, want %s", path, at(m, path), want)
		}
	}
	if got := fmt.Sprint(at(m, "metadata.labels")); got != "map[ipaddress.kubernetes.io/ip-family:IPv4 ipaddress.kubernetes.io/managed-by:ipallocator.k8s.io]" {
		t.Errorf("labels %s", got)
	}

	first := addressOf(a.must(t, 201, "POST", services, body("a", "")))
	if got := at(a.must(t, 200, "GET", ipPath+"/"+first, ""), "spec.parentRef.name"); got != "a" {
		t.Errorf("%s is of %v", first, got)
	}
	if r := a.do(t, "POST", services, body("b", first)); r.code != 422 || !strings.Contains(r.body, "provided IP is already allocated") {
		t.Errorf("the same address again: %d %s", r.code, r.body)
	}
	// What was taken for a service that is then refused is given back.
	if r := a.do(t, "POST", services, `{"metadata":{"name":"b"},"spec":{"clusterIP":"10.96.0.6","ports":[{"port":80,"protocol":"NONE"}]}}`); first != "10.96.0.6" && r.code != 422 {
		t.Errorf("a bad service: %d %s", r.code, r.body)
	}
	a.must(t, 200, "DELETE", services+"/a", "")
	for _, ip := range []string{first, "10.96.0.6"} {
		if r := a.do(t, "GET", ipPath+"/"+ip, ""); r.code != 404 {
			t.Errorf("%s of nobody: %d %s", ip, r.code, r.body)
		}
	}

	// Somebody else's address is never given, and it is not ours to take away.
	foreign := `{"metadata":{"name":"10.96.0.4"},"spec":{"parentRef":{"group":"example.com","resource":"gateways","namespace":"x","name":"y"}}}`
	a.must(t, 201, "POST", ipPath, foreign)
	if r := a.do(t, "POST", services, body("b", "10.96.0.4")); r.code != 422 || !strings.Contains(r.body, "provided IP is already allocated") {
		t.Errorf("another's address: %d %s", r.code, r.body)
	}
	given := map[string]string{}
	for i := range 4 {
		name := fmt.Sprintf("s%d", i)
		given[addressOf(a.must(t, 201, "POST", services, body(name, "")))] = name
	}
	if len(given) != 4 || given["10.96.0.4"] != "" || given["10.96.0.1"] != "" {
		t.Errorf("given are %v", given)
	}
	if r := a.do(t, "POST", services, body("more", "")); r.code != 500 || !strings.Contains(r.body, "range is full") {
		t.Errorf("of a full range: %d %s", r.code, r.body)
	}

	// A second range is of use once it is ready, and no longer once it is being deleted.
	a.must(t, 201, "POST", cidrPath, `{"metadata":{"name":"second","finalizers":["example.com/hold"]},"spec":{"cidrs":["10.97.0.0/28"]}}`)
	if r := a.do(t, "POST", services, body("more", "10.97.0.9")); r.code != 422 {
		t.Errorf("of a range that is not ready: %d %s", r.code, r.body)
	}
	a.must(t, 200, "PATCH", cidrPath+"/second/status", `{"status":{"conditions":[{"type":"Ready","status":"True","reason":"Ready","message":"","lastTransitionTime":"2026-01-01T00:00:00Z"}]}}`,
		"Content-Type", "application/merge-patch+json")
	until(t, "the second range in use", func() bool { return a.do(t, "POST", services, body("named", "10.97.0.9")).code == 201 })
	more := addressOf(a.must(t, 201, "POST", services, body("more", "")))
	if ip, err := netip.ParseAddr(more); err != nil || !netip.MustParsePrefix("10.97.0.0/28").Contains(ip) {
		t.Errorf("given %s", more)
	}
	a.must(t, 200, "GET", ipPath+"/"+more, "")
	a.must(t, 200, "DELETE", cidrPath+"/second", "")
	n := 0
	until(t, "the second range out of use", func() bool {
		n++
		return a.do(t, "POST", services, body(fmt.Sprintf("late%d", n), "")).code == 500
	})
	a.must(t, 200, "DELETE", services+"/more", "")
	if r := a.do(t, "GET", ipPath+"/"+more, ""); r.code != 404 {
		t.Errorf("of a range that goes: %d %s", r.code, r.body)
	}

	// A type without address gives it back; a service that gets one later takes it then.
	for ip, name := range given {
		a.must(t, 200, "PATCH", services+"/"+name, `{"spec":{"type":"ExternalName","externalName":"x.example","clusterIP":"","clusterIPs":null}}`, "Content-Type", "application/merge-patch+json")
		if r := a.do(t, "GET", ipPath+"/"+ip, ""); r.code != 404 {
			t.Errorf("%s was not given back: %d %s", ip, r.code, r.body)
		}
	}
	for _, name := range given {
		m := a.must(t, 200, "PATCH", services+"/"+name, `{"spec":{"type":"ClusterIP","externalName":null}}`, "Content-Type", "application/merge-patch+json")
		if got := at(a.must(t, 200, "GET", ipPath+"/"+addressOf(m), ""), "spec.parentRef.name"); got != name {
			t.Errorf("%s is of %v, want %s", addressOf(m), got, name)
		}
	}
	a.must(t, 200, "GET", ipPath+"/10.96.0.4", "")
}

// TestDualStackServices has two ranges: a service gets an address of each when it wants, and both have their IPAddresses.
func TestDualStackServices(t *testing.T) {
	c := testcluster.Start(t, "--service-cluster-ip-range=10.96.0.0/24,fd00:96::/112")
	a := &api{c, &http.Client{Transport: &http.Transport{TLSClientConfig: c.TLS(), ForceAttemptHTTP2: true}}}
	t.Cleanup(a.http.CloseIdleConnections)
	services := "/api/v1/namespaces/" + a.namespace(t) + "/services"
	until(t, "the ranges", func() bool { return a.do(t, "GET", cidrPath+"/kubernetes", "").code == 200 })
	if got := fmt.Sprint(at(a.must(t, 200, "GET", cidrPath+"/kubernetes", ""), "spec.cidrs")); got != "[10.96.0.0/24 fd00:96::/112]" {
		t.Errorf("ranges %s", got)
	}
	m := a.must(t, 201, "POST", services, `{"metadata":{"name":"both"},"spec":{"ipFamilyPolicy":"RequireDualStack","ports":[{"port":80}]}}`)
	for i, family := range []string{"IPv4", "IPv6"} {
		ip := at(m, fmt.Sprintf("spec.clusterIPs.%d", i)).(string)
		o := a.must(t, 200, "GET", ipPath+"/"+ip, "")
		if labels := at(o, "metadata.labels").(map[string]any); labels["ipaddress.kubernetes.io/ip-family"] != family || at(o, "spec.parentRef.name") != "both" {
			t.Errorf("%s: %v of %v", ip, labels, at(o, "spec.parentRef"))
		}
	}
	a.must(t, 200, "PATCH", services+"/both", `{"spec":{"ipFamilyPolicy":"SingleStack"}}`, "Content-Type", "application/merge-patch+json")
	if r := a.do(t, "GET", ipPath+"/"+at(m, "spec.clusterIPs.1").(string), ""); r.code != 404 {
		t.Errorf("the second address, given up: %d %s", r.code, r.body)
	}
}

// TestTwoServersOneRange has two servers give the last addresses of a range at once: none twice, and none kept back.
func TestTwoServersOneRange(t *testing.T) {
	const flag = "--service-cluster-ip-range=10.96.0.0/28" // 14 addresses, of which the server's own service has one
	c := testcluster.Start(t, flag)
	speak := func(c *testcluster.Cluster) *api {
		a := &api{c, &http.Client{Transport: &http.Transport{TLSClientConfig: c.TLS(), ForceAttemptHTTP2: true}}}
		t.Cleanup(a.http.CloseIdleConnections)
		return a
	}
	both := []*api{speak(c), speak(c.Another(flag))}
	services := "/api/v1/namespaces/" + both[0].namespace(t) + "/services"
	until(t, "the first service", func() bool { return both[0].do(t, "GET", ipPath+"/10.96.0.1", "").code == 200 })
	answers := make(chan reply, 20)
	for i := range cap(answers) {
		go func() {
			r, err := both[i%2].try(t.Context(), "POST", services, fmt.Sprintf(`{"metadata":{"name":"s%d"},"spec":{"ports":[{"port":80}]}}`, i))
			if err != nil {
				t.Error(err)
			}
			answers <- r
		}()
	}
	made := 0
	for range cap(answers) {
		if r := <-answers; r.code == 201 {
			made++
		} else if !strings.Contains(r.body, "range is full") {
			t.Errorf("%d %s", r.code, r.body)
		}
	}
	seen := map[string]bool{}
	list := at(both[1].must(t, 200, "GET", services, ""), "items").([]any)
	for _, s := range list {
		ip := at(s, "spec.clusterIP").(string)
		if seen[ip] {
			t.Errorf("%s was given twice", ip)
		}
		seen[ip] = true
		if got := at(both[0].must(t, 200, "GET", ipPath+"/"+ip, ""), "spec.parentRef.name"); got != at(s, "metadata.name") {
			t.Errorf("%s is of %v, want %v", ip, got, at(s, "metadata.name"))
		}
	}
	if made != 13 || len(list) != 13 {
		t.Errorf("%d made, %d there, want 13", made, len(list))
	}
	// What one server frees the other gives.
	name := at(list[0], "metadata.name").(string)
	both[0].must(t, 200, "DELETE", services+"/"+name, "")
	m := both[1].must(t, 201, "POST", services, `{"metadata":{"name":"late"},"spec":{"ports":[{"port":80}]}}`)
	if at(m, "spec.clusterIP") != at(list[0], "spec.clusterIP") {
		t.Errorf("given %v, free was %v", at(m, "spec.clusterIP"), at(list[0], "spec.clusterIP"))
	}
}
