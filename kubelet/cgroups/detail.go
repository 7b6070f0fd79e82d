package cgroups

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// Detail is all that is counted of a group: Stats, and what dashboards ask for. What a machine does not count is zero.
type Detail struct {
	Stats
	User, System time.Duration
	// Periods are those of the quota of CPU, Throttled those in which it was used up, ThrottledFor how long the group waited then.
	Periods, Throttled uint64
	ThrottledFor       time.Duration
	// Shares, Quota and Period are the limits of CPU; a quota of 0 is none.
	Shares, Quota, Period uint64
	// Cache is memory that holds files, Mapped that of files mapped by processes, Kernel the kernel's own for the group.
	Cache, Mapped, Swap, Kernel, ActiveFile, InactiveFile uint64
	// MaxUsage is the most that MemoryUsage ever was, FailCount how often it hit the limit. SwapLimit bounds memory and swap together; SoftLimit is what
	// is kept for the group when memory is short. 0 is none.
	MaxUsage, FailCount, SwapLimit, SoftLimit uint64
	// PIDLimit bounds PIDs; 0 is none.
	PIDLimit uint64
	// Processes are those in the group itself, not in groups below it.
	Processes []int
	Disks     []DiskIO
	// CPUPressure and the others are nil where the kernel does not tell them (control groups v1).
	CPUPressure, MemoryPressure, IOPressure *Pressure
}

// DiskIO is what a group has read and written of one device.
type DiskIO struct {
	Major, Minor                         uint32
	ReadBytes, WriteBytes, Reads, Writes uint64
}

// Pressure is how long processes waited for something: some of them, and all at once. The averages are percent of the last 10, 60 and 300 s
// (https://docs.kernel.org/accounting/psi.html).
type Pressure struct{ Some, Full Stall }

// Stall is a line of Pressure.
type Stall struct {
	Total                time.Duration
	Avg10, Avg60, Avg300 float64
}

// Details reads groups one after another, in one pass and with little memory: see is called for each with the number of its path. The error is
// ErrNotFound for a group that does not exist (any more). d holds only until see returns.
func (t *Tree) Details(paths []string, see func(i int, d *Detail, err error)) error {
	l, err := t.layout()
	if err != nil {
		return err
	}
	var from interface {
		detail(path string, d *Detail, g *glass) error
	}
	switch l := l.(type) {
	case v2:
		from = l
	case v1:
		if from, err = l.counters(); err != nil {
			return fmt.Errorf("finding hierarchies: %w", err)
		}
	}
	g := &glass{buf: make([]byte, 16<<10)}
	var d Detail
	for i, path := range paths {
		d = Detail{Disks: d.Disks[:0], Processes: d.Processes[:0]}
		err := from.detail(path, &d, g)
		d.Time = time.Now()
		if err != nil {
			err = fmt.Errorf("reading numbers of %s: %w", path, gone(err))
		}
		see(i, &d, err)
	}
	return nil
}

// glass reads small files into one buffer.
type glass struct{ buf []byte }

// file reads a file, as many whole lines as fit; what it returns holds until the next call. A file that is not there has no bytes and is an error.
func (g *glass) file(dir, name string) ([]byte, error) {
	fd, err := unix.Open(filepath.Join(dir, name), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: filepath.Join(dir, name), Err: err}
	}
	defer unix.Close(fd)
	n := 0
	for {
		got, err := unix.Read(fd, g.buf[n:])
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return nil, &fs.PathError{Op: "read", Path: filepath.Join(dir, name), Err: err}
		}
		if n += got; got == 0 {
			return g.buf[:n], nil
		}
		if n == len(g.buf) { // half a line at the end would be read as another number
			return g.buf[:bytes.LastIndexByte(g.buf, '\n')+1], nil
		}
	}
}

// number reads a file of one number, 0 for «max» and for a file that this kernel does not have.
func (g *glass) number(dir, name string) uint64 {
	text, err := g.file(dir, name)
	if err != nil {
		return 0
	}
	n, _ := unsigned(bytes.TrimSpace(text))
	return n
}

// unsigned reads a number without making a string of it.
func unsigned(text []byte) (n uint64, ok bool) {
	for _, c := range text {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + uint64(c-'0')
	}
	return n, len(text) > 0
}

// pairs calls take for each line «name number» of a file that may not be there.
func (g *glass) pairs(dir, name string, take func(name []byte, n uint64)) error {
	text, err := g.file(dir, name)
	if err != nil {
		return err
	}
	for len(text) > 0 {
		var line []byte
		line, text, _ = bytes.Cut(text, []byte{'\n'})
		key, value, _ := bytes.Cut(line, []byte{' '})
		if n, ok := unsigned(value); ok {
			take(key, n)
		}
	}
	return nil
}

// processes reads the numbers of a group's own processes.
func (d *Detail) processes(dir string, g *glass) {
	text, err := g.file(dir, procsFile)
	if err != nil {
		return // the group goes away just now
	}
	for line := range bytes.Lines(text) {
		if n, ok := unsigned(bytes.TrimSpace(line)); ok && n > 0 {
			d.Processes = append(d.Processes, int(n))
		}
	}
}

// disk is the entry of a device, written MAJOR:MINOR; nil for what is none.
func (d *Detail) disk(name []byte) *DiskIO {
	a, b, ok := bytes.Cut(name, []byte{':'})
	major, ok1 := unsigned(a)
	minor, ok2 := unsigned(b)
	if !ok || !ok1 || !ok2 {
		return nil
	}
	for i := range d.Disks {
		if d.Disks[i].Major == uint32(major) && d.Disks[i].Minor == uint32(minor) {
			return &d.Disks[i]
		}
	}
	d.Disks = append(d.Disks, DiskIO{Major: uint32(major), Minor: uint32(minor)})
	return &d.Disks[len(d.Disks)-1]
}

// ReadPressure reads a file as /proc/pressure/cpu is; nil where the kernel has none.
func ReadPressure(dir, name string) *Pressure {
	g := &glass{buf: make([]byte, 512)}
	return g.pressure(dir, name)
}

func (g *glass) pressure(dir, name string) *Pressure {
	text, err := g.file(dir, name)
	if err != nil || len(text) == 0 {
		return nil
	}
	var p Pressure
	for line := range bytes.Lines(text) {
		to := &p.Some
		if bytes.HasPrefix(line, []byte("full")) {
			to = &p.Full
		}
		for word := range bytes.FieldsSeq(line) {
			key, value, ok := bytes.Cut(word, []byte{'='})
			if !ok {
				continue
			}
			f, err := strconv.ParseFloat(string(value), 64)
			if err != nil {
				continue
			}
			switch string(key) {
			case "avg10":
				to.Avg10 = f
			case "avg60":
				to.Avg60 = f
			case "avg300":
				to.Avg300 = f
			case "total":
				to.Total = time.Duration(f) * time.Microsecond
			}
		}
	}
	return &p
}
