package logs

import (
	"bytes"
	"fmt"
	"io"
	"os"
)

const tailBlock = 64 << 10

// tailOffset finds where the last want lines of a file begin, by reading it backwards in blocks, and how many there are (at most want). A line that was
// written in pieces counts once, where its last piece ends.
func tailOffset(path string, want int64, stream string) (offset, found int64, err error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, 0, fmt.Errorf("opening log: %w", err)
	}
	defer f.Close()
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return 0, 0, fmt.Errorf("finding end of log: %w", err)
	}
	if want <= 0 {
		return size, 0, nil
	}
	t := tailer{want: want, stream: stream, start: size}
	var carry []byte // the end of an entry whose start is in an earlier block
	for at := size; at > 0; {
		n := min(at, tailBlock)
		at -= n
		block := make([]byte, n, int(n)+len(carry))
		if _, err := f.ReadAt(block, at); err != nil {
			return 0, 0, fmt.Errorf("reading log: %w", err)
		}
		block = append(block, carry...)
		// Every entry but the first of the block begins after a newline in it.
		for {
			end := bytes.TrimSuffix(block, []byte{'\n'})
			i := bytes.LastIndexByte(end, '\n')
			if i < 0 {
				break
			}
			if t.full(end[i+1:], at+int64(i)+1) {
				return t.start, t.found, nil
			}
			block = block[:i+1]
		}
		carry = block
	}
	if len(carry) > 0 && t.full(bytes.TrimSuffix(carry, []byte{'\n'}), 0) {
		return t.start, t.found, nil
	}
	return t.start, t.found, nil
}

// tailer counts lines from the last backwards.
type tailer struct {
	want   int64
	stream string
	found  int64
	start  int64
	last   bool // an unended line at the very end was counted
}

// full takes the entry at offset and says whether it lies before the wanted lines.
func (t *tailer) full(line []byte, offset int64) bool {
	e, err := parseEntry(line)
	if err != nil || t.stream != "" && e.stream != t.stream {
		return false
	}
	ends := !e.partial || t.found == 0 && !t.last
	if ends && t.found == t.want {
		return true
	}
	if ends {
		t.found++
		t.last = true
	}
	t.start = offset
	return false
}
