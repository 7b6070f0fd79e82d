package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// free gives a port that nobody listens on, for TCP and UDP.
func free(t *testing.T) string {
	t.Helper()
	for range 100 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		port := l.Addr().(*net.TCPAddr).Port
		p, err := net.ListenPacket("udp", fmt.Sprintf("127.0.0.1:%d", port))
		l.Close()
		if err == nil {
			p.Close()
			return strconv.Itoa(port)
		}
	}
	t.Fatal("no port is free for both")
	return ""
}

func aProber(t *testing.T) *prober {
	p := &prober{timeout: 5 * time.Second, kept: map[string]net.Conn{}}
	t.Cleanup(p.close)
	return p
}

// A kept connection is the one that was opened first: it outlives its listener, and a new one does not come about.
func TestProbeKeeps(t *testing.T) {
	in, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: http.NotFoundHandler()}
	t.Cleanup(func() { srv.Close() })
	go srv.Serve(in) // until it is closed
	p := aProber(t)
	target := "a=keep://" + in.Addr().String()
	for _, step := range []string{"opening", "using"} {
		var out bytes.Buffer
		if err := p.round(t.Context(), &out, []string{target}); err != nil || out.String() != "a yes\n" {
			t.Errorf("%s: %q, %v", step, out.String(), err)
		}
		in.Close()
	}
	var out bytes.Buffer
	if err := aProber(t).round(t.Context(), &out, []string{target}); err != nil || !strings.HasPrefix(out.String(), "a no: ") {
		t.Errorf("opening one to nobody: %q, %v", out.String(), err)
	}
}

func TestPortsAndProbe(t *testing.T) {
	plain, secret, nobody := free(t), free(t), free(t)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- ports(ctx, options{json: true, args: []string{plain + "=first", "udp:" + plain + "=packet", "tls:" + secret + "=third"}})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	targets := []string{"a=tcp://127.0.0.1:" + plain, "b=udp://127.0.0.1:" + plain, "c=tcp://127.0.0.1:" + secret, "d=tcp://127.0.0.1:" + nobody, "e=udp://127.0.0.1:" + nobody}
	var lines []string
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); {
		var out bytes.Buffer
		if err := aProber(t).rounds(t.Context(), strings.NewReader(strings.Join(targets, " ")+"\n\n"), &out); err != nil {
			t.Fatal(err)
		}
		table, empty := strings.CutSuffix(out.String(), "\n\n\n") // of the second round, which had nothing to try
		if !empty {
			t.Fatalf("two rounds are answered by %q", out.String())
		}
		lines = strings.Split(table, "\n")
		if len(lines) != 5 {
			t.Fatalf("five targets are answered by %q", lines)
		}
		if slices.Equal(lines[:3], []string{"a yes", "b yes", "c yes"}) {
			break
		}
	}
	if !slices.Equal(lines[:3], []string{"a yes", "b yes", "c yes"}) || !strings.HasPrefix(lines[3], "d no: ") || !strings.HasPrefix(lines[4], "e no: ") {
		t.Errorf("got %q", lines)
	}
	heard, err := call(ctx, "http://127.0.0.1:"+plain+"/some/path?a=b", options{post: true, timeout: 5 * time.Second})
	var got asked
	if err == nil {
		err = json.Unmarshal([]byte(heard), &got)
	}
	if want := (asked{Method: "POST", Path: "/some/path", Query: "a=b", Body: "first"}); err != nil || got != want {
		t.Errorf("got %+v, %v; want %+v", got, err, want)
	}
	heard, err = call(ctx, "udp://127.0.0.1:"+plain, options{timeout: 5 * time.Second, text: "?"})
	if err != nil || heard != "packet" {
		t.Errorf("over UDP: %q, %v", heard, err)
	}
}

func TestParseListener(t *testing.T) {
	for arg, want := range map[string]listener{
		"80": {"http", "80", hostname()}, "udp:81=": {"udp", "81", ""}, "tls:443=a=b": {"tls", "443", "a=b"}, "http:1=x:y": {"http", "1", "x:y"},
		"tcp:80": {}, "": {}, "udp:": {},
	} {
		got, err := parseListener(arg)
		if got != want || (err != nil) != (want == listener{}) {
			t.Errorf("%q: got %+v, %v", arg, got, err)
		}
	}
}

func TestProbeRefusesNonsense(t *testing.T) {
	for _, target := range []string{"tcp://127.0.0.1:1", "a=127.0.0.1:1", "a=http://127.0.0.1:1"} {
		if err := aProber(t).round(t.Context(), io.Discard, []string{target}); err == nil {
			t.Errorf("%q was taken", target)
		}
	}
}

func TestDial(t *testing.T) {
	srv := httptest.NewServer((&server{}).routes())
	defer srv.Close()
	ask := func(q url.Values) (got dialed, err error) {
		text, err := call(t.Context(), srv.URL+"/dial?"+q.Encode(), options{timeout: 10 * time.Second})
		if err == nil {
			err = json.Unmarshal([]byte(text), &got)
		}
		return got, err
	}
	got, err := ask(url.Values{"url": {srv.URL + "/echo?msg=hi", "http://127.0.0.1:" + free(t)}, "tries": {"2"}})
	if err != nil || !slices.Equal(got.Answers, []string{"hi", "hi"}) || len(got.Errors) != 2 || !strings.Contains(got.Errors[0], "refused") {
		t.Errorf("got %+v, %v", got, err)
	}
	for _, bad := range []url.Values{{"tries": {"x"}}, {"timeout": {"x"}}} {
		if _, err := ask(bad); err == nil || !strings.Contains(err.Error(), "400") {
			t.Errorf("%v: %v", bad, err)
		}
	}
}
