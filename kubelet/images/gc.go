package images

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"pilothouse.dev/kubelet/containers"
)

const (
	// labelPinned is how whoever runs the node says that an image must stay; the label of containerd's own CRI.
	labelPinned = "io.cri-containerd.pinned"
	// justAsked: the container that an image was given for may not have been made yet.
	justAsked = time.Minute
	// leftover is how long what a failed pull has brought is kept for its next try.
	leftover = time.Hour
)

// GCConfig says when images are removed
// (https://kubernetes.io/docs/concepts/architecture/garbage-collection/#container-image-lifecycle).
type GCConfig struct {
	// Node is this node's name, for events.
	Node string
	// From High percent of the disk in use on, images are removed until Low is reached. High 100: never. Both 0 mean 85 and 80.
	High, Low int
	// MinAge is how long an image stays at least, MaxAge how long it may be unused; 0: as long as there is room.
	MinAge, MaxAge time.Duration
	// Every is how often to look; 0 means 5 min.
	Every time.Duration
}

// Check says what is wrong with the settings.
func (c GCConfig) Check() error {
	switch {
	case c.High < 0 || c.High > 100:
		return fmt.Errorf("invalid HighThresholdPercent %d, must be in range [0-100]", c.High)
	case c.Low < 0 || c.Low > 100:
		return fmt.Errorf("invalid LowThresholdPercent %d, must be in range [0-100]", c.Low)
	case c.Low >= c.High && c.High != 0:
		return fmt.Errorf("LowThresholdPercent %d can not be higher than or equal to HighThresholdPercent %d", c.Low, c.High)
	case c.MinAge < 0 || c.MaxAge < 0:
		return errors.New("image ages must not be negative")
	case c.MaxAge != 0 && c.MaxAge < c.MinAge:
		return fmt.Errorf("the greatest age of unused images %s must not be below the least age %s", c.MaxAge, c.MinAge)
	}
	return nil
}

// Containers says which images containers use, and where containerd keeps them.
type Containers interface {
	List(ctx context.Context) (containers.Listing, error)
	Folder(ctx context.Context) (string, error)
}

// Recorder tells users what happened.
type Recorder interface {
	Eventf(object runtime.Object, kind, reason, format string, args ...any)
}

// GCParts are what a Collector needs.
type GCParts struct {
	Images     *Store
	Containers Containers
	Events     Recorder
}

// Collector removes images that nobody uses when the disk is short of space, and those that were unused for too long.
type Collector struct {
	cfg   GCConfig // set once, as all in this group
	parts GCParts
	log   *zap.Logger
	disk  func(folder string) (capacity, available uint64, err error)

	// Of Run's goroutine alone.
	began  time.Time
	used   map[string]time.Time // by ID: when it was seen in use last
	failed bool                 // the last turn did
}

// NewCollector stores what it is given.
func NewCollector(cfg GCConfig, parts GCParts, log *zap.Logger) *Collector {
	if cfg.High == 0 && cfg.Low == 0 {
		cfg.High, cfg.Low = 85, 80
	}
	if cfg.Every == 0 {
		cfg.Every = 5 * time.Minute
	}
	return &Collector{cfg: cfg, parts: parts, log: log.Named("images"), disk: disk, used: map[string]time.Time{}}
}

// Run looks after the disk until ctx ends.
func (c *Collector) Run(ctx context.Context) error {
	tick := time.NewTicker(c.cfg.Every)
	defer tick.Stop()
	for {
		err := c.turn(ctx)
		if err != nil && ctx.Err() == nil {
			c.log.Warn("image garbage collection failed", zap.Error(err))
			if c.failed { // once may be because the node has just started
				c.tell("ImageGCFailed", err)
			}
		}
		c.failed = err != nil
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func (c *Collector) tell(reason string, err error) {
	c.parts.Events.Eventf(&corev1.ObjectReference{Kind: "Node", Name: c.cfg.Node, UID: types.UID(c.cfg.Node)}, corev1.EventTypeWarning, reason, "%v", err)
}

// turn looks once.
func (c *Collector) turn(ctx context.Context) error {
	s := c.parts.Images
	if err := s.dropLeases(ctx, leftover); err != nil {
		return err
	}
	now := s.now()
	if c.began.IsZero() {
		c.began = now
	}
	list, err := c.candidates(ctx, now)
	if err != nil {
		return err
	}
	if list, err = c.tooOld(ctx, list, now); err != nil {
		return err
	}
	if c.cfg.High == 100 {
		return nil
	}
	folder, err := c.parts.Containers.Folder(ctx)
	if err != nil {
		return err
	}
	capacity, available, err := c.disk(folder)
	if err != nil {
		return err
	}
	if capacity == 0 {
		err := errors.New("invalid capacity 0 on image filesystem")
		c.tell("InvalidDiskCapacity", err)
		return err
	}
	available = min(available, capacity)
	usage := 100 - int(available*100/capacity)
	if usage < c.cfg.High {
		return nil
	}
	want := int64(capacity)*int64(100-c.cfg.Low)/100 - int64(available)
	c.log.Info("disk usage on image filesystem is over the high threshold", zap.Int("usage", usage), zap.Int64("to free", want))
	freed, err := c.free(ctx, list, want, now)
	if err != nil {
		return err
	}
	if freed < want {
		//lint:ignore ST1005 the event's words are those that Kubernetes users know
		err := fmt.Errorf("Failed to garbage collect required amount of images. Attempted to free %d bytes, but only found %d bytes eligible to free.", want, freed)
		c.tell("FreeDiskSpaceFailed", err)
		return err
	}
	return nil
}

// candidate is an image that nobody uses.
type candidate struct {
	Image
	used time.Time
}

// candidates are the images that may go, the longest unused first.
func (c *Collector) candidates(ctx context.Context, now time.Time) ([]candidate, error) {
	s := c.parts.Images
	l, err := c.parts.Containers.List(ctx)
	if err != nil {
		return nil, fmt.Errorf("listing images in use: %w", err)
	}
	inUse := map[string]bool{}
	for _, ctr := range l.Containers {
		inUse[ctr.ImageID] = true
	}
	all, err := s.unused(ctx, inUse)
	if err != nil {
		return nil, err
	}
	for id := range inUse {
		c.used[id] = now
	}
	s.mu.Lock()
	for id, at := range s.asked {
		if at.After(c.used[id]) {
			c.used[id] = at
		}
	}
	s.mu.Unlock()
	list := make([]candidate, 0, len(all))
	used := make(map[string]time.Time, len(all)) // what is gone is forgotten
	for id := range inUse {
		used[id] = now
	}
	for _, img := range all {
		at, ok := c.used[img.ID]
		if !ok {
			at = c.began // before this kubelet began, nobody knows
			if img.Here.After(at) {
				at = img.Here
			}
		}
		used[img.ID] = at
		list = append(list, candidate{img, at})
	}
	c.used = used
	slices.SortFunc(list, func(a, b candidate) int {
		return cmp.Or(a.used.Compare(b.used), a.Here.Compare(b.Here), cmp.Compare(a.ID, b.ID))
	})
	return list, nil
}

// tooOld removes what was unused for longer than MaxAge, and returns the rest.
func (c *Collector) tooOld(ctx context.Context, list []candidate, now time.Time) ([]candidate, error) {
	if c.cfg.MaxAge == 0 || now.Sub(c.began) <= c.cfg.MaxAge {
		return list, nil
	}
	var failed []error
	return slices.DeleteFunc(list, func(img candidate) bool {
		if now.Sub(img.used) <= c.cfg.MaxAge || now.Sub(img.Here) < c.cfg.MinAge {
			return false
		}
		if err := c.remove(ctx, img.Image, "age"); err != nil {
			failed = append(failed, err)
			return false
		}
		return true
	}), errors.Join(failed...)
}

// free removes images until that much is freed, or none is left that may go.
func (c *Collector) free(ctx context.Context, list []candidate, want int64, now time.Time) (freed int64, _ error) {
	var failed []error
	for _, img := range list {
		if freed >= want {
			break
		}
		if now.Sub(img.Here) < c.cfg.MinAge {
			continue
		}
		if err := c.remove(ctx, img.Image, "space"); err != nil {
			failed = append(failed, err)
			continue
		}
		freed += img.Size
	}
	if len(failed) > 0 {
		return freed, fmt.Errorf("wanted to free %d bytes, but freed %d bytes space with errors in image deletion: %w", want, freed, errors.Join(failed...))
	}
	return freed, nil
}

func (c *Collector) remove(ctx context.Context, img Image, why string) error {
	c.log.Info("removing image to free bytes", zap.String("image", img.Name), zap.String("id", img.ID), zap.Int64("size", img.Size), zap.String("reason", why))
	return c.parts.Images.removed(ctx, img, why)
}

// unused are the images that may be removed: not in use (by ID) nor by an image volume, not pinned, and not given to a pod just now.
func (s *Store) unused(ctx context.Context, inUse map[string]bool) ([]Image, error) {
	list, err := s.List(ctx)
	if err != nil {
		return nil, err
	}
	mounted, err := s.mounted(ctx)
	if err != nil {
		return nil, err
	}
	now := s.now()
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.DeleteFunc(list, func(img Image) bool {
		return inUse[img.ID] || mounted[img.ID] || img.Pinned || now.Sub(s.asked[img.ID]) < justAsked
	}), nil
}

func (s *Store) removed(ctx context.Context, img Image, why string) error {
	if err := s.Remove(ctx, img.ID); err != nil {
		return err
	}
	s.mu.Lock()
	delete(s.asked, img.ID)
	s.mu.Unlock()
	s.numbers.collected.WithLabelValues(why).Inc()
	return nil
}

// RemoveUnused removes images that inUse (by ID) doesn't hold, and what failed pulls have left, and returns the images' IDs. Images of image volumes,
// pinned images and those that a pod was given within the last minute stay. What cannot be removed is reported and does not stop the rest.
func (s *Store) RemoveUnused(ctx context.Context, inUse map[string]bool) ([]string, error) {
	failed := []error{s.dropLeases(ctx, 0)}
	list, err := s.unused(ctx, inUse)
	if err != nil {
		return nil, errors.Join(append(failed, err)...)
	}
	var removed []string
	for _, img := range list {
		if err := s.removed(ctx, img, "space"); err != nil {
			failed = append(failed, err)
			continue
		}
		removed = append(removed, img.ID)
	}
	return removed, errors.Join(failed...)
}

// disk is the file system that holds a folder.
func disk(folder string) (capacity, available uint64, _ error) {
	var fs unix.Statfs_t
	if err := unix.Statfs(folder, &fs); err != nil {
		return 0, 0, fmt.Errorf("reading the disk of %s: %w", folder, err)
	}
	if fs.Bsize <= 0 || fs.Blocks > math.MaxInt64/uint64(fs.Bsize) {
		return 0, 0, fmt.Errorf("reading the disk of %s: it has %d blocks of %d bytes", folder, fs.Blocks, fs.Bsize)
	}
	return fs.Blocks * uint64(fs.Bsize), fs.Bavail * uint64(fs.Bsize), nil
}
