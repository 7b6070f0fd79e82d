package server

import (
	"errors"
	"io/fs"
	"net/http"
	"os"

	"golang.org/x/sys/unix"
)

// nodeLogFolder is what /logs/ serves.
const nodeLogFolder = "/var/log"

// nodeLogs serves the node's own log files. No link leads out of the folder: pods that write there could have any file of the node read to them.
func (s *Server) nodeLogs(w http.ResponseWriter, r *http.Request) error {
	root, err := os.OpenRoot(nodeLogFolder)
	if errors.Is(err, fs.ErrNotExist) {
		return fail(http.StatusNotFound, "404 page not found")
	}
	if err != nil {
		return err
	}
	defer root.Close()
	http.StripPrefix("/logs", http.FileServerFS(plain{root})).ServeHTTP(w, r)
	return nil
}

// plain hides what is neither a file nor a folder: reading a pipe would never end.
type plain struct{ root *os.Root }

func (d plain) Open(name string) (fs.File, error) {
	if !fs.ValidPath(name) {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrInvalid}
	}
	st, err := d.root.Stat(name)
	if err != nil {
		return nil, err
	}
	if !served(st) {
		return nil, fs.ErrNotExist
	}
	f, err := d.root.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0) // it may be another by now: opening a pipe would wait for who writes
	if err != nil {
		return nil, err
	}
	if st, err = f.Stat(); err == nil && !served(st) {
		err = fs.ErrNotExist
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func served(st fs.FileInfo) bool { return st.Mode().IsRegular() || st.IsDir() }
