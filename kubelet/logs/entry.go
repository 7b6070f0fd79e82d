package logs

import (
	"bytes"
	"errors"
	"fmt"
	"time"
)

// entry is one line of a log file.
type entry struct {
	at      time.Time
	stream  string
	partial bool // the line goes on in the next entry of this stream
	text    []byte
}

var errNotEntry = errors.New("not a log entry")

// appendEntry adds the entry as it stands in the file, newline included.
func appendEntry(buf []byte, e entry) []byte {
	buf = e.at.AppendFormat(buf, stampFormat)
	buf = append(buf, ' ')
	buf = append(buf, e.stream...)
	if e.partial {
		buf = append(buf, " P "...)
	} else {
		buf = append(buf, " F "...)
	}
	buf = append(buf, e.text...)
	return append(buf, '\n')
}

// parseEntry reads a line without its newline. Tags after the first, separated by «:», are allowed and ignored. text shares the line's memory.
func parseEntry(line []byte) (entry, error) {
	stamp, rest, ok1 := bytes.Cut(line, []byte{' '})
	stream, rest, ok2 := bytes.Cut(rest, []byte{' '})
	tags, text, ok3 := bytes.Cut(rest, []byte{' '})
	if !ok3 {
		tags, text = rest, nil // an empty line may lack the last space
	}
	if !ok1 || !ok2 {
		return entry{}, fmt.Errorf("%q: %w", line, errNotEntry)
	}
	at, err := time.Parse(time.RFC3339Nano, string(stamp))
	if err != nil {
		return entry{}, fmt.Errorf("time of %q: %w", line, errNotEntry)
	}
	e := entry{at: at, stream: string(stream), text: text}
	first, _, _ := bytes.Cut(tags, []byte{':'})
	switch string(first) {
	case "P":
		e.partial = true
	case "F":
	default:
		return entry{}, fmt.Errorf("tag of %q: %w", line, errNotEntry)
	}
	if e.stream != "stdout" && e.stream != "stderr" {
		return entry{}, fmt.Errorf("stream of %q: %w", line, errNotEntry)
	}
	return e, nil
}
