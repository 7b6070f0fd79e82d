// Package plugins follows the sockets by which plugins of the node present themselves to the kubelet, and hands each to the room that its type
// is for (https://kubernetes.io/docs/concepts/extend-kubernetes/compute-storage-net/device-plugins/#device-plugin-registration and the API
// pluginregistration/v1).
//
//	a socket below DIR ──▶ GetInfo ──▶ the type's Handler.Register ──▶ NotifyRegistrationStatus(true)
//	                        │ fails         │ fails: NotifyRegistrationStatus(false)
//	                        └───────────────┴──▶ again, later each time
//	the socket goes    ──▶ Handler.Deregister;  another takes its place ──▶ Register again
//
// main runs it. What always holds: every socket has a goroutine of its own and every call an end, so a plugin that hangs keeps no other waiting;
// what counts is what lies in the folder now, never the order of what was told of it; a name that two sockets present belongs to the one that
// came last, and the other's end does not take it away. What is no socket, and names that begin with a dot, are not looked at.
package plugins

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/fsnotify/fsnotify"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"
)

// Plugin is what a plugin says of itself.
type Plugin struct {
	Type, Name string
	// Endpoint is the socket that it serves its own API at; the one of its registration, if it names none.
	Endpoint string
	Versions []string
}

// Handler is the room of one type of plugins. Its methods are called side by side for different plugins, and one after the other for one name.
type Handler interface {
	// Register takes a plugin in, or takes in a newer life of it. An error is told to the plugin, and it is tried again.
	Register(ctx context.Context, p Plugin) error
	// Deregister lets a plugin go that was registered.
	Deregister(ctx context.Context, name string)
}

// Watcher follows one folder.
type Watcher struct {
	dir      string             // set once, as all in this group
	handlers map[string]Handler // by type
	log      *zap.Logger

	mu     sync.Mutex
	owners map[owned]*owner // guarded by mu
}

// owned names a plugin.
type owned struct{ kind, name string }

// owner is the socket that has a name. Its lock is held while a handler works on the name.
type owner struct {
	sync.Mutex
	path string
}

// New stores what it is given: the folder, which Run makes, and the rooms by the types of plugins that are for them.
func New(dir string, handlers map[string]Handler, log *zap.Logger) *Watcher {
	return &Watcher{dir: dir, handlers: handlers, log: log.Named("plugins"), owners: map[owned]*owner{}}
}

// Run follows the folder until ctx ends. Plugins that are registered then stay so.
func (w *Watcher) Run(ctx context.Context) error {
	if err := os.MkdirAll(w.dir, 0o750); err != nil {
		return fmt.Errorf("making the folder of plugins: %w", err)
	}
	fw, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watching the folder of plugins: %w", err)
	}
	defer fw.Close()
	f := &folder{Watcher: w, fs: fw, sockets: map[string]chan struct{}{}}
	defer f.all.Wait()
	if err := f.look(ctx, w.dir); err != nil {
		return fmt.Errorf("looking for plugins: %w", err)
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case e, open := <-fw.Events:
			if !open {
				return errors.New("watching the folder of plugins: it ended")
			}
			err = f.look(ctx, e.Name)
		case err = <-fw.Errors: // among them: events were lost
			w.log.Warn("watching plugins", zap.Error(err))
			err = f.look(ctx, w.dir)
			for path := range f.sockets {
				f.nudge(ctx, path)
			}
		}
		if err != nil {
			w.log.Warn("looking for plugins", zap.Error(err))
		}
	}
}

// folder is owned by Run.
type folder struct {
	*Watcher
	fs      *fsnotify.Watcher
	sockets map[string]chan struct{} // of each that was ever there: to be looked at again
	all     sync.WaitGroup
}

// look looks at a path of which something was told. Folders are watched from before their content is read.
func (f *folder) look(ctx context.Context, path string) error {
	if strings.HasPrefix(filepath.Base(path), ".") && path != f.dir {
		return nil
	}
	st, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		if f.sockets[path] != nil {
			f.nudge(ctx, path)
		}
		return nil
	}
	if err != nil {
		return err
	}
	switch {
	case st.Mode()&fs.ModeSocket != 0:
		f.nudge(ctx, path)
	case st.IsDir():
		if err := f.fs.Add(path); err != nil {
			return unlessGone(err)
		}
		entries, err := os.ReadDir(path)
		if err != nil {
			return unlessGone(err)
		}
		for _, e := range entries {
			if err := f.look(ctx, filepath.Join(path, e.Name())); err != nil {
				return err
			}
		}
	case f.sockets[path] != nil:
		f.nudge(ctx, path) // a socket made place for something else
	}
	return nil
}

func unlessGone(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// nudge has a socket looked at by its goroutine.
func (f *folder) nudge(ctx context.Context, path string) {
	wake := f.sockets[path]
	if wake == nil {
		wake = make(chan struct{}, 1)
		f.sockets[path] = wake
		f.all.Go(func() { f.follow(ctx, path, wake) })
	}
	select {
	case wake <- struct{}{}:
	default:
	}
}

// life is what tells one life of a socket from the next at the same path; the zero one is no socket.
type life struct {
	inode uint64
	born  unix.Timespec
}

// lifeOf looks at a path.
func lifeOf(path string) life {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFSOCK {
		return life{}
	}
	return life{inode: st.Ino, born: st.Mtim}
}
