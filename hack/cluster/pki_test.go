package main

import (
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"testing"
	"time"

	"pilothouse.dev/pkg/pki"
)

// TestIssueRenews: a second up makes anew what ends soon, what another authority signed and what is spoiled, and leaves the rest.
func TestIssueRenews(t *testing.T) {
	c, err := newCluster(config{Name: "renewal", Dir: filepath.Join(t.TempDir(), "c"), Bin: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	c.state.Range = 1
	issue := func() map[string]string {
		t.Helper()
		if err := c.issue(c.identities()); err != nil {
			t.Fatal(err)
		}
		now := map[string]string{}
		for _, w := range c.identities() {
			p, err := pki.Read(c.path("pki"), w.file)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := parsePair(p); err != nil {
				t.Errorf("%s: %v", w.file, err)
			}
			now[w.file] = string(p.Cert)
		}
		return now
	}
	first := issue()
	put := func(file string, ca *pki.Authority, life time.Duration) {
		t.Helper()
		for _, w := range c.identities() {
			if w.file != file {
				continue
			}
			p, err := ca.Issue(w.id, life)
			if err == nil {
				err = p.Write(c.path("pki"), file)
			}
			if err != nil {
				t.Fatal(err)
			}
			first[file] = string(p.Cert)
		}
	}
	ca, err := pki.EnsureAuthority(c.path("pki"), clusterCA)
	if err != nil {
		t.Fatal(err)
	}
	stranger, err := pki.NewAuthority("stranger")
	if err != nil {
		t.Fatal(err)
	}
	put("apiserver", ca, 10*24*time.Hour)
	put("admin", ca, 60*24*time.Hour)
	put("scheduler", stranger, 0)
	if err := os.WriteFile(c.cert("controller-manager"), []byte("spoiled"), 0o600); err != nil {
		t.Fatal(err)
	}
	renewed := map[string]bool{"apiserver": true, "scheduler": true, "controller-manager": true}
	for file, now := range issue() {
		if (now != first[file]) != renewed[file] {
			t.Errorf("%s was made anew: %v, want %v", file, now != first[file], renewed[file])
		}
	}
}

func parsePair(p pki.Pair) (*x509.Certificate, error) {
	if _, err := pki.ParseKey(p.Key); err != nil {
		return nil, err
	}
	block, _ := pem.Decode(p.Cert)
	if block == nil {
		return nil, os.ErrInvalid
	}
	return x509.ParseCertificate(block.Bytes)
}

// TestJoined: a node whose certificate has ended, or that has none, needs a token.
func TestJoined(t *testing.T) {
	c, err := newCluster(config{Name: "joining", Dir: filepath.Join(t.TempDir(), "c"), Bin: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	n := &node{Name: "node1", Index: 1}
	ca, err := pki.NewAuthority("ca")
	if err != nil {
		t.Fatal(err)
	}
	p, err := ca.Issue(pki.Identity{Name: "system:node:node1"}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	if c.joined(n, now) {
		t.Error("a new node has joined")
	}
	file := c.path("nodes", n.Name, "kubelet", "pki", "kubelet-client-current.pem")
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := pki.WriteFile(file, append(p.Cert, p.Key...), 0o600); err != nil {
		t.Fatal(err)
	}
	if c.joined(n, now) {
		t.Error("a node without a kubeconfig has joined")
	}
	if err := replaceFile(c.kubeconfigOf("node1-kubelet"), []byte("x")); err != nil {
		t.Fatal(err)
	}
	if !c.joined(n, now) || c.joined(n, now.Add(2*time.Hour)) {
		t.Errorf("it has joined: %v, and two hours later: %v", c.joined(n, now), c.joined(n, now.Add(2*time.Hour)))
	}
	if w := word(16); len(w) != 16 || w == word(16) {
		t.Errorf("a secret is %q", w)
	}
}
