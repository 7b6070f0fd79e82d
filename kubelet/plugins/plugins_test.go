package plugins

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	registration "k8s.io/kubelet/pkg/apis/pluginregistration/v1"

	"pilothouse.dev/pkg/logging"
)

// plugin presents itself at a socket.
type plugin struct {
	registration.UnimplementedRegistrationServer
	info  *registration.PluginInfo
	hangs bool
	told  chan *registration.RegistrationStatus
	srv   *grpc.Server
}

func (p *plugin) GetInfo(ctx context.Context, _ *registration.InfoRequest) (*registration.PluginInfo, error) {
	if p.hangs {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return p.info, nil
}

func (p *plugin) NotifyRegistrationStatus(_ context.Context, s *registration.RegistrationStatus) (*registration.RegistrationStatusResponse, error) {
	p.told <- s
	return &registration.RegistrationStatusResponse{}, nil
}

// serve starts a plugin; its end removes the socket.
func serve(t *testing.T, path string, p *plugin) *plugin {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	p.told, p.srv = make(chan *registration.RegistrationStatus, 100), grpc.NewServer()
	registration.RegisterRegistrationServer(p.srv, p)
	go func() { _ = p.srv.Serve(l) }() // ends with Stop
	t.Cleanup(p.srv.Stop)
	return p
}

func csi(name string) *plugin {
	return &plugin{info: &registration.PluginInfo{Type: registration.CSIPlugin, Name: name, Endpoint: "/csi/" + name, SupportedVersions: []string{"1.0.0"}}}
}

// room is a handler that tells what it is asked.
type room struct {
	mu     sync.Mutex
	refuse map[string]error
	here   map[string]Plugin
	said   chan string
}

func (r *room) Register(_ context.Context, p Plugin) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.refuse[p.Name]; err != nil {
		return err
	}
	r.here[p.Name] = p
	r.said <- "+" + p.Name
	return nil
}

func (r *room) Deregister(_ context.Context, name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.here, name)
	r.said <- "-" + name
}

func (r *room) accept(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.refuse, name)
}

type stage struct {
	*testing.T
	dir  string
	room *room
}

// await takes what the room was asked, and wants exactly that, in whatever order.
func (s *stage) await(want ...string) {
	s.Helper()
	missing := map[string]bool{}
	for _, w := range want {
		missing[w] = true
	}
	for len(missing) > 0 {
		select {
		case got := <-s.room.said:
			if !missing[got] {
				s.Fatalf("asked %s, want one of %v", got, missing)
			}
			delete(missing, got)
		case <-time.After(30 * time.Second):
			s.Fatalf("not asked: %v", missing)
		}
	}
}

func (s *stage) at(name string) string { return filepath.Join(s.dir, name) }

func begin(t *testing.T) *stage {
	dir, err := os.MkdirTemp("", "p") // short: a socket's path has at most 108 characters
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return &stage{T: t, dir: dir, room: &room{refuse: map[string]error{}, here: map[string]Plugin{}, said: make(chan string, 1000)}}
}

func (s *stage) run() {
	w := New(s.dir, map[string]Handler{registration.CSIPlugin: s.room}, logging.ForTest(s.T))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	s.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			s.Error(err)
		}
	})
}

// TestComeAndGo: plugins that were there before, that come, go, come again, in folders and among garbage.
func TestComeAndGo(t *testing.T) {
	s := begin(t)
	first := serve(t, s.at("first.sock"), csi("first"))
	for name, text := range map[string]string{"garbage": "x", ".hidden": "y"} {
		if err := os.WriteFile(s.at(name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	serve(t, s.at(".dot.sock"), csi("dot"))
	s.run()
	s.await("+first")
	if st := <-first.told; !st.PluginRegistered || st.Error != "" {
		t.Errorf("told %v", st)
	}
	if p := s.room.here["first"]; p.Endpoint != "/csi/first" || len(p.Versions) != 1 {
		t.Errorf("%+v", p)
	}
	second := serve(t, s.at("deep/er/second.sock"), csi("second"))
	s.await("+second")
	first.srv.Stop()
	s.await("-first")
	serve(t, s.at("first.sock"), csi("first"))
	s.await("+first")
	if err := os.RemoveAll(s.at("deep")); err != nil {
		t.Fatal(err)
	}
	s.await("-second")
	second.srv.Stop()
	serve(t, s.at("deep/er/second.sock"), csi("second"))
	s.await("+second")
	var names []string
	for i := range 40 {
		name := fmt.Sprint("many-", i)
		serve(t, s.at(name+".sock"), csi(name))
		names = append(names, "+"+name)
	}
	s.await(names...)
}

// TestReplaced: another life at the same path is taken in anew, and a name belongs to the socket that came last.
func TestReplaced(t *testing.T) {
	s := begin(t)
	s.run()
	serve(t, s.at("a.sock"), csi("disk"))
	s.await("+disk")
	if err := os.Remove(s.at("a.sock")); err != nil {
		t.Fatal(err)
	}
	s.await("-disk")
	serve(t, s.at("a.sock"), csi("other"))
	s.await("+other")

	old := serve(t, s.at("old.sock"), csi("tape"))
	s.await("+tape")
	serve(t, s.at("new.sock"), csi("tape"))
	s.await("+tape")
	old.srv.Stop()
	serve(t, s.at("last.sock"), csi("last")) // what was told of old.sock came before this
	s.await("+last")
	if s.room.here["tape"].Name == "" {
		t.Error("the end of the old one took the name from the new one")
	}
}

// TestTrouble: who hangs, lies or is refused keeps nobody waiting, is told why, and is tried again.
func TestTrouble(t *testing.T) {
	s := begin(t)
	s.room.refuse["slow"] = errors.New("not yet")
	for i := range 8 {
		p := csi("never")
		p.hangs = true
		serve(t, s.at(fmt.Sprint("hang-", i, ".sock")), p)
	}
	strange := serve(t, s.at("strange.sock"), &plugin{info: &registration.PluginInfo{Type: "Bottle", Name: "b"}})
	nameless := serve(t, s.at("nameless.sock"), csi(""))
	slow := serve(t, s.at("slow.sock"), csi("slow"))
	s.run()
	serve(t, s.at("good.sock"), csi("good"))
	s.await("+good")
	for p, want := range map[*plugin]string{strange: "no handler registered for plugin type: Bottle at socket " + s.at("strange.sock"), nameless: "has no name",
		slow: "RegisterPlugin error -- not yet"} {
		if st := <-p.told; st.PluginRegistered || !strings.Contains(st.Error, want) {
			t.Errorf("told %v, want %q", st, want)
		}
	}
	s.room.accept("slow")
	s.await("+slow")
}
