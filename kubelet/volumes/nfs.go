package volumes

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/moby/sys/mountinfo"
	corev1 "k8s.io/api/core/v1"
)

const (
	nfsKind = "nfs"
	// nfsPatience is how long a server may take to answer.
	nfsPatience = 2 * time.Minute
	nfsHelper   = "mount.nfs"
)

func isNFS(s *corev1.VolumeSource) bool { return s.NFS != nil }

// setupNFS mounts a folder of an NFS server. Its files keep the owners that the server says.
func setupNFS(ctx context.Context, g Ground) (Volume, error) {
	return mountNFS(ctx, g.Volume.NFS, g.Dir, g.Volume.NFS.ReadOnly, nil)
}

// mountNFS mounts a server's folder, unless that is done. A folder that is mounted is not looked at: its server may be away.
func mountNFS(ctx context.Context, src *corev1.NFSVolumeSource, dir string, readOnly bool, options []string) (Volume, error) {
	made := Volume{Path: dir, ReadOnly: readOnly}
	at, err := named(dir)
	if err != nil {
		return Volume{}, fmt.Errorf("looking for a mount: %w", err)
	}
	mounted, err := mountinfo.GetMounts(mountinfo.SingleEntryFilter(at))
	if err != nil {
		return Volume{}, fmt.Errorf("looking for a mount: %w", err)
	}
	if len(mounted) > 0 {
		return made, nil
	}
	helper, err := findHelper(nfsHelper)
	if err != nil {
		return Volume{}, err
	}
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return Volume{}, fmt.Errorf("making a mount point: %w", err)
	}
	server := src.Server
	if ip := net.ParseIP(server); ip != nil && ip.To4() == nil {
		server = "[" + server + "]"
	}
	args := []string{server + ":" + src.Path, dir}
	if readOnly {
		options = append([]string{"ro"}, options...)
	}
	if len(options) > 0 {
		args = append(args, "-o", strings.Join(options, ","))
	}
	ctx, cancel := context.WithTimeout(ctx, nfsPatience)
	defer cancel()
	cmd := exec.CommandContext(ctx, helper, args...)
	cmd.WaitDelay = 5 * time.Second
	said, err := cmd.CombinedOutput()
	if err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return Volume{}, fmt.Errorf("mount failed: %w\nMounting command: %s\nMounting arguments: %s\nOutput: %s", err, nfsHelper, strings.Join(args, " "), strings.TrimSpace(string(said)))
	}
	return made, nil
}

// findHelper finds a program that mounts a kind of file system. It is often not on the path of daemons.
func findHelper(name string) (string, error) {
	if path, err := exec.LookPath(name); err == nil {
		return path, nil
	}
	for _, dir := range []string{"/sbin", "/usr/sbin"} {
		path := filepath.Join(dir, name)
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
	}
	return "", errors.New("this node has no " + name + ", by which NFS is mounted: it comes with the package nfs-common (Debian) or nfs-utils")
}
