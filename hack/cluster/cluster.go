package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"pilothouse.dev/hack/proc"
)

// runRoot is where every cluster of the machine has its short-lived folder.
const runRoot = "/run/pilothouse"

// cluster is one cluster as a command sees it.
type cluster struct {
	name string // set once, as all of this group
	dir  string // absolute
	bin  string // where the programs are
	out  io.Writer

	mu    sync.Mutex
	state state // guarded by mu once parts start side by side
}

// state is what has to be known again by the next command.
type state struct {
	Name      string             `json:"name"`
	Dir       string             `json:"dir"`
	Range     int                `json:"range"` // which of the address ranges, see ranges.go
	Families  []family           `json:"families,omitempty"`
	Boot      string             `json:"boot"`              // processes are only meaningful within one boot
	Uplink    bool               `json:"uplink,omitempty"`  // nodes may reach the world through this machine
	Forward   string             `json:"forward,omitempty"` // what ip_forward was before the uplink
	NoDNS     bool               `json:"noDNS,omitempty"`   // the name server was left out
	Nodes     []*node            `json:"nodes"`
	Processes map[string]proc.ID `json:"processes"` // by daemon name: "etcd", "node1/kubelet"
}

var clusterName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$`)

// errNoCluster is what opening a cluster that was never started answers.
var errNoCluster = errors.New("no such cluster")

// newCluster is a cluster by name, whether it exists or not.
func newCluster(cfg config) (*cluster, error) {
	if !clusterName.MatchString(cfg.Name) {
		return nil, fmt.Errorf("cluster name %q: must be lower case letters, digits and dashes, at most 32", cfg.Name)
	}
	dir := cfg.Dir
	if dir == "" {
		dir = filepath.Join(".cluster", cfg.Name)
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("finding the cluster's folder: %w", err)
	}
	bin := cfg.Bin
	if bin == "" {
		self, err := os.Executable()
		if err != nil {
			return nil, fmt.Errorf("finding our own program: %w", err)
		}
		bin = filepath.Dir(self)
	}
	if bin, err = filepath.Abs(bin); err != nil {
		return nil, fmt.Errorf("finding the programs: %w", err)
	}
	return &cluster{name: cfg.Name, dir: dir, bin: bin, out: os.Stdout}, nil
}

// load reads the state: from the cluster's folder, or, if that was lost, from the copy under /run.
func (c *cluster) load() error {
	for _, file := range []string{c.stateFile(), filepath.Join(c.run(), "state.json")} {
		data, err := os.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("reading the cluster's state: %w", err)
		}
		var s state
		if err := json.Unmarshal(data, &s); err != nil {
			return fmt.Errorf("reading the cluster's state %s: %w", file, err)
		}
		if s.Dir != c.dir {
			return fmt.Errorf("cluster %q is in %s: give that with -dir, or choose another -name", c.name, s.Dir)
		}
		if s.Processes == nil {
			s.Processes = map[string]proc.ID{}
		}
		if boot := bootID(); s.Boot != boot {
			s.Boot, s.Processes = boot, map[string]proc.ID{}
			for _, n := range s.Nodes {
				n.Fault = ""
			}
		}
		c.state = s
		return nil
	}
	return fmt.Errorf("%w: %q (%s)", errNoCluster, c.name, c.dir)
}

// save writes the state, whole or not at all, here and under /run.
func (c *cluster) save() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.saveLocked()
}

func (c *cluster) saveLocked() error {
	data, err := json.MarshalIndent(c.state, "", "  ")
	if err != nil {
		return fmt.Errorf("writing the cluster's state: %w", err)
	}
	// Open to pass through: a pod with users of its own goes to its root file system as a user whom the node does not know.
	if err := os.MkdirAll(c.run(), 0o711); err != nil {
		return fmt.Errorf("making the cluster's folder: %w", err)
	}
	for _, file := range []string{filepath.Join(c.run(), "state.json"), c.stateFile()} {
		if err := replaceFile(file, data); err != nil {
			return fmt.Errorf("writing the cluster's state: %w", err)
		}
	}
	return nil
}

// remember notes a process, or with a zero identity forgets it.
func (c *cluster) remember(daemon string, id proc.ID) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if id == (proc.ID{}) {
		delete(c.state.Processes, daemon)
	} else {
		c.state.Processes[daemon] = id
	}
	return c.saveLocked()
}

// process is the remembered process of a daemon and whether it runs.
func (c *cluster) process(daemon string) (proc.ID, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	id, known := c.state.Processes[daemon]
	return id, known && id.Alive()
}

// lock keeps two commands from changing one cluster at the same time; it lasts until the returned function is called or the
// process ends.
func (c *cluster) lock() (unlock func(), err error) {
	path := filepath.Join(runRoot, c.name+".lock")
	for {
		if err := os.MkdirAll(runRoot, 0o711); err != nil {
			return nil, fmt.Errorf("locking the cluster: %w", err)
		}
		f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|unix.O_CLOEXEC, 0o600)
		if errors.Is(err, fs.ErrNotExist) {
			continue // the last other cluster went down just now and took the folder along
		}
		if err != nil {
			return nil, fmt.Errorf("locking the cluster: %w", err)
		}
		if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil {
			c.say("waiting for another command on cluster %q", c.name)
			if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
				f.Close()
				return nil, fmt.Errorf("locking the cluster: %w", err)
			}
		}
		// The holder before us may have removed the file: then what we hold locks nobody out.
		mine, err1 := f.Stat()
		now, err2 := os.Stat(path)
		if err1 == nil && err2 == nil && os.SameFile(mine, now) {
			return func() {
				if _, err := os.Stat(c.run()); errors.Is(err, fs.ErrNotExist) {
					os.Remove(path)    // nothing is left of the cluster
					os.Remove(runRoot) // nor, if this succeeds, of any
				}
				f.Close()
			}, nil
		}
		f.Close()
	}
}

func (c *cluster) say(format string, args ...any) { fmt.Fprintf(c.out, format+"\n", args...) }

func (c *cluster) stateFile() string { return filepath.Join(c.dir, "state.json") }

// run is the short-lived folder: sockets and pins. Short, because a unix socket's path may have 107 bytes.
func (c *cluster) run() string { return filepath.Join(runRoot, c.name) }

func (c *cluster) path(elem ...string) string {
	return filepath.Join(append([]string{c.dir}, elem...)...)
}

func (c *cluster) logFile(daemon string) string {
	return c.path("logs", strings.ReplaceAll(daemon, "/", "-")+".log")
}

// cgroup is under which all containers of the cluster run, in every hierarchy.
func (c *cluster) cgroup() string { return "/pilothouse-" + c.name }

func bootID() string {
	data, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(data))
}

// replaceFile writes a file that only root may read, whole or not at all.
func replaceFile(path string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(path+".new", data, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}
