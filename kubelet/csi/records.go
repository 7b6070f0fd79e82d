package csi

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/moby/sys/mountinfo"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// disk is the kubelet's folder. Drivers, and those who look at nodes, know these paths:
//
//	plugins/kubernetes.io/csi/DRIVER/HASH/        one volume that is staged, or being so
//	  vol_data.json                                 its record, from before it is staged until it is not any more
//	  globalmount                                   where it is staged
//	  staged                                        when it was: the machine's boot
//	plugins/kubernetes.io/csi/volumeDevices/      block volumes: staging/NAME, and publish/NAME/UID, the device of one pod
//	pods/UID/volumes/kubernetes.io~csi/NAME/      one pod's use of a volume
//	  vol_data.json                                 its record, from before it is published until it is not any more
//	  mount                                         where it is published
type disk struct{ root string }

const (
	recordFile = "vol_data.json"
	stagedFile = "staged"
	// Folder is that of a pod's volumes of drivers.
	Folder  = "kubernetes.io~csi"
	devices = "volumeDevices"
)

// record is a vol_data.json. The first six fields are those that others read, too.
type record struct {
	SpecVolID  string `json:"specVolID,omitempty"`
	Handle     string `json:"volumeHandle"`
	Driver     string `json:"driverName"`
	Node       string `json:"nodeName,omitempty"`
	Attachment string `json:"attachmentID,omitempty"`
	Lifecycle  string `json:"volumeLifecycleMode,omitempty"`

	Block bool `json:"block,omitempty"`
	// Stage is how far a pod's use has come.
	Stage progress `json:"progress,omitempty"`
}

// progress of a pod's use of a volume.
type progress string

const (
	noted      progress = "noted"      // no driver was asked for anything
	publishing progress = "publishing" // one may have done something
	ready      progress = "ready"
)

func (r record) key() string { return r.Driver + "^" + r.Handle }

func (k disk) plugins() string { return filepath.Join(k.root, "plugins", "kubernetes.io", "csi") }

// stageDir is the folder of a staged volume.
func (k disk) stageDir(driver, handle string) string {
	return filepath.Join(k.plugins(), driver, fmt.Sprintf("%x", sha256.Sum256([]byte(handle))))
}

// stagePath is where a volume is staged.
func (k disk) stagePath(r record) string {
	if r.Block {
		return filepath.Join(k.plugins(), devices, "staging", r.SpecVolID)
	}
	return filepath.Join(k.stageDir(r.Driver, r.Handle), "globalmount")
}

// useDir is the folder of a pod's use of a volume.
func (k disk) useDir(u user) string {
	return filepath.Join(k.root, "pods", string(u.pod), "volumes", Folder, u.name)
}

// target is where a volume is published to a pod.
func (k disk) target(u user, block bool) string {
	if block {
		return filepath.Join(k.plugins(), devices, "publish", u.name, string(u.pod))
	}
	return filepath.Join(k.useDir(u), "mount")
}

// read returns a folder's record; nil if there is none. One that was cut short when the machine failed is none: nothing is mounted any more.
func read(dir string) (*record, error) {
	text, err := os.ReadFile(filepath.Join(dir, recordFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the record of a volume: %w", err)
	}
	var r record
	if json.Unmarshal(text, &r) != nil {
		return nil, nil
	}
	return &r, nil
}

// write puts a record into a folder, which it makes, as a whole or not at all.
func write(dir string, r record) error {
	text, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("writing the record of a volume: %w", err)
	}
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return fmt.Errorf("making the folder of a volume: %w", err)
	}
	file := filepath.Join(dir, recordFile)
	if err := os.WriteFile(file+".new", text, 0o600); err != nil {
		return fmt.Errorf("writing the record of a volume: %w", err)
	}
	if err := os.Rename(file+".new", file); err != nil {
		return fmt.Errorf("writing the record of a volume: %w", err)
	}
	return nil
}

// forget removes a folder with its record, and the empty folder or file where the volume was. What is still mounted stays, and is an error: to
// delete through a mount would delete what the volume keeps.
func forget(dir, at string) error {
	mounted, err := isMounted(at)
	if err != nil {
		return err
	}
	if mounted {
		return fmt.Errorf("%s is still mounted", at)
	}
	// The record goes last but for its folder.
	for _, path := range []string{at, filepath.Join(dir, stagedFile), filepath.Join(dir, recordFile+".new"), filepath.Join(dir, recordFile), dir} {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("removing what is left of a volume: %w", err)
		}
	}
	return nil
}

// isMounted says whether something is mounted at a path, which need not exist. It touches nothing that is mounted: that may be dead.
func isMounted(path string) (bool, error) {
	parent, err := filepath.EvalSymlinks(filepath.Dir(path))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("looking for a mount: %w", err)
	}
	found, err := mountinfo.GetMounts(mountinfo.SingleEntryFilter(filepath.Join(parent, filepath.Base(path))))
	if err != nil {
		return false, fmt.Errorf("looking for a mount: %w", err)
	}
	return len(found) > 0, nil
}

// uses are what pods have of volumes; of one pod, or of all if uid is empty.
func (k disk) uses(uid types.UID) (map[user]record, error) {
	pods := []string{string(uid)}
	if uid == "" {
		var err error
		if pods, err = foldersIn(filepath.Join(k.root, "pods")); err != nil {
			return nil, err
		}
	}
	all := map[user]record{}
	for _, p := range pods {
		names, err := foldersIn(filepath.Join(k.root, "pods", p, "volumes", Folder))
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			u := user{types.UID(p), name}
			r, err := read(k.useDir(u))
			if err != nil {
				return nil, err
			}
			if r == nil {
				r = &record{} // one that was given up, or never begun
			}
			all[u] = *r
		}
	}
	return all, nil
}

// staged are the volumes that are staged, or being so.
func (k disk) staged() ([]record, error) {
	drivers, err := foldersIn(k.plugins())
	if err != nil {
		return nil, err
	}
	var all []record
	for _, driver := range drivers {
		if driver == devices {
			continue
		}
		hashes, err := foldersIn(filepath.Join(k.plugins(), driver))
		if err != nil {
			return nil, err
		}
		for _, hash := range hashes {
			r, err := read(filepath.Join(k.plugins(), driver, hash))
			if err != nil {
				return nil, err
			}
			if r != nil {
				all = append(all, *r)
			}
		}
	}
	return all, nil
}

// used are the volumes that pods have noted, by their keys.
func (k disk) used() (map[string]bool, error) {
	all, err := k.uses("")
	if err != nil {
		return nil, err
	}
	keys := map[string]bool{}
	for _, r := range all {
		keys[r.key()] = true
	}
	return keys, nil
}

// inUse are the attached volumes that pods have, or that are staged.
func (k disk) inUse() ([]corev1.UniqueVolumeName, error) {
	uses, err := k.uses("")
	if err != nil {
		return nil, err
	}
	records, err := k.staged()
	if err != nil {
		return nil, err
	}
	for _, r := range uses {
		records = append(records, r)
	}
	var names []corev1.UniqueVolumeName
	for _, r := range records {
		if r.Attachment != "" {
			names = append(names, deviceName(r.Driver, r.Handle))
		}
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// bootID is this run of the machine: no mount outlives it.
func bootID() (string, error) {
	text, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("reading the machine's boot: %w", err)
	}
	return strings.TrimSpace(string(text)), nil
}

// isStaged says whether a volume was staged since the machine was started.
func (k disk) isStaged(driver, handle, boot string) (bool, error) {
	text, err := os.ReadFile(filepath.Join(k.stageDir(driver, handle), stagedFile))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("reading whether a volume is staged: %w", err)
	}
	return string(text) == boot, nil
}

// foldersIn names the folders in one; one that is not there has none.
func foldersIn(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("looking for volumes: %w", err)
	}
	var names []string
	for _, e := range entries {
		if e.IsDir() {
			names = append(names, e.Name())
		}
	}
	return names, nil
}
