package stats

import (
	"context"
	"path/filepath"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	statsv1 "k8s.io/kubelet/pkg/apis/stats/v1alpha1"

	"pilothouse.dev/kubelet/containers"
	"pilothouse.dev/kubelet/csi"
	"pilothouse.dev/kubelet/logs"
	"pilothouse.dev/kubelet/volumes"
)

// diskOf is the file system that holds a folder, nil if there is none.
func diskOf(path string) *statsv1.FsStats {
	d, err := DiskOf(path)
	if err != nil {
		return nil
	}
	return d.stats()
}

func (d Disk) stats() *statsv1.FsStats {
	return &statsv1.FsStats{Time: metav1.Now(), AvailableBytes: new(d.Available), CapacityBytes: new(d.Capacity), UsedBytes: new(d.Capacity - min(d.Free, d.Capacity)),
		Inodes: new(d.InodesHave), InodesFree: new(d.InodesFree), InodesUsed: new(d.InodesHave - min(d.InodesFree, d.InodesHave))}
}

// part is a folder's part of a file system.
func part(disk *statsv1.FsStats, f Folder) *statsv1.FsStats {
	out := &statsv1.FsStats{Time: metav1.Now(), UsedBytes: new(f.Bytes), InodesUsed: new(f.Inodes)}
	if disk != nil {
		out.AvailableBytes, out.CapacityBytes, out.Inodes, out.InodesFree = disk.AvailableBytes, disk.CapacityBytes, disk.Inodes, disk.InodesFree
	}
	return out
}

// disks are the file systems of one request.
type disks struct {
	node, images *statsv1.FsStats
}

func (s *Stats) disks(ctx context.Context) disks {
	d := disks{node: diskOf(s.cfg.Root)}
	if folder, err := s.parts.Runtime.Folder(ctx); err == nil && folder != "" {
		d.images = diskOf(folder)
	}
	if d.images == nil {
		d.images = d.node
	}
	return d
}

// layer is what a container has written over its image.
func (s *Stats) layer(ctx context.Context, d disks, c *containers.Container) *statsv1.FsStats {
	f, ok := s.measured.of(ctx, "layer "+c.ID, func(ctx context.Context) (Folder, error) {
		u, err := s.parts.Runtime.LayerUsage(ctx, c.ID)
		return Folder{uint64(u.Bytes), uint64(u.Inodes)}, err
	})
	if !ok {
		return nil
	}
	return part(d.images, f)
}

// folder is what a folder takes of the node's disk.
func (s *Stats) folder(ctx context.Context, d disks, path string) *statsv1.FsStats {
	f, ok := s.measured.of(ctx, path, func(ctx context.Context) (Folder, error) { return FolderOf(ctx, path) })
	if !ok {
		return nil
	}
	return part(d.node, f)
}

func (s *Stats) logsOf(p *corev1.Pod, container string) string {
	return filepath.Join(logs.PodDir(s.cfg.Logs, p.Namespace, p.Name, string(p.UID)), container)
}

// volumesOf are the volumes of a pod, and what those that are kept on the node's disk for it alone take of it.
func (s *Stats) volumesOf(ctx context.Context, d disks, p *corev1.Pod) (all []statsv1.VolumeStats, own Folder) {
	if s.parts.Volumes == nil {
		return nil, own
	}
	where := s.parts.Volumes.Where(p.UID)
	root, err := DiskOf(s.cfg.Root)
	if err != nil {
		return nil, own
	}
	for i := range p.Spec.Volumes {
		v := &p.Spec.Volumes[i]
		path := where[v.Name]
		if path == "" || v.HostPath != nil || v.Image != nil { // the node's own, or an image's
			continue
		}
		on, err := DiskOf(path)
		if err != nil {
			continue // it is taken away just now
		}
		vs := statsv1.VolumeStats{Name: v.Name}
		switch name := claimOf(p, v); {
		case name != "" || v.CSI != nil:
			fs := on.stats()
			s.driven(ctx, p, path, fs)
			vs.FsStats = *fs
			if name != "" {
				vs.PVCRef = &statsv1.PVCReference{Name: name, Namespace: p.Namespace}
			}
		case on.Device != root.Device: // a file system of its own
			vs.FsStats = *on.stats()
		default:
			fs := s.folder(ctx, d, path)
			if fs == nil {
				continue
			}
			own.Bytes, own.Inodes = own.Bytes+*fs.UsedBytes, own.Inodes+*fs.InodesUsed
			vs.FsStats = *fs
		}
		all = append(all, vs)
	}
	return all, own
}

// claimOf is the claim that a volume shows; «» for another kind.
func claimOf(p *corev1.Pod, v *corev1.Volume) string {
	switch {
	case v.PersistentVolumeClaim != nil:
		return v.PersistentVolumeClaim.ClaimName
	case v.Ephemeral != nil:
		return p.Name + "-" + v.Name
	}
	return ""
}

// volumeOfClaim is how full a claim's volume is.
type volumeOfClaim struct {
	namespace, claim string
	fs               *statsv1.FsStats
}

// claims calls tell for each claim that a pod has mounted.
func (s *Stats) claims(ctx context.Context, p *corev1.Pod, tell func(volumeOfClaim)) {
	for i := range p.Spec.Volumes {
		v := &p.Spec.Volumes[i]
		name := claimOf(p, v)
		if name == "" || s.parts.Volumes == nil {
			continue
		}
		path := s.parts.Volumes.Where(p.UID)[v.Name]
		if path == "" {
			continue
		}
		on, err := DiskOf(path)
		if err != nil {
			continue
		}
		fs := on.stats()
		s.driven(ctx, p, path, fs)
		tell(volumeOfClaim{p.Namespace, name, fs})
	}
}

// driven asks the driver of a volume, if a driver has made it and tells: it knows better than the file system.
func (s *Stats) driven(ctx context.Context, p *corev1.Pod, path string, fs *statsv1.FsStats) {
	_, below, ok := strings.Cut(path, string(filepath.Separator)+csi.Folder+string(filepath.Separator))
	if s.parts.Drivers == nil || !ok {
		return
	}
	pv, _, _ := strings.Cut(below, string(filepath.Separator))
	u, err := s.parts.Drivers.Stats(ctx, p.UID, pv)
	if err != nil {
		return // then the file system's numbers stand
	}
	for to, from := range map[**uint64]*uint64{&fs.AvailableBytes: u.Available, &fs.CapacityBytes: u.Capacity, &fs.UsedBytes: u.Used, &fs.Inodes: u.Inodes,
		&fs.InodesFree: u.InodesFree, &fs.InodesUsed: u.InodesUsed} {
		if from != nil {
			*to = from
		}
	}
}

// files is what a pod takes of the node's disk in all: layers, logs, volumes.
func files(d disks, sum Folder, began time.Time) *statsv1.FsStats {
	fs := part(d.node, sum)
	fs.Time = metav1.NewTime(began)
	return fs
}

var _ Volumes = (*volumes.Manager)(nil)
