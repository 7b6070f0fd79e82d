package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"
	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
)

const (
	// absent is how often a folder that is not there is looked for.
	absent = time.Second
	// calm is how long a folder must be left alone before it is read: a file that is being written is not a pod yet.
	calm = 100 * time.Millisecond
	// mostBytes of a manifest.
	mostBytes = 10 << 20
)

// files finds static pods in a folder, or in one file. Owned by one goroutine.
type files struct {
	path, node string
	every      time.Duration // how often it is read although nothing was heard
	log        *zap.Logger
	known      map[string][]*corev1.Pod // by file name
	said       map[string]string        // what was complained about, by file name
}

// run reads again whenever something changes, until ctx ends.
func (f *files) run(ctx context.Context, tell func(*corev1.Pod, bool)) {
	if f.path == "" {
		return
	}
	tick := time.NewTimer(f.every)
	defer tick.Stop()
	quiet := time.NewTimer(f.every)
	quiet.Stop()
	defer quiet.Stop()
	watch, err := fsnotify.NewWatcher()
	if err != nil {
		f.complain("", fmt.Errorf("watching the folder: %w", err)) // the tick still comes
		watch = &fsnotify.Watcher{}
	} else {
		defer watch.Close()
	}
	watched := false
	for {
		if !watched && err == nil { // the folder may come later, or come anew
			if watched = watch.Add(f.path) == nil; watched {
				quiet.Reset(0) // what came before the watch
			}
		}
		if watched || err != nil {
			tick.Reset(f.every)
		} else {
			tick.Reset(min(f.every, absent))
		}
		select {
		case <-ctx.Done():
			return
		case e := <-watch.Events:
			if e.Name == f.path && (e.Has(fsnotify.Remove) || e.Has(fsnotify.Rename)) {
				watched = false
			}
			quiet.Reset(calm)
		case e := <-watch.Errors:
			f.complain("", e)
			quiet.Reset(calm)
		case <-quiet.C:
			f.scan(tell)
		case <-tick.C:
			f.scan(tell)
		}
	}
}

// scan reads the folder and tells what changed. A file that cannot be read, or holds what is no pod, leaves its pod as it was.
func (f *files) scan(tell func(*corev1.Pod, bool)) {
	if f.path == "" {
		return
	}
	paths, err := f.list()
	if err != nil {
		f.complain("", err)
		return
	}
	here := map[string]bool{}
	for _, path := range paths {
		name := filepath.Base(path)
		here[name] = true
		pods, err := f.read(path)
		f.complain(name, err)
		if pods == nil {
			continue
		}
		f.replace(name, pods, tell)
	}
	for name := range f.known {
		if !here[name] {
			f.replace(name, nil, tell)
		}
	}
}

// list names the files to read; a folder that is not there has none.
func (f *files) list() ([]string, error) {
	info, err := os.Stat(f.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, err
	case info.Mode().IsRegular():
		return []string{f.path}, nil
	case !info.IsDir(): // opening a pipe would never end
		return nil, fmt.Errorf("%s is neither a folder nor a file", f.path)
	}
	entries, err := os.ReadDir(f.path)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, e := range entries {
		path := filepath.Join(f.path, e.Name())
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && !strings.HasPrefix(e.Name(), ".") {
			out = append(out, path)
		}
	}
	return out, nil
}

// replace makes the pods those of that file.
func (f *files) replace(name string, pods []*corev1.Pod, tell func(*corev1.Pod, bool)) {
	if f.known == nil {
		f.known = map[string][]*corev1.Pod{}
	}
	f.known[name] = swap(f.known[name], pods, tell)
	if len(f.known[name]) == 0 {
		delete(f.known, name)
	}
}

// swap tells which of the pods went and which are new, and returns those that are known then. A pod that is the same keeps its object; one whose UID is
// written in its manifest may have changed all the same.
func swap(was, now []*corev1.Pod, tell func(*corev1.Pod, bool)) []*corev1.Pod {
	find := func(list []*corev1.Pod, p *corev1.Pod) *corev1.Pod {
		for _, o := range list {
			if o.UID == p.UID {
				return o
			}
		}
		return nil
	}
	for _, p := range was {
		if find(now, p) == nil {
			tell(p, true)
		}
	}
	var out []*corev1.Pod
	for _, p := range now {
		old := find(was, p)
		if old != nil {
			p.Annotations[seenAnnotation] = old.Annotations[seenAnnotation]
		}
		if old != nil && equality.Semantic.DeepEqual(old, p) {
			p = old
		} else {
			tell(p, false)
		}
		out = append(out, p)
	}
	return out
}

// complain logs what is wrong with a file, once as long as it stays the same; nil: nothing is.
func (f *files) complain(name string, err error) {
	if f.said == nil {
		f.said = map[string]string{}
	}
	if err == nil {
		delete(f.said, name)
		return
	}
	if f.said[name] != err.Error() {
		f.said[name] = err.Error()
		f.log.Warn("reading a static pod", zap.String("file", filepath.Join(f.path, name)), zap.Error(err))
	}
}

// read makes a pod of a file. It may return one with an error: then something else is wrong with the file.
func (f *files) read(path string) ([]*corev1.Pod, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	data, err := whole(file)
	if err != nil {
		return nil, err
	}
	pods, more := manifest(data, false)
	if pods == nil {
		return nil, more
	}
	for _, p := range pods {
		if err := static(p, f.node, "file", filepath.Base(path)); err != nil {
			return nil, err
		}
	}
	return pods, more
}

// whole reads all of a manifest. One that is too long is none: its beginning may be another pod, or a list of fewer.
func whole(r io.Reader) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, mostBytes+1))
	if err == nil && len(data) > mostBytes {
		err = fmt.Errorf("it is longer than %d bytes", mostBytes)
	}
	return data, err
}
