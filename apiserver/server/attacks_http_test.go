package server_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"pilothouse.dev/pkg/pki"
)

// attackThroughProxies has objects say that they live on the API server's own host: nothing there is dialled.
func attackThroughProxies(t *testing.T, a *api) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var dialled atomic.Int32
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			dialled.Add(1)
			c.Close()
		}
	}()
	port := ln.Addr().(*net.TCPAddr).Port
	base := "/api/v1/namespaces/" + a.namespace(t)
	for i, ip := range []string{"127.0.0.1", "169.254.169.254", "::1", "fe80::1", "0.0.0.0"} {
		name := fmt.Sprint("liar", i)
		a.must(t, 201, "POST", "/api/v1/nodes", `{"metadata":{"name":"`+name+`"}}`)
		a.must(t, 200, "PATCH", "/api/v1/nodes/"+name+"/status", fmt.Sprintf(
			`{"status":{"addresses":[{"type":"InternalIP","address":%q}],"daemonEndpoints":{"kubeletEndpoint":{"Port":%d}}}}`, ip, port), "Content-Type", patchType)
		a.must(t, 201, "POST", base+"/pods", `{"metadata":{"name":"`+name+`"},"spec":{"nodeName":"`+name+`","containers":[{"name":"c","image":"i"}]}}`)
		a.must(t, 200, "PATCH", base+"/pods/"+name+"/status", fmt.Sprintf(`{"status":{"podIP":%q,"podIPs":[{"ip":%q}]}}`, ip, ip), "Content-Type", patchType)
		for _, path := range []string{
			"/api/v1/nodes/" + name + "/proxy/", fmt.Sprintf("/api/v1/nodes/%s:%d/proxy/", name, port), fmt.Sprintf("/api/v1/nodes/https:%s:1/proxy/", name),
			fmt.Sprintf("%s/pods/%s:%d/proxy/", base, name, port), fmt.Sprintf("%s/pods/https:%s:%d/proxy/", base, name, port),
			base + "/pods/" + name + "/log",
		} {
			a.no(t, 400, "address not allowed", "GET", path, "")
		}
		a.as(t, "admin", "system:masters").no(t, 400, "address not allowed", "POST", base+"/pods/"+name+"/exec?command=sh", "", "Connection", "Upgrade", "Upgrade", "SPDY/3.1")
	}
	a.must(t, 201, "POST", base+"/services", `{"metadata":{"name":"s"},"spec":{"ports":[{"port":80}]}}`)
	slices := "/apis/discovery.k8s.io/v1" + strings.TrimPrefix(base, "/api/v1") + "/endpointslices"
	slice := func(ip string) string {
		return fmt.Sprintf(`{"metadata":{"name":"s","labels":{"kubernetes.io/service-name":"s"}},"addressType":"IPv4","ports":[{"port":%d}],"endpoints":[{"addresses":[%q]}]}`, port, ip)
	}
	for _, ip := range []string{"127.0.0.1", "169.254.169.254"} {
		a.no(t, 422, "may not be in the", "POST", slices, slice(ip)) // already no endpoint
	}
	ln.Close()
	<-done
	if n := dialled.Load(); n != 0 {
		t.Errorf("dialled %d times", n)
	}
}

// raw sends bytes as they are over a connection of its own and returns all that comes back until it is closed, or the first answer.
func (a *api) bytes(t *testing.T, cfg *tls.Config, message string) (*http.Response, string) {
	t.Helper()
	cfg = cfg.Clone()
	cfg.NextProtos = []string{"http/1.1"}
	c, err := tls.Dial("tcp", strings.TrimPrefix(a.URL(), "https://"), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, message); err != nil {
		t.Fatal(err)
	}
	method, _, _ := strings.Cut(message, " ")
	resp, err := http.ReadResponse(bufio.NewReader(c), &http.Request{Method: method})
	if err != nil {
		t.Fatalf("%.60q: %v", message, err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		t.Fatalf("%.60q: %v", message, err)
	}
	return resp, string(b)
}

// attackByPaths writes the way to a secret in every way but the one that is looked at.
func attackByPaths(t *testing.T, a *api) {
	ns := a.namespace(t)
	base := "/api/v1/namespaces/" + ns
	a.must(t, 201, "POST", base+"/secrets", `{"metadata":{"name":"s"},"stringData":{"k":"v"}}`)
	const marker = `"data":{"k"`
	m := a.mallory(t, ns, "paula", `{"apiGroups":[""],"resources":["pods","pods/proxy"],"verbs":["*"]}`)
	if r := a.do(t, "GET", base+"/secrets/s", ""); !strings.Contains(r.body, marker) {
		t.Fatalf("no marker: %s", r.body)
	}
	paths := []string{
		base + "/secrets/s", "/" + base + "/secrets/s", base + "//secrets/s", base + "/secrets//s", base + "/secrets/s/", base + "/secrets/./s",
		base + "/pods/../secrets/s", base + "/pods/p/../../secrets/s", base + "/pods/..%2fsecrets/s", base + "/pods/%2e%2e/secrets/s",
		base + "/pods%2f..%2fsecrets%2fs", base + "/%73ecrets/s", base + "/secrets%2fs", base + "/secrets/s%00", base + "/SECRETS/s",
		base + "/pods/p/proxy/../../../secrets/s", base + "/pods/p/proxy/..%2f..%2f..%2fsecrets%2fs", base + "/pods;/../secrets/s", base + `/pods\..\secrets\s`,
		"/healthz/../" + base[1:] + "/secrets/s", "/version/../" + base[1:] + "/secrets/s", "/healthz//" + base[1:] + "/secrets/s", "/openapi/v3/../.." + base + "/secrets/s",
		"/api/v1/namespaces/" + ns + "%2fsecrets%2fs", "/api/v1/watch/namespaces/" + ns + "/secrets", "/api/v1/watch/namespaces/" + ns + "/secrets/s",
		"/api/v1/proxy/namespaces/" + ns + "/secrets/s", base + "/secrets?watch=1", base + "/secrets?fieldSelector=metadata.name%3Ds", "/api/v1/secrets",
		"/apis//v1/namespaces/" + ns + "/secrets/s", "/apis/core/v1/namespaces/" + ns + "/secrets/s", base + "/pods/s?resource=secrets",
		a.URL() + base + "/secrets/s", "http://elsewhere" + base + "/secrets/s", "https://x/healthz/.." + base + "/secrets/s",
	}
	anonymous := a.TLS()
	anonymous.Certificates, anonymous.GetClientCertificate = nil, nil
	for who, cfg := range map[string]*tls.Config{"paula": m.TLSOf("paula"), "anonymous": anonymous} {
		for _, path := range paths {
			for _, method := range []string{"GET", "HEAD", "POST", "DELETE"} {
				resp, body := a.bytes(t, cfg, method+" "+path+" HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
				if resp.StatusCode < 400 && resp.StatusCode/100 != 3 || strings.Contains(body, marker) {
					t.Errorf("%s: %s %s: %d %.200s", who, method, path, resp.StatusCode, body)
				}
				if loc := resp.Header.Get("Location"); resp.StatusCode/100 == 3 && !strings.HasSuffix(loc, "/proxy/") {
					t.Errorf("%s: %s %s: sent to %s", who, method, path, loc)
				}
			}
		}
	}
	a.must(t, 200, "GET", base+"/secrets/s", "") // nothing was deleted
}

// attackByMessages sends what two servers would cut into requests in different places.
func attackByMessages(t *testing.T, a *api) {
	ns := a.namespace(t)
	path := "/api/v1/namespaces/" + ns + "/configmaps"
	inner := "POST " + path + " HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 31\r\n\r\n{\"metadata\":{\"name\":\"smuggled\"}}"
	start := "POST " + path + "?dryRun=All HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
	body := `{"metadata":{"name":"outer"}}`
	size := fmt.Sprint(len(body))
	for name, message := range map[string]string{
		"two lengths":             start + "Content-Length: " + size + "\r\nContent-Length: 0\r\n\r\n" + body + inner,
		"a length and chunks":     start + "Content-Length: " + size + "\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + inner,
		"chunks twice":            start + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + inner,
		"chunks and more":         start + "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n" + inner,
		"chunks by another name":  start + "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" + inner,
		"a space before the sign": start + "Content-Length : " + size + "\r\n\r\n" + body + inner,
		"a folded line":           start + "X: y\r\n Content-Length: " + size + "\r\n\r\n" + inner,
		"a signed length":         start + "Content-Length: +" + size + "\r\n\r\n" + body + inner,
		"a negative length":       start + "Content-Length: -1\r\n\r\n" + body + inner,
		"two hosts":               start + "Host: y\r\nContent-Length: " + size + "\r\n\r\n" + body + inner,
		"no host":                 strings.Replace(start, "Host: x\r\n", "", 1) + "Content-Length: 0\r\n\r\n" + inner,
		"a bad chunk":             start + "Transfer-Encoding: chunked\r\n\r\n-1\r\n\r\n" + inner,
		"a header with nothing":   start + ": x\r\nContent-Length: 0\r\n\r\n" + inner,
		"a bare return":           start + "X: a\rb\r\nContent-Length: 0\r\n\r\n" + inner,
	} {
		t.Run(name, func(t *testing.T) {
			resp, answer := a.bytes(t, a.TLS(), message)
			if resp.StatusCode < 400 {
				// What is read in one way only is no trick; it must then have been the last of its connection.
				if !resp.Close {
					t.Errorf("%d %.200s", resp.StatusCode, answer)
				}
			}
		})
	}
	if r := a.do(t, "GET", path+"/smuggled", ""); r.code != 404 {
		t.Error("a request within a request was done")
	}
	big := strings.Repeat("x", 2<<20)
	if resp, _ := a.bytes(t, a.TLS(), "GET /api HTTP/1.1\r\nHost: x\r\nX-Big: "+big[:1<<20]+"\r\nX-Big2: "+big[:1<<19]+"\r\n\r\n"); resp.StatusCode != 431 {
		t.Errorf("headers of more than a megabyte: %d", resp.StatusCode)
	}
}

func attackByBodies(t *testing.T, a *api) {
	path := "/api/v1/namespaces/" + a.namespace(t) + "/configmaps"
	object := func(n int) string {
		return `{"metadata":{"name":"big"},"data":{"k":"` + strings.Repeat("x", n) + `"}}`
	}
	a.no(t, 413, "", "POST", path, object(3<<20))
	a.no(t, 413, "", "PUT", path+"/big", object(3<<20))
	a.no(t, 413, "", "POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", object(3<<20))
	var bomb bytes.Buffer
	z := gzip.NewWriter(&bomb)
	if _, err := io.WriteString(z, object(64<<20)); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	r := a.do(t, "POST", path, bomb.String(), "Content-Encoding", "gzip")
	if r.code != 415 && r.code != 400 {
		t.Errorf("a compressed body: %d %s", r.code, r.status.Message)
	}
	// One that never ends, in chunks.
	endless := io.LimitReader(zeros{}, 64<<20)
	req, err := http.NewRequestWithContext(t.Context(), "POST", a.URL()+path, endless)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := a.http.Do(req)
	if err == nil {
		resp.Body.Close()
		if resp.StatusCode != 413 && resp.StatusCode != 400 {
			t.Errorf("an endless body: %d", resp.StatusCode)
		}
	}
	a.must(t, 201, "POST", path, object(1<<10))
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = ' '
	}
	return len(b), nil
}

// attackByHeaders says who one is in headers: only a front proxy is believed.
func attackByHeaders(t *testing.T, a *api, front *pki.Authority) {
	const who = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
	claim := []string{"X-Remote-User", "admin", "X-Remote-Group", "system:masters", "X-Remote-Extra-Scopes", "all"}
	m := a.as(t, "nobody-special")
	if me := m.must(t, 201, "POST", who, `{}`, claim...); at(me, "status.userInfo.username") != "nobody-special" || strings.Contains(fmt.Sprint(me), "masters") {
		t.Errorf("believed: %v", at(me, "status"))
	}
	m.no(t, 403, "nobody-special", "GET", "/api/v1/secrets", "", claim...)
	anonymous := &api{a.Cluster, a.bearer("")}
	anonymous.no(t, 401, "", "GET", "/api/v1/secrets", "", claim...)

	pair, err := front.Issue(pki.Identity{Name: "front-proxy", Client: true}, 0)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := tls.X509KeyPair(pair.Cert, pair.Key)
	if err != nil {
		t.Fatal(err)
	}
	cfg := a.TLS()
	cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &certificate, nil }
	proxy := &api{a.Cluster, &http.Client{Transport: &http.Transport{TLSClientConfig: cfg, DisableKeepAlives: true}}}
	if me := proxy.must(t, 201, "POST", who, `{}`, "X-Remote-User", "jane", "X-Remote-Group", "dev"); at(me, "status.userInfo.username") != "jane" {
		t.Errorf("a front proxy is not believed: %v", at(me, "status"))
	}
	proxy.no(t, 401, "", "GET", "/api/v1/secrets", "") // and is nobody itself
}
