package devices

import (
	"encoding/json"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"go.uber.org/zap"
)

// noteName is the file beside the plugins' sockets that names the resources which plugins have brought, so that a kubelet that was started again takes
// none of them for one that an operator wrote into the node before its plugin is back. It changes only when a resource comes or goes.
const noteName = "resources.json"

// Open recalls which resources plugins brought in a former life; until a plugin is back nothing of its resource can be had. Called before all else. A
// note that cannot be read is logged: it is no reason not to start.
func (m *Manager) Open() {
	text, err := os.ReadFile(filepath.Join(m.dir, noteName))
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	var names []string
	if err == nil {
		err = json.Unmarshal(text, &names)
	}
	if err != nil {
		m.log.Warn("reading which resources device plugins have brought", zap.Error(err))
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, name := range names {
		if extended(name) {
			m.plugins[name] = &plugin{resource: name, went: time.Now()}
		}
	}
}

// remember writes the note. The caller holds mu.
func (m *Manager) remember() {
	text, err := json.Marshal(slices.Sorted(maps.Keys(m.plugins)))
	if err == nil {
		next := filepath.Join(m.dir, "."+noteName)
		if err = os.WriteFile(next, text, 0o600); err == nil {
			err = os.Rename(next, filepath.Join(m.dir, noteName))
		}
	}
	if err != nil {
		m.log.Warn("noting which resources device plugins bring", zap.Error(err))
	}
}
