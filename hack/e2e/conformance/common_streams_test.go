package conformance

import (
	"bytes"
	"errors"
	"io"
	"net/url"
	"strings"

	"golang.org/x/net/websocket"
	"k8s.io/client-go/rest"
)

// dial opens a WebSocket to a path of the API server, for one subprotocol.
func (r *row) dial(path string, query url.Values, protocol string) *websocket.Conn {
	r.Helper()
	base, _, err := rest.DefaultServerUrlFor(r.config)
	r.must(err, "reading the server's address")
	to := *base
	to.Scheme, to.Path, to.RawQuery = "wss", path, query.Encode()
	config, err := websocket.NewConfig(to.String(), base.String())
	r.must(err, "preparing a WebSocket")
	config.Protocol = []string{protocol}
	config.TlsConfig, err = rest.TLSConfigFor(r.config)
	r.must(err, "reading certificates")
	if r.config.BearerToken != "" {
		config.Header.Set("Authorization", "Bearer "+r.config.BearerToken)
	}
	ws, err := config.DialContext(r.ctx)
	r.must(err, "opening a WebSocket to "+path)
	r.Cleanup(func() { ws.Close() }) // it may have ended already
	return ws
}

// CN-067: a command is run over a WebSocket of the fourth version: its output comes on the first channel, its end on the third.
func execOverWebsocket(r *row) {
	ns := r.namespace()
	r.podIs(ns, doer("commanded", "print=up", "pause"), "runs", ready)
	ws := r.dial("/api/v1/namespaces/"+ns+"/pods/commanded/exec", url.Values{
		"stdout": {"1"}, "stderr": {"1"}, "container": {"c"}, "command": {"/testapp", "do", "print=remote execution test"},
	}, "v4.channel.k8s.io")
	var out, end strings.Builder
	for {
		var message []byte
		err := websocket.Message.Receive(ws, &message)
		if errors.Is(err, io.EOF) {
			break
		}
		r.must(err, "reading the command's output")
		if len(message) < 2 {
			continue // the beginning of a channel
		}
		switch message[0] {
		case 1:
			out.Write(message[1:])
		case 3:
			end.Write(message[1:])
		default:
			r.Fatalf("on channel %d came %q", message[0], message[1:])
		}
	}
	r.equal("output", strings.TrimSpace(out.String()), "remote execution test")
	if !strings.Contains(end.String(), `"status":"Success"`) {
		r.Fatalf("the command ended with %q", end.String())
	}
}

// CN-068: a log is read from a WebSocket of bytes, to its end.
func logOverWebsocket(r *row) {
	ns := r.namespace()
	r.podIs(ns, doer("talking", "print=container is alive", "pause"), "runs", ready)
	r.settles("the log has its line", func() (bool, error) {
		ws := r.dial("/api/v1/namespaces/"+ns+"/pods/talking/log", url.Values{"container": {"c"}}, "binary.k8s.io")
		var got bytes.Buffer
		for {
			var message []byte
			err := websocket.Message.Receive(ws, &message)
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return false, err
			}
			got.Write(message)
		}
		return got.String() == "container is alive\n", nil
	})
}
