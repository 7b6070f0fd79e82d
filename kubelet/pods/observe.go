package pods

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"pilothouse.dev/kubelet/containers"
	"pilothouse.dev/kubelet/logs"
	"pilothouse.dev/kubelet/volumes"
	"pilothouse.dev/pkg/pod"
)

// observe looks at the pod's sandboxes and containers, if something happened to them.
func (w *worker) observe(ctx context.Context, s *state) error {
	if !s.dirty {
		return nil
	}
	l, err := w.parts.Observer.ListPod(ctx, string(w.uid))
	if err != nil {
		return err
	}
	s.dirty = false
	s.take(l)
	for kind, c := range pod.Containers(s.pod) {
		for i, r := range s.seen.Records[c.Name] {
			if i > 1 {
				break
			}
			switch r.State {
			case containers.Running:
				s.assume(r.ID, kind, c)
			case containers.Exited:
				if _, read := s.notes[r.ID]; !read {
					s.notes[r.ID] = w.note(ctx, c, r)
				}
			}
		}
	}
	s.prune()
	return w.measure(s)
}

// prune forgets what was known of containers that have no record any more.
func (s *state) prune() {
	gone := func(id string) bool { return !s.known(id) }
	maps.DeleteFunc(s.notes, func(id, _ string) bool { return gone(id) })
	maps.DeleteFunc(s.seen.Sick, func(id string, _ Sickness) bool { return gone(id) })
	for _, of := range []map[string]bool{s.ready, s.seen.Started, s.seen.Hooked, s.seen.Replaced} {
		maps.DeleteFunc(of, func(id string, _ bool) bool { return gone(id) })
	}
}

// take sorts a listing: sandboxes and containers, newest first.
func (s *state) take(l containers.Listing) {
	s.seen.Sandbox = nil
	for i := range l.Sandboxes {
		if box := &l.Sandboxes[i]; s.seen.Sandbox == nil || box.Created.After(s.seen.Sandbox.Created) {
			s.seen.Sandbox = box
		}
	}
	if s.seen.Sandbox == nil { // none was made yet, or somebody took it away
		delete(s.seen.Done, "sandbox")
		delete(s.seen.Done, "files")
	}
	s.seen.Records = map[string][]containers.Container{}
	was, now := s.ends, time.Now()
	s.ends = moments{}
	for _, r := range l.Containers {
		if r.State == containers.Exited {
			if held, ok := was[r.ID]; ok {
				s.ends[r.ID] = held
			}
			r.Finished = s.ends.hold(r.ID, r.Finished, now)
		}
		s.seen.Records[r.Name] = append(s.seen.Records[r.Name], r)
	}
	for _, rs := range s.seen.Records {
		slices.SortFunc(rs, func(a, b containers.Container) int {
			if a.Attempt != b.Attempt {
				return b.Attempt - a.Attempt
			}
			return b.Created.Compare(a.Created)
		})
	}
}

// assume is what holds of a running container of which nothing was heard: without a probe it is up and ready, unless it is just being started.
func (s *state) assume(id string, kind pod.Kind, c *corev1.Container) {
	if s.seen.Doing["container/"+c.Name].Verb == Start {
		return
	}
	if _, known := s.seen.Started[id]; !known {
		s.seen.Started[id] = c.StartupProbe == nil || kind == pod.Ephemeral
	}
	if _, known := s.ready[id]; !known {
		s.ready[id] = c.ReadinessProbe == nil
	}
}

const noteLimit = 4096

// noteFile is where a container may leave a termination message.
func (w *worker) noteFile(container string, attempt int) string {
	return filepath.Join(volumes.PodDir(w.cfg.Root, w.uid), "notes", container, strconv.Itoa(attempt))
}

// note reads the termination message of an ended container, or the end of its log where the pod asks for that.
func (w *worker) note(ctx context.Context, c *corev1.Container, r containers.Container) string {
	text, err := end(w.noteFile(c.Name, r.Attempt))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Sprintf("Error on reading termination log: %v", err)
	}
	if text != "" || c.TerminationMessagePolicy != corev1.TerminationMessageFallbackToLogsOnError || r.ExitCode == 0 || r.LogPath == "" {
		return text
	}
	var b bytes.Buffer
	if err := logs.Read(ctx, r.LogPath, logs.Options{TailLines: new(int64(80))}, &b); err != nil {
		return fmt.Sprintf("Error on reading termination message from logs: %v", err)
	}
	tail := b.Bytes()
	return strings.ToValidUTF8(string(tail[max(0, len(tail)-2048):]), "\uFFFD")
}

// end is the last part of a file, as text that the API can hold. It is the container's file: it may have become anything.
func end(path string) (string, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return "", err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", err
	}
	data := make([]byte, min(info.Size(), noteLimit))
	n, err := f.ReadAt(data, info.Size()-int64(len(data)))
	if err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	return strings.ToValidUTF8(string(data[:n]), "\uFFFD"), nil
}

// containerOf takes the runtime's name off a container ID of a status.
func containerOf(statusID string) (string, bool) {
	return strings.CutPrefix(statusID, "containerd://")
}

// stub is a pod that nobody wishes for, as its sandbox remembers it: enough to end it.
func stub(uid types.UID, box containers.Sandbox) *corev1.Pod {
	p := &corev1.Pod{}
	p.UID, p.Namespace, p.Name = uid, box.PodNamespace, box.PodName
	p.Spec.HostNetwork = box.HostNetwork
	if s, err := strconv.ParseInt(box.Labels[labelGrace], 10, 64); err == nil {
		p.Spec.TerminationGracePeriodSeconds = &s
	}
	return p
}
