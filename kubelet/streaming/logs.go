package streaming

import (
	"context"
	"encoding/base64"
	"io"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/gorilla/websocket"
	"k8s.io/streaming/pkg/httpstream/wsstream"
)

// The ways in which bytes are put into a WebSocket's messages: as they are, or as text.
const (
	binaryProtocol = "binary.k8s.io"
	base64Protocol = "base64.binary.k8s.io"
)

// IsWebSocket says whether a client that reads wants a WebSocket to read from.
func IsWebSocket(r *http.Request) bool { return wsstream.IsWebSocketRequest(r) }

// Send answers a request with a WebSocket in which each write of write is a message, until it returns, or the client goes away, which ends ctx. The first
// message is empty: it says that the connection stands. The error is write's; that the client could not be answered, it was told.
func (s *Streams) Send(w http.ResponseWriter, r *http.Request, write func(ctx context.Context, to io.Writer) error) error {
	asked := websocket.Subprotocols(r)
	if len(asked) > 0 && !slices.Contains(asked, binaryProtocol) && !slices.Contains(asked, base64Protocol) {
		http.Error(w, "unable to upgrade: no known subprotocol is offered", http.StatusBadRequest)
		return nil
	}
	up := websocket.Upgrader{Subprotocols: []string{binaryProtocol, base64Protocol}, CheckOrigin: func(*http.Request) bool { return true }}
	conn, err := up.Upgrade(w, r, nil)
	if err != nil {
		return nil // Upgrade has answered
	}
	ctx, cancel := context.WithCancel(r.Context())
	var reading sync.WaitGroup
	reading.Go(func() { // what a client says is not heard but for its leaving
		defer cancel()
		for {
			if _, _, err := conn.NextReader(); err != nil {
				return
			}
		}
	})
	defer reading.Wait()
	defer conn.Close()
	defer cancel()
	out := messages{conn: conn, kind: websocket.BinaryMessage}
	if conn.Subprotocol() == base64Protocol {
		out.kind = websocket.TextMessage
	}
	if _, err := out.Write(nil); err != nil {
		return nil
	}
	if err := write(ctx, out); err != nil && ctx.Err() == nil {
		return err
	}
	// A client that has gone has no use for it.
	conn.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(websocket.CloseNormalClosure, ""), time.Now().Add(time.Second))
	return nil
}

// messages writes each piece as a message.
type messages struct {
	conn *websocket.Conn
	kind int
}

func (m messages) Write(b []byte) (int, error) {
	body := b
	if m.kind == websocket.TextMessage {
		body = base64.StdEncoding.AppendEncode(nil, b)
	}
	if err := m.conn.WriteMessage(m.kind, body); err != nil {
		return 0, err
	}
	return len(b), nil
}
