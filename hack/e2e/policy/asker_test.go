package policy

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"golang.org/x/net/websocket"
	"k8s.io/client-go/rest"
)

// asker is a testapp that runs in a pod beside its server and probes what it is told to. It is spoken to over exec, on the node, so policies
// have no say in it. Not safe for use by several at once.
type asker struct{ ws *websocket.Conn }

// roundTime is how long a pod tries to reach what it can't. What it can takes a few milliseconds.
const roundTime = 400 * time.Millisecond

// ask starts one (https://kubernetes.io/docs/reference/generated/kubernetes-api: pods/exec, v4.channel.k8s.io).
func ask(ctx context.Context, config *rest.Config, ns, pod string) (*asker, error) {
	base, _, err := rest.DefaultServerUrlFor(config)
	if err != nil {
		return nil, err
	}
	to := *base
	to.Scheme, to.Path = "wss", "/api/v1/namespaces/"+ns+"/pods/"+pod+"/exec"
	to.RawQuery = url.Values{"stdin": {"1"}, "stdout": {"1"}, "stderr": {"1"}, "container": {"c"},
		"command": {"/testapp", "probe", "-timeout=" + roundTime.String()}}.Encode()
	wc, err := websocket.NewConfig(to.String(), base.String())
	if err != nil {
		return nil, err
	}
	wc.Protocol = []string{"v4.channel.k8s.io"}
	if wc.TlsConfig, err = rest.TLSConfigFor(config); err != nil {
		return nil, err
	}
	if config.BearerToken != "" {
		wc.Header.Set("Authorization", "Bearer "+config.BearerToken)
	}
	ws, err := wc.DialContext(ctx)
	if err != nil {
		return nil, err
	}
	return &asker{ws}, nil
}

func (a *asker) close() { a.ws.Close() } // its pod may be gone already

// reaches says of each target, NAME=tcp://… or NAME=udp://…, whether the pod reaches it.
func (a *asker) reaches(targets []string) (map[string]bool, error) {
	if err := a.ws.SetDeadline(time.Now().Add(roundTime + patience)); err != nil {
		return nil, err
	}
	if err := websocket.Message.Send(a.ws, append([]byte{0}, strings.Join(targets, " ")+"\n"...)); err != nil {
		return nil, fmt.Errorf("asking: %w", err)
	}
	var said strings.Builder
	for !strings.HasSuffix(said.String(), "\n\n") {
		var message []byte
		if err := websocket.Message.Receive(a.ws, &message); err != nil {
			return nil, fmt.Errorf("after %q: %w", said.String(), err)
		}
		switch {
		case len(message) < 2: // the beginning of a channel
		case message[0] == 1:
			said.Write(message[1:])
		default:
			return nil, errors.New(string(message[1:]))
		}
	}
	got := map[string]bool{}
	for line := range strings.Lines(strings.TrimSpace(said.String())) {
		name, verdict, _ := strings.Cut(strings.TrimSpace(line), " ")
		got[name] = verdict == "yes"
	}
	return got, nil
}
