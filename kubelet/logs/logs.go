package logs

import (
	"fmt"
	"path/filepath"
	"time"
)

// PodDir is the folder of one pod's logs.
func PodDir(podLogsDir, namespace, name, uid string) string {
	return filepath.Join(podLogsDir, namespace+"_"+name+"_"+uid)
}

// Path is the file of one container's attempt.
func Path(podLogsDir, namespace, name, uid, container string, attempt int) string {
	return filepath.Join(PodDir(podLogsDir, namespace, name, uid), container, fmt.Sprintf("%d.log", attempt))
}

// Limits of a container's log.
type Limits struct {
	// MaxSize of one file in bytes; 0 means 10 MiB. MaxFiles, the current one included; 0 means 5.
	MaxSize  int64
	MaxFiles int
}

// Options of Read; zero means everything there is, once, without time stamps.
type Options struct {
	// Follow goes on after the end until Ended is closed and all is read, or ctx ends.
	Follow bool
	// Ended is closed when the container will print no more (containers.Runtime.Finished); nil: only ctx ends it.
	Ended <-chan struct{}
	// TailLines from the end; nil: all.
	TailLines *int64
	// Since leaves out older lines; zero: all.
	Since time.Time
	// Timestamps before each line, in RFC 3339 with nanoseconds.
	Timestamps bool
	// LimitBytes ends the answer after so many bytes; nil: no limit.
	LimitBytes *int64
	// Stream is "stdout", "stderr" or "" for both.
	Stream string
}

// stampFormat has always nine digits, so that lines of one file sort as text.
const stampFormat = "2006-01-02T15:04:05.000000000Z07:00"

// rotated is the name of an older file: 1 is the one before the current.
func rotated(path string, n int) string {
	if n == 0 {
		return path
	}
	return fmt.Sprintf("%s.%d", path, n)
}
