package pki

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestAuthorities(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "ca.crt")
	put := func(text string) {
		t.Helper()
		if err := replace(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	one, two := string(authority(t, t.TempDir()).PEM().Cert), string(authority(t, t.TempDir()).PEM().Cert)
	put("# the first\n" + one)
	var told []error
	a, err := NewAuthorities(file, func(err error) { told = append(told, err) })
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	first := a.Current(now)
	if len(first.All) != 1 || a.Current(now.Add(2*time.Second)) != first {
		t.Error("read again although nothing changed")
	}
	put(one + two)
	if a.Current(now.Add(2*time.Second+time.Millisecond)) != first {
		t.Error("looked at more than once a second")
	}
	second := a.Current(now.Add(4 * time.Second))
	if len(second.All) != 2 || string(second.PEM) != one+two || len(told) != 1 || told[0] != nil {
		t.Errorf("%d authorities, told %v", len(second.All), told)
	}
	put(one + "\n-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
	for n := range 3 {
		if a.Current(now.Add(time.Duration(6+2*n)*time.Second)) != second {
			t.Error("a bad file is in force")
		}
	}
	if line := 2 + strings.Count(one, "\n"); len(told) != 2 || told[1] == nil || !strings.Contains(told[1].Error(), file) || !strings.Contains(told[1].Error(), fmt.Sprintf("line %d:", line)) {
		t.Errorf("told %v, want one of line %d", told, line)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if a.Current(now.Add(20*time.Second)) != second || len(told) != 3 {
		t.Errorf("a file that is gone: %v", told)
	}
	for _, text := range []string{"", "x", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"} {
		put(text)
		if _, err := NewAuthorities(file, nil); err == nil || !strings.Contains(err.Error(), file) {
			t.Errorf("%q: %v", text, err)
		}
	}
}
