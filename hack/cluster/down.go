package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"pilothouse.dev/hack/proc"
)

// down ends the cluster and removes everything it made. It works from the records and, where they are lost or incomplete, from
// what bears the cluster's mark, name or paths; so it also cleans up after a crash, and may be repeated.
func (c *cluster) down(ctx context.Context) error {
	unlock, err := c.lock()
	if err != nil {
		return err
	}
	defer unlock()
	known := true
	if err := c.load(); errors.Is(err, errNoCluster) {
		known = false
		c.state.Processes = map[string]proc.ID{}
	} else if err != nil {
		return err
	}
	if err := c.endDaemons(ctx); err != nil {
		return fmt.Errorf("ending daemons: %w", err)
	}
	if err := c.endRest(ctx, clusterMark, c.dir, c.cgroup()); err != nil {
		return fmt.Errorf("ending what the daemons left: %w", err)
	}
	for _, dir := range []string{c.run(), c.dir} {
		if err := removeShimSockets(dir); err != nil {
			return err
		}
		if err := unmountUnder(dir); err != nil {
			return err
		}
	}
	if err := removeCgroups(c.cgroup()); err != nil {
		return err
	}
	if known {
		if err := c.lowerNetwork(); err != nil {
			return err
		}
	} else if err := c.lowerLinks(); err != nil {
		return err
	}
	// The records go last: until here, another `down` knows what is left.
	for _, dir := range []string{c.dir, c.run()} {
		if err := os.RemoveAll(dir); err != nil {
			return fmt.Errorf("removing %s: %w", dir, err)
		}
	}
	// The folder that clusters share by default, if this was the last.
	if parent := filepath.Dir(c.dir); filepath.Base(parent) == ".cluster" {
		os.Remove(parent)
	}
	c.say("cluster %q is down", c.name)
	return nil
}

// endDaemons ends the remembered processes in the order that lets each finish its work.
func (c *cluster) endDaemons(ctx context.Context) error {
	order := func(name string) int {
		for i, part := range []string{"kubelet", "kube-proxy", "scheduler", "controller-manager", "routes", "apiserver", "etcd"} {
			if strings.HasSuffix(name, part) {
				return i
			}
		}
		return 7 // containerds and the registry
	}
	waves := map[int][]proc.ID{}
	for name, id := range c.state.Processes {
		waves[order(name)/2] = append(waves[order(name)/2], id)
	}
	for wave := range 4 {
		// Nothing here needs more than a moment to stop cleanly; what does is killed, as a crash would.
		if err := proc.End(ctx, 3*time.Second, waves[wave]...); err != nil {
			return err
		}
	}
	return nil
}

// endRest kills what bears the mark or runs under the cgroup: containers, their shims, and daemons nobody remembered.
func (c *cluster) endRest(ctx context.Context, key, value, cgroup string) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for {
		marked, err := proc.WithEnv(key, value)
		if err != nil {
			return err
		}
		contained, err := cgroupProcesses(cgroup)
		if err != nil {
			return err
		}
		all := append(marked, contained...)
		if len(all) == 0 {
			return nil
		}
		// Again after this: one of them may have started another meanwhile.
		if err := proc.Kill(ctx, all...); err != nil {
			return err
		}
	}
}

// cgroupRoots are the mount points of all hierarchies.
func cgroupRoots() ([]string, error) {
	mounts, err := mountPoints(func(fstype string) bool { return fstype == "cgroup" || fstype == "cgroup2" })
	if err != nil {
		return nil, fmt.Errorf("finding cgroup hierarchies: %w", err)
	}
	return mounts, nil
}

func cgroupProcesses(cgroup string) ([]proc.ID, error) {
	roots, err := cgroupRoots()
	if err != nil {
		return nil, err
	}
	var found []proc.ID
	for _, root := range roots {
		err := filepath.WalkDir(filepath.Join(root, cgroup), func(path string, d fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			if err != nil || d.Name() != "cgroup.procs" {
				return err
			}
			data, err := os.ReadFile(path)
			if err != nil {
				return nil // removed while we looked, or threaded: its parent lists the processes
			}
			for line := range strings.FieldsSeq(string(data)) {
				var pid int
				if _, err := fmt.Sscan(line, &pid); err != nil {
					return fmt.Errorf("reading %s: %w", path, err)
				}
				if id, err := proc.Of(pid); err == nil && !slices.Contains(found, id) {
					found = append(found, id)
				}
			}
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("listing processes of cgroup %s: %w", cgroup, err)
		}
	}
	return found, nil
}

// removeCgroups removes the cgroup and all below it, in every hierarchy. The kernel may need a moment after the last process.
func removeCgroups(cgroup string) error {
	roots, err := cgroupRoots()
	if err != nil {
		return err
	}
	for _, root := range roots {
		deadline := time.Now().Add(5 * time.Second)
		for {
			err := removeDirs(filepath.Join(root, cgroup))
			if err == nil {
				break
			}
			if !errors.Is(err, unix.EBUSY) || time.Now().After(deadline) {
				return fmt.Errorf("removing cgroup: %w", err)
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
	return nil
}

// removeDirs removes a tree of folders whose files cannot be removed, deepest first.
func removeDirs(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() {
			if err := removeDirs(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	if err := unix.Rmdir(dir); err != nil && !errors.Is(err, unix.ENOENT) {
		return &fs.PathError{Op: "rmdir", Path: dir, Err: err}
	}
	return nil
}

// unmountUnder unmounts everything at or below the folder, the last mounted first.
func unmountUnder(dir string) error {
	mounts, err := mountPoints(func(string) bool { return true })
	if err != nil {
		return fmt.Errorf("listing mounts: %w", err)
	}
	for _, m := range slices.Backward(mounts) {
		if m != dir && !strings.HasPrefix(m, dir+"/") {
			continue
		}
		if err := unix.Unmount(m, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("unmounting %s: %w", m, err)
		}
	}
	return nil
}

// mountPoints lists the mount points whose file system type matches, in the order they were mounted.
func mountPoints(match func(fstype string) bool) ([]string, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	unescape := strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)
	var points []string
	for s := bufio.NewScanner(f); s.Scan(); {
		before, after, ok := strings.Cut(s.Text(), " - ")
		fields := strings.Fields(before)
		if !ok || len(fields) < 5 || !match(strings.Fields(after)[0]) {
			continue
		}
		points = append(points, unescape.Replace(fields[4]))
	}
	return points, nil
}

// removeShimSockets removes the sockets that containerd's shims listened on: those are outside the folder given to containerd,
// and a shim that was killed leaves its own behind.
func removeShimSockets(dir string) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("looking for shim sockets: %w", err)
		}
		if d.IsDir() && d.Name() == "rootfs" {
			return fs.SkipDir // a container's own files
		}
		if d.Name() != "address" {
			return nil
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return nil
		}
		if socket, ok := strings.CutPrefix(strings.TrimSpace(string(data)), "unix://"); ok && strings.HasPrefix(socket, "/run/containerd/s/") {
			if err := os.Remove(socket); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("removing shim socket: %w", err)
			}
		}
		return nil
	})
}
