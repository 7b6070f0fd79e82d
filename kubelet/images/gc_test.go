package images_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"pilothouse.dev/kubelet/containers"
	"pilothouse.dev/kubelet/images"
)

// users are the containers of a node, and what was told.
type users struct {
	inUse []string
	told  []string
}

func (u *users) List(context.Context) (containers.Listing, error) {
	var l containers.Listing
	for _, id := range u.inUse {
		l.Containers = append(l.Containers, containers.Container{ImageID: id})
	}
	return l, nil
}
func (u *users) Folder(context.Context) (string, error) { return "/", nil }
func (u *users) Eventf(_ runtime.Object, _, reason, format string, args ...any) {
	u.told = append(u.told, reason+": "+fmt.Sprintf(format, args...))
}

// variant gives the registry another image: the same layer under another config.
func (r *registry) variant(t *testing.T, tag string, env string) {
	t.Helper()
	layer := r.files[r.layer]
	config := r.put(t, "application/vnd.oci.image.config.v1+json", map[string]any{"architecture": "amd64", "os": "linux",
		"config": map[string]any{"Env": []string{env}}, "rootfs": map[string]any{"type": "layers", "diff_ids": []string{layer.Digest}}})
	r.put(t, r.manifest.MediaType, map[string]any{"schemaVersion": 2, "mediaType": r.manifest.MediaType,
		"config": map[string]any{"mediaType": config.MediaType, "digest": config.Digest, "size": len(config.Data)},
		"layers": []any{map[string]any{"mediaType": layer.MediaType, "digest": layer.Digest, "size": len(layer.Data)}}}, tag)
}

// TestGarbage: the images that were unused for longest go until there is room; those in use, pinned, mounted or young stay.
func TestGarbage(t *testing.T) {
	reg := plainRegistry(t)
	store := newStore(t, images.Config{PlainHTTP: []string{reg.host}, Pinned: []string{reg.host + "/app:flagged"}})
	ctx := context.Background()
	ids := map[string]string{}
	get := func(tag string) {
		t.Helper()
		img, err := store.Ensure(ctx, images.PullSpec{Image: reg.host + "/app:" + tag, Policy: corev1.PullIfNotPresent})
		if err != nil {
			t.Fatal(err)
		}
		ids[tag] = img.ID
	}
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{UID: "p"}}
	dir := filepath.Join(t.TempDir(), "volume")
	for _, tag := range []string{"old", "used", "pinned", "flagged", "mounted", "new"} {
		reg.variant(t, tag, "IS="+tag)
		get(tag)
		store.Later(10 * time.Minute)
	}
	reg.put(t, reg.manifest.MediaType, map[string]any{}, "unused")
	if _, err := store.Mount(ctx, images.PullSpec{Image: reg.host + "/app:mounted", Policy: corev1.PullNever, Pod: pod}, "v", dir); err != nil {
		t.Fatal(err)
	}
	if err := store.Pin(ctx, reg.host+"/app:pinned"); err != nil {
		t.Fatal(err)
	}
	u := &users{inUse: []string{ids["used"]}}
	left := func() (tags []string) {
		t.Helper()
		list, err := store.List(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for tag, id := range ids {
			if slices.ContainsFunc(list, func(i images.Image) bool { return i.ID == id }) {
				tags = append(tags, tag)
			}
		}
		slices.Sort(tags)
		return tags
	}
	check := func(what string, want ...string) {
		t.Helper()
		if got := left(); !slices.Equal(got, want) {
			t.Errorf("%s: left are %v, want %v", what, got, want)
		}
	}
	young := images.NewCollector(images.GCConfig{Node: "n", High: 85, Low: 80, MinAge: 24 * time.Hour}, images.GCParts{Images: store, Containers: u, Events: u}, nopLog())
	if err := young.Turn(ctx, 1000, 100); err == nil || !strings.Contains(err.Error(), "Attempted to free 100 bytes, but only found 0 bytes eligible to free.") {
		t.Errorf("all are young: %v", err)
	}
	c := images.NewCollector(images.GCConfig{Node: "n", High: 85, Low: 80, MinAge: 2 * time.Minute}, images.GCParts{Images: store, Containers: u, Events: u}, nopLog())
	if err := c.Turn(ctx, 1000, 160); err != nil {
		t.Error(err)
	}
	check("there is room", "flagged", "mounted", "new", "old", "pinned", "used")
	get("old") // an image that a pod was given is no old one
	store.Later(2 * time.Minute)
	get("new")
	store.Later(2 * time.Minute)
	if err := c.Turn(ctx, 1000, 150); err != nil {
		t.Error(err)
	}
	check("the longest unused goes first", "flagged", "mounted", "new", "pinned", "used")
	if err := c.Turn(ctx, 1<<40, 0); err == nil {
		t.Error("all was freed that there is not")
	}
	check("the rest goes", "flagged", "mounted", "pinned", "used")
	if err := c.Turn(ctx, 0, 0); err == nil || err.Error() != "invalid capacity 0 on image filesystem" {
		t.Errorf("no disk: %v", err)
	}
	if len(u.told) != 3 || !strings.HasPrefix(u.told[0], "FreeDiskSpaceFailed: Failed to garbage collect required amount of images. Attempted") ||
		u.told[2] != "InvalidDiskCapacity: invalid capacity 0 on image filesystem" {
		t.Errorf("told: %q", u.told)
	}
	// By age: nobody knows how long before this collector began.
	aged := images.NewCollector(images.GCConfig{Node: "n", High: 100, Low: 80, MaxAge: time.Hour}, images.GCParts{Images: store, Containers: u, Events: u}, nopLog())
	if err := aged.Turn(ctx, 1000, 0); err != nil {
		t.Error(err)
	}
	if err := store.Unpin(ctx, reg.host+"/app:pinned"); err != nil {
		t.Fatal(err)
	}
	check("it has just begun", "flagged", "mounted", "pinned", "used")
	store.Later(2 * time.Hour)
	if err := aged.Turn(ctx, 1000, 0); err != nil {
		t.Error(err)
	}
	check("too old", "flagged", "mounted", "used")
	if err := store.Unmount(dir); err != nil {
		t.Fatal(err)
	}
	if err := store.Release(ctx, pod.UID); err != nil {
		t.Fatal(err)
	}
	if removed, err := store.RemoveUnused(ctx, map[string]bool{ids["used"]: true}); err != nil || !slices.Equal(removed, []string{ids["mounted"]}) {
		t.Errorf("after the volume's end: removed %v, %v", removed, err)
	}
	for _, cfg := range []images.GCConfig{{High: 101}, {High: 80, Low: 80}, {High: 80, Low: -1}, {High: 80, Low: 70, MaxAge: 1, MinAge: 2}} {
		if cfg.Check() == nil {
			t.Errorf("%+v was taken", cfg)
		}
	}
}

// TestVolume: a volume shows the image's files, nobody can change them, and it is found again by a kubelet that knows nothing.
func TestVolume(t *testing.T) {
	reg := plainRegistry(t)
	store := newStore(t, images.Config{PlainHTTP: []string{reg.host}})
	ctx := context.Background()
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{UID: types.UID("p")}}
	dir := filepath.Join(t.TempDir(), "volume")
	spec := images.PullSpec{Image: reg.host + "/app:1", Pod: pod}
	if _, err := store.Mount(ctx, images.PullSpec{Image: reg.host + "/app:none", Pod: pod}, "v", dir); images.Reason(err) != "ErrImagePull" {
		t.Errorf("no such image: %v", err)
	}
	img, err := store.Mount(ctx, spec, "v", dir)
	if err != nil || !img.Pulled {
		t.Fatalf("%+v, %v", img, err)
	}
	if data, err := os.ReadFile(filepath.Join(dir, "etc/passwd")); err != nil || !strings.Contains(string(data), "app:x:1000") {
		t.Errorf("a file of the image: %q, %v", data, err)
	}
	if err := os.WriteFile(filepath.Join(dir, "new"), nil, 0o644); err == nil {
		t.Error("the volume can be written")
	}
	again := images.New(images.Config{}, store.Daemon(), nopLog())
	if img, err := again.Mount(ctx, spec, "v", dir); err != nil || img.ID != "" || img.Ref != reg.host+"/app@"+reg.manifest.Digest {
		t.Errorf("mounted already: %+v, %v", img, err)
	}
	// A kubelet that ended between making the view and mounting it, after which the image is another.
	if err := store.Unmount(dir); err != nil {
		t.Fatal(err)
	}
	reg.variant(t, "2", "IS=2")
	if _, err := store.Mount(ctx, images.PullSpec{Image: reg.host + "/app:2", Pod: pod}, "v", dir); err != nil {
		t.Errorf("with a view that was left: %v", err)
	}
	if n, err := store.Views(ctx); err != nil || n != 1 {
		t.Errorf("%d views, %v", n, err)
	}
	if err := store.Unmount(dir); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := again.Release(ctx, pod.UID); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := store.Views(ctx); err != nil || n != 0 {
		t.Errorf("after release: %d views, %v", n, err)
	}
	if n, err := store.Leases(ctx); err != nil || n != 1 { // that of the image that is not there; it ends by itself
		t.Errorf("%d leases, %v", n, err)
	}
	if _, err := store.RemoveUnused(ctx, nil); err != nil {
		t.Fatal(err)
	}
	if n, err := store.Leases(ctx); err != nil || n != 0 {
		t.Errorf("after cleaning: %d leases, %v", n, err)
	}
}
