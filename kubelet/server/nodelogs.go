package server

import (
	"errors"
	"io/fs"
	"net/http"
	"os"
	"strings"
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
	http.StripPrefix("/logs", http.FileServerFS(plain{root.FS()})).ServeHTTP(w, r)
	return nil
}

// plain hides what is neither a file nor a folder: reading a pipe would never end.
type plain struct{ fs.FS }

func (d plain) Open(name string) (fs.File, error) {
	st, err := fs.Stat(d.FS, strings.TrimSuffix(name, "/"))
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() && !st.IsDir() {
		return nil, fs.ErrNotExist
	}
	return d.FS.Open(name)
}
