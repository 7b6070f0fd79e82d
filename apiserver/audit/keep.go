package audit

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"
)

const (
	stamp    = "2006-01-02T15-04-05.000" // of the time at which a log was renamed, in its name
	packed   = ".gz"
	unpacked = ".part" // while it is being compressed
)

// keeper removes and compresses old logs, beside the goroutine that writes the new one. Their names are NAME-TIME.EXT, as the usual
// tools for logs of Kubernetes expect.
type keeper struct {
	dir, prefix, ext string
	r                Rotation
	wake             chan struct{}
}

func newKeeper(path string, r Rotation) *keeper {
	base := filepath.Base(path)
	ext := filepath.Ext(base)
	k := &keeper{filepath.Dir(path), strings.TrimSuffix(base, ext) + "-", ext, r, make(chan struct{}, 1)}
	signal(k.wake) // what another run of the server left
	return k
}

// name is what a log is called that ends at a time. No other has it.
func (k *keeper) name(at time.Time) string {
	for ; ; at = at.Add(time.Millisecond) {
		path := filepath.Join(k.dir, k.prefix+at.UTC().Format(stamp)+k.ext)
		if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
			return path
		}
	}
}

// run works whenever a log was renamed, and once a day because of their age.
func (k *keeper) run(ctx context.Context, log *zap.Logger) {
	day := time.NewTicker(24 * time.Hour)
	defer day.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-k.wake:
		case <-day.C:
		}
		if err := k.tidy(ctx, time.Now()); err != nil && ctx.Err() == nil {
			log.Warn("keeping old audit logs", zap.Error(err))
		}
	}
}

type backup struct {
	path string
	at   time.Time
}

// backups are the old logs, newest first.
func (k *keeper) backups() ([]backup, error) {
	entries, err := os.ReadDir(k.dir)
	if err != nil {
		return nil, err
	}
	var all []backup
	for _, e := range entries {
		middle, ok := strings.CutPrefix(e.Name(), k.prefix)
		if !ok || e.IsDir() {
			continue
		}
		middle, ok = strings.CutSuffix(strings.TrimSuffix(middle, packed), k.ext)
		if at, err := time.Parse(stamp, middle); ok && err == nil {
			all = append(all, backup{filepath.Join(k.dir, e.Name()), at})
		}
	}
	slices.SortFunc(all, func(a, b backup) int { return b.at.Compare(a.at) })
	return all, nil
}

// tidy removes logs that are too old or too many, and compresses the rest if it should.
func (k *keeper) tidy(ctx context.Context, now time.Time) error {
	all, err := k.backups()
	if err != nil {
		return err
	}
	var errs []error
	for i, b := range all {
		switch {
		case k.r.MaxBackup > 0 && i >= k.r.MaxBackup, k.r.MaxAge > 0 && now.Sub(b.at) > time.Duration(k.r.MaxAge)*24*time.Hour:
			errs = append(errs, os.Remove(b.path))
		case k.r.Compress && !strings.HasSuffix(b.path, packed):
			errs = append(errs, pack(ctx, b.path))
		}
	}
	return errors.Join(errs...)
}

// pack replaces a file by its compressed form. What is not finished is not left behind.
func pack(ctx context.Context, path string) (err error) {
	in, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }() // only read
	is, err := in.Stat()
	if err != nil {
		return err
	}
	part := path + packed + unpacked
	out, err := os.OpenFile(part, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, is.Mode().Perm())
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("compressing %s: %w", path, errors.Join(err, os.Remove(part)))
		}
	}()
	z := gzip.NewWriter(out)
	_, err = io.Copy(z, &until{ctx, in})
	if err = errors.Join(err, z.Close(), out.Close()); err != nil {
		return err
	}
	if err = os.Rename(part, path+packed); err != nil {
		return err
	}
	return os.Remove(path)
}

// until is a reader that ends with its context.
type until struct {
	ctx context.Context
	r   io.Reader
}

func (u *until) Read(b []byte) (int, error) {
	if err := u.ctx.Err(); err != nil {
		return 0, err
	}
	return u.r.Read(b)
}
