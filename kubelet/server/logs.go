package server

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/gorilla/mux"
	corev1 "k8s.io/api/core/v1"

	"pilothouse.dev/kubelet/containers"
	"pilothouse.dev/kubelet/logs"
	"pilothouse.dev/kubelet/streaming"
	"pilothouse.dev/pkg/pod"
)

// logs answers with what a container printed.
func (s *Server) logs(w http.ResponseWriter, r *http.Request) error {
	v, q := mux.Vars(r), r.URL.Query()
	p, err := s.pod(v["namespace"], v["pod"], "")
	if err != nil {
		return err
	}
	name := v["container"]
	if c, _ := pod.Container(p, name); c == nil {
		return fail(http.StatusNotFound, "container %q not found in pod %q", name, p.Name)
	}
	opts, err := logOptions(q, time.Now())
	if err != nil {
		return err
	}
	attempt, running, err := s.attempt(r, p, name, truth(q.Get("previous")))
	if err != nil {
		return err
	}
	if opts.Follow && running != "" {
		if opts.Ended, err = s.parts.Runtime.Finished(r.Context(), running); err != nil && !errors.Is(err, containers.ErrNotFound) {
			return err
		}
	}
	if opts.Ended == nil {
		opts.Follow = false // it prints no more
	}
	path := logs.Path(s.cfg.Logs, p.Namespace, p.Name, string(p.UID), name, attempt)
	if streaming.IsWebSocket(r) {
		if _, err := os.Stat(path); err != nil {
			return fail(http.StatusNotFound, "container %q in pod %q has no log", name, p.Name)
		}
		return s.parts.Streams.Send(w, r, func(ctx context.Context, to io.Writer) error { return logs.Read(ctx, path, opts, to) })
	}
	w.Header().Set("Content-Type", "text/plain")
	out := &flusher{w: w, flush: opts.Follow}
	if opts.Follow {
		out.Flush() // the client sees at once that it is being served
	}
	err = logs.Read(r.Context(), path, opts, out)
	switch {
	case errors.Is(err, fs.ErrNotExist) && !out.wrote && truth(q.Get("previous")):
		return noPrevious(p, name)
	case errors.Is(err, fs.ErrNotExist) && !out.wrote:
		return fail(http.StatusNotFound, "container %q in pod %q has no log", name, p.Name)
	case out.wrote:
		return nil // too late for an error; the connection ends
	}
	return err
}

// attempt finds which run of the container is meant, and the ID of one that may still print.
func (s *Server) attempt(r *http.Request, p *corev1.Pod, name string, previous bool) (attempt int, running string, err error) {
	l, err := s.parts.Runtime.ListPod(r.Context(), string(p.UID))
	if err != nil {
		return 0, "", err
	}
	attempt = -1
	for _, c := range l.Containers {
		if c.Name == name && c.State != containers.Created && c.Attempt > attempt {
			attempt, running = c.Attempt, c.ID
		}
	}
	if st := pod.ContainerStatus(p, name); attempt < 0 && st != nil && (st.ContainerID != "" || st.LastTerminationState.Terminated != nil) {
		attempt = int(st.RestartCount) // its record is gone, its log need not be
	}
	switch {
	case previous && attempt <= 0:
		return 0, "", noPrevious(p, name)
	case previous:
		return attempt - 1, "", nil
	case attempt < 0:
		return 0, "", fail(http.StatusBadRequest, "container %q in pod %q is waiting to start: %s", name, p.Name, waiting(p, name))
	}
	return attempt, running, nil
}

func noPrevious(p *corev1.Pod, name string) error {
	return fail(http.StatusBadRequest, "previous terminated container %q in pod %q not found", name, p.Name)
}

// waiting is why a container has not started yet, in upstream's words.
func waiting(p *corev1.Pod, name string) string {
	st := pod.ContainerStatus(p, name)
	if st == nil || st.State.Waiting == nil || st.State.Waiting.Reason == "" {
		return "ContainerCreating"
	}
	switch st.State.Waiting.Reason {
	case "ErrImagePull":
		return "image can't be pulled"
	case "ImagePullBackOff":
		return "trying and failing to pull image"
	}
	return st.State.Waiting.Reason
}

func truth(s string) bool {
	b, err := strconv.ParseBool(s)
	return err == nil && b
}

// logOptions reads the query of a log request.
func logOptions(q url.Values, now time.Time) (logs.Options, error) {
	o := logs.Options{Follow: truth(q.Get("follow")), Timestamps: truth(q.Get("timestamps"))}
	number := func(key string) (*int64, error) {
		text := q.Get(key)
		if text == "" {
			return nil, nil
		}
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil || n < 0 {
			return nil, fail(http.StatusBadRequest, "%s: %q is no number of 0 or more", key, text)
		}
		return &n, nil
	}
	var err error
	if o.TailLines, err = number("tailLines"); err != nil {
		return o, err
	}
	if o.LimitBytes, err = number("limitBytes"); err != nil {
		return o, err
	}
	seconds, err := number("sinceSeconds")
	if err != nil {
		return o, err
	}
	if seconds != nil {
		const most = 1 << 33 // more does not fit into a Duration
		o.Since = now.Add(-time.Duration(min(*seconds, most)) * time.Second)
	}
	if text := q.Get("sinceTime"); text != "" {
		if o.Since, err = time.Parse(time.RFC3339, text); err != nil {
			return o, fail(http.StatusBadRequest, "sinceTime: %q is no time", text)
		}
	}
	switch text := q.Get("stream"); strings.ToLower(text) {
	case "", "all":
	case "stdout", "stderr":
		o.Stream = strings.ToLower(text)
	default:
		return o, fail(http.StatusBadRequest, "stream: %q is neither Stdout nor Stderr nor All", text)
	}
	return o, nil
}

// flusher sends each entry at once.
type flusher struct {
	w     http.ResponseWriter
	flush bool
	wrote bool
}

func (f *flusher) Write(b []byte) (int, error) {
	f.wrote = true
	n, err := f.w.Write(b)
	if f.flush {
		f.Flush()
	}
	return n, err
}

func (f *flusher) Flush() {
	f.wrote = true
	if fl, ok := f.w.(http.Flusher); ok {
		fl.Flush()
	}
}
