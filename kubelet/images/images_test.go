package images_test

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"pilothouse.dev/kubelet/containers/nodetest"
	"pilothouse.dev/kubelet/images"
)

func TestEnsure(t *testing.T) {
	reg := plainRegistry(t)
	store := newStore(t, images.Config{PlainHTTP: []string{reg.host}})
	ctx := context.Background()
	name := reg.host + "/app:1"

	if _, err := store.Ensure(ctx, images.PullSpec{Image: name, Policy: corev1.PullNever}); images.Reason(err) != "ErrImageNeverPull" ||
		err.Error() != `Container image "`+name+`" is not present with pull policy of Never` {
		t.Fatalf("never, not here: got %v", err)
	}
	// Many ask at once, one pull is made.
	gate := make(chan struct{})
	reg.first(func(_ http.ResponseWriter, req *http.Request) bool {
		if isLayer(req, reg) {
			<-gate
		}
		return false
	})
	var began atomic.Int64
	var wait, all sync.WaitGroup
	all.Add(8)
	for range 8 {
		wait.Go(func() {
			img, err := store.Ensure(ctx, images.PullSpec{Image: name, Policy: corev1.PullIfNotPresent, OnPull: func() { began.Add(1); all.Done() }})
			if err != nil || !img.Pulled || img.Waited < img.Took || img.Took == 0 || img.Name != name || !strings.HasPrefix(img.ID, "sha256:") {
				t.Errorf("got %+v, %v", img, err)
			}
		})
	}
	all.Wait()
	close(gate)
	wait.Wait()
	if began.Load() != 8 || reg.times(reg.layer) != 1 {
		t.Errorf("%d wishes were told, the layer was fetched %d times", began.Load(), reg.times(reg.layer))
	}
	down := func(w http.ResponseWriter, _ *http.Request) bool {
		http.Error(w, "out of order", http.StatusServiceUnavailable)
		return true
	}
	reg.first(down)
	img, err := store.Ensure(ctx, images.PullSpec{Image: name, Policy: corev1.PullIfNotPresent})
	if err != nil || img.Pulled || img.StopSignal != "SIGUSR1" || img.WorkingDir != "/tmp" || len(img.Cmd) != 3 || img.Size < 1<<20 {
		t.Errorf("here already: %+v, %v", img, err)
	}
	if _, err := store.Ensure(ctx, images.PullSpec{Image: name, Policy: corev1.PullNever}); err != nil {
		t.Errorf("never, but here: %v", err)
	}
	if _, err := store.Ensure(ctx, images.PullSpec{Image: name, Policy: corev1.PullAlways}); images.Reason(err) != "RegistryUnavailable" ||
		!strings.HasPrefix(err.Error(), "image pull failed for "+name+" because the registry is unavailable: ") {
		t.Errorf("always, registry down: got %v", err)
	}
	reg.first(nil)
	if img, err := store.Ensure(ctx, images.PullSpec{Image: name, Policy: corev1.PullAlways, PodUID: "other"}); err != nil || !img.Pulled {
		t.Errorf("always, registry up: %+v, %v", img, err)
	}
	byDigest := reg.host + "/app@" + reg.manifest.Digest
	for _, image := range []string{byDigest, reg.host + "/app:other@" + reg.manifest.Digest} {
		if got, err := store.Ensure(ctx, images.PullSpec{Image: image}); err != nil || got.Pulled || got.ID != img.ID {
			t.Errorf("by digest: %+v, %v", got, err)
		}
	}

	list, err := store.List(ctx)
	if err != nil || len(list) != 1 || !slices.Equal(list[0].Names, []string{name}) || !slices.Equal(list[0].Digests, []string{byDigest}) {
		t.Fatalf("list: %+v, %v", list, err)
	}
	if removed, err := store.RemoveUnused(ctx, nil); err != nil || len(removed) != 0 {
		t.Errorf("just given to a pod, yet removed: %v, %v", removed, err)
	}
	store.Later(2 * time.Minute)
	if removed, err := store.RemoveUnused(ctx, map[string]bool{img.ID: true}); err != nil || len(removed) != 0 {
		t.Errorf("in use, yet removed: %v, %v", removed, err)
	}
	if removed, err := store.RemoveUnused(ctx, nil); err != nil || !slices.Equal(removed, []string{img.ID}) {
		t.Errorf("unused: removed %v, %v", removed, err)
	}
	if list, err := store.List(ctx); err != nil || len(list) != 0 {
		t.Errorf("after removal: %+v, %v", list, err)
	}
	if err := store.Remove(ctx, name); err != nil {
		t.Errorf("removing again: %v", err)
	}
}

func TestFailures(t *testing.T) {
	reg := plainRegistry(t)
	store := newStore(t, images.Config{PlainHTTP: []string{reg.host, "127.0.0.1:1"}, BackOff: time.Hour, MaxBackOff: time.Hour})
	ctx := context.Background()
	for _, name := range []string{"", "app/UPPER", "a b", "-x", "x:" + strings.Repeat("y", 200)} {
		if _, err := store.Ensure(ctx, images.PullSpec{Image: name}); images.Reason(err) != "InvalidImageName" || !strings.HasPrefix(err.Error(), "Failed to apply default image tag") {
			t.Errorf("%q: got %v", name, err)
		}
	}
	none := images.PullSpec{Image: reg.host + "/app:none", PodUID: "a"}
	if _, err := store.Ensure(ctx, none); images.Reason(err) != "ErrImagePull" || !strings.Contains(err.Error(), "manifest unknown") || !strings.Contains(err.Error(), "not found") {
		t.Errorf("no such tag: got %v", err)
	}
	if _, err := store.Ensure(ctx, none); images.Reason(err) != "ImagePullBackOff" ||
		!strings.HasPrefix(err.Error(), `Back-off pulling image "`+none.Image+`": ErrImagePull: failed to pull and unpack image`) {
		t.Errorf("again at once: got %v", err)
	}
	none.PodUID = "b"
	if _, err := store.Ensure(ctx, none); images.Reason(err) != "ErrImagePull" {
		t.Errorf("another pod: got %v", err)
	}
	if _, err := store.Ensure(ctx, images.PullSpec{Image: "127.0.0.1:1/app:1"}); images.Reason(err) != "RegistryUnavailable" || !strings.Contains(err.Error(), "connection refused") {
		t.Errorf("nobody there: got %v", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := store.Ensure(ctx, images.PullSpec{Image: reg.host + "/app:1", PodUID: "c"}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: got %v", err)
	}
}

// A pull goes on while somebody waits for it, ends with the last one, and the next goes on from where it ended.
func TestGivenUp(t *testing.T) {
	reg := plainRegistry(t)
	store := newStore(t, images.Config{PlainHTTP: []string{reg.host}})
	held, left := make(chan struct{}, 1), make(chan struct{})
	reg.first(func(w http.ResponseWriter, req *http.Request) bool {
		if !isLayer(req, reg) {
			return false
		}
		data := reg.files[reg.layer].Data
		w.Header().Set("Content-Length", "2147483647")
		if _, err := w.Write(data[:len(data)-1]); err != nil {
			t.Error(err)
		}
		w.(http.Flusher).Flush()
		held <- struct{}{}
		<-req.Context().Done() // the client has gone
		close(left)
		return true
	})
	begin := func(ctx context.Context) chan error {
		ended := make(chan error, 1)
		joined := make(chan struct{})
		go func() {
			_, err := store.Ensure(ctx, images.PullSpec{Image: reg.host + "/app:1", OnPull: func() { close(joined) }})
			ended <- err
		}()
		<-joined
		return ended
	}
	first, cancelFirst := context.WithCancel(context.Background())
	second, cancelSecond := context.WithCancel(context.Background())
	a := begin(first)
	b := begin(second)
	<-held
	if err := store.Brought(t.Context()); err != nil {
		t.Fatal(err)
	}
	cancelFirst()
	if err := <-a; !errors.Is(err, context.Canceled) {
		t.Errorf("first: %v", err)
	}
	select {
	case <-left:
		t.Error("the pull was given up though somebody waits for it")
	default:
	}
	cancelSecond()
	if err := <-b; !errors.Is(err, context.Canceled) {
		t.Errorf("second: %v", err)
	}
	<-left
	reg.first(nil)
	if img, err := store.Ensure(context.Background(), images.PullSpec{Image: reg.host + "/app:1"}); err != nil || !img.Pulled {
		t.Fatalf("then: %+v, %v", img, err)
	}
	if len(reg.ranges) != 1 || strings.HasPrefix(reg.ranges[0], "bytes=0-") {
		t.Errorf("the layer was not gone on with: %v", reg.ranges)
	}
}

func TestImport(t *testing.T) {
	store := newStore(t, images.Config{})
	ctx := context.Background()
	names, err := store.Import(ctx, nodetest.Archive(t, "busybox:1"))
	if err != nil || !slices.Equal(names, []string{"docker.io/library/busybox:1"}) {
		t.Fatalf("got %v, %v", names, err)
	}
	if img, err := store.Ensure(ctx, images.PullSpec{Image: "busybox:1", Policy: corev1.PullNever}); err != nil || img.Name != names[0] {
		t.Errorf("got %+v, %v", img, err)
	}
	if err := store.Remove(ctx, "busybox:1"); err != nil {
		t.Fatal(err)
	}
	if list, err := store.List(ctx); err != nil || len(list) != 0 {
		t.Errorf("after removal: %+v, %v", list, err)
	}
	if _, err := store.Import(ctx, "/dev/null"); err == nil {
		t.Error("an empty archive was taken")
	}
}
