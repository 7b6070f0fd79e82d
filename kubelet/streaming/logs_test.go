package streaming

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

func TestSend(t *testing.T) {
	s, left := New(nil, time.Minute), make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := s.Send(w, r, func(ctx context.Context, to io.Writer) error {
			if _, err := fmt.Fprint(to, "one\n"); err != nil {
				return err
			}
			if r.URL.Path == "/follow" {
				<-ctx.Done()
				close(left)
				return ctx.Err()
			}
			_, err := fmt.Fprint(to, "two\n")
			return err
		}); err != nil {
			t.Error(err)
		}
	}))
	t.Cleanup(srv.Close)
	url := "ws" + strings.TrimPrefix(srv.URL, "http")
	for protocol, want := range map[string][]string{"": {"", "one\n", "two\n"}, binaryProtocol: {"", "one\n", "two\n"}, base64Protocol: {"", "b25lCg==", "dHdvCg=="}} {
		d := websocket.Dialer{}
		if protocol != "" {
			d.Subprotocols = []string{"unknown", protocol}
		}
		c, _, err := d.Dial(url, nil)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for {
			kind, b, err := c.ReadMessage()
			if websocket.IsCloseError(err, websocket.CloseNormalClosure) {
				break
			}
			if err != nil || (kind == websocket.TextMessage) != (protocol == base64Protocol) {
				t.Fatalf("%q: message of kind %d, %v", protocol, kind, err)
			}
			got = append(got, string(b))
		}
		if fmt.Sprintf("%q", got) != fmt.Sprintf("%q", want) {
			t.Errorf("%q: got %q, want %q", protocol, got, want)
		}
		c.Close()
	}
	if _, resp, err := (&websocket.Dialer{Subprotocols: []string{"unknown"}}).Dial(url, nil); !errors.Is(err, websocket.ErrBadHandshake) || resp.StatusCode != http.StatusBadRequest {
		t.Errorf("an unknown protocol: %v", err)
	}
	c, _, err := websocket.DefaultDialer.Dial(url+"/follow", nil)
	if err != nil {
		t.Fatal(err)
	}
	for got := ""; got != "one\n"; { // it leaves while it waits for more
		_, b, err := c.ReadMessage()
		if err != nil {
			t.Fatal(err)
		}
		got = string(b)
	}
	c.Close()
	select {
	case <-left:
	case <-time.After(30 * time.Second):
		t.Error("a client that left is still written to")
	}
}
