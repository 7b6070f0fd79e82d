package streaming

import (
	"bufio"
	"net"
	"net/http"
	"slices"

	"github.com/gorilla/websocket"
	clientforward "k8s.io/client-go/tools/portforward"
	"k8s.io/cri-streaming/pkg/streaming/portforward"
	"k8s.io/streaming/pkg/httpstream"
	"k8s.io/streaming/pkg/httpstream/spdy"
)

// tunnelConn is a connection whose bytes are the binary messages of a WebSocket: kubectl port-forward speaks SPDY in it, so that proxies on the way see
// nothing but a WebSocket (https://kep.k8s.io/4006).
type tunnelConn = clientforward.TunnelingConnection

// openTunnel upgrades a request to a WebSocket and returns the request that is in it, one to be upgraded to SPDY, and what answers it. A nil tunnel says
// that the client got an error.
func openTunnel(w http.ResponseWriter, r *http.Request) (http.ResponseWriter, *http.Request, *tunnelConn) {
	up := websocket.Upgrader{
		Subprotocols:    []string{portforward.WebsocketsSPDYTunnelingPortForwardV1},
		CheckOrigin:     func(*http.Request) bool { return true }, // who calls was asked before
		ReadBufferSize:  32 << 10,
		WriteBufferSize: 32 << 10,
	}
	if !slices.Contains(websocket.Subprotocols(r), portforward.WebsocketsSPDYTunnelingPortForwardV1) {
		http.Error(w, "unable to upgrade: no known subprotocol is offered", http.StatusBadRequest)
		return w, r, nil
	}
	conn, err := up.Upgrade(w, r, nil)
	if err != nil {
		return w, r, nil // Upgrade has answered
	}
	tunnel := clientforward.NewTunnelingConnection("server", conn)
	inner := r.Clone(r.Context())
	inner.Method = http.MethodPost
	inner.Header = http.Header{
		httpstream.HeaderConnection:      {httpstream.HeaderUpgrade},
		httpstream.HeaderUpgrade:         {spdy.HeaderSpdy31},
		httpstream.HeaderProtocolVersion: {portforward.PortForwardV1Name},
	}
	return &tunnelled{tunnel: tunnel, header: http.Header{}}, inner, tunnel
}

// tunnelled answers a request that came to be in a tunnel: nobody reads its head.
type tunnelled struct {
	tunnel *tunnelConn
	header http.Header
}

func (t *tunnelled) Header() http.Header         { return t.header }
func (t *tunnelled) WriteHeader(int)             {}
func (t *tunnelled) Write(b []byte) (int, error) { return len(b), nil }

// Hijack gives the tunnel away.
func (t *tunnelled) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return t.tunnel, bufio.NewReadWriter(bufio.NewReader(t.tunnel), bufio.NewWriter(t.tunnel)), nil
}
