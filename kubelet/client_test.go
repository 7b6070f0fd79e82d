package main

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// client is an HTTP client with the certificate of one of the callers, or with none.
func (m *machine) client(who string) *http.Client {
	m.t.Helper()
	dir := filepath.Dir(m.cfg.CA)
	pem, err := os.ReadFile(m.cfg.CA)
	if err != nil {
		m.t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	c := &tls.Config{RootCAs: roots}
	if who != "" {
		pair, err := tls.LoadX509KeyPair(filepath.Join(dir, who+".crt"), filepath.Join(dir, who+".key"))
		if err != nil {
			m.t.Fatal(err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return &http.Client{Transport: &http.Transport{TLSClientConfig: c}}
}

// uplink gives the test's own network namespace a link with the node's address.
func (m *machine) uplink() {
	m.t.Helper()
	for _, args := range [][]string{{"link", "add", "up0", "type", "bridge"}, {"addr", "add", nodeIP + "/24", "dev", "up0"}, {"link", "set", "up0", "up"}} {
		if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
			m.t.Fatalf("ip %v: %v: %s", args, err, out)
		}
	}
	m.t.Cleanup(func() { // the next test begins as this one did: without links, which pods may have left
		links, err := net.Interfaces()
		if err != nil {
			m.t.Error(err)
		}
		for _, l := range links {
			if l.Flags&net.FlagLoopback != 0 {
				continue
			}
			if out, err := exec.Command("ip", "link", "del", l.Name).CombinedOutput(); err != nil && !strings.Contains(string(out), "Cannot find device") {
				m.t.Errorf("ip link del %s: %v: %s", l.Name, err, out)
			}
		}
	})
}

func kill(t *testing.T, pid string) {
	t.Helper()
	n, err := strconv.Atoi(pid)
	if err == nil {
		err = syscall.Kill(n, syscall.SIGKILL)
	}
	if err != nil && err != syscall.ESRCH {
		t.Fatal(err)
	}
}
