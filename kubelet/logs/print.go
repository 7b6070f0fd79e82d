package logs

import (
	"errors"
	"fmt"
	"io"
)

var errEnough = errors.New("limit reached")

// printer turns entries into what the user sees: pieces joined, chosen by stream and time, cut at the limit.
type printer struct {
	w    io.Writer
	opts Options
	left int64 // bytes still allowed; -1 without limit
	held map[string][]byte
	skip map[string]bool // a line whose first piece was too old
	buf  []byte
}

func newPrinter(w io.Writer, opts Options) *printer {
	p := &printer{w: w, opts: opts, left: -1, held: make(map[string][]byte), skip: make(map[string]bool)}
	if opts.LimitBytes != nil {
		p.left = *opts.LimitBytes
	}
	return p
}

// print keeps pieces until their line ends; a line's time is that of its first piece.
func (p *printer) print(e entry) error {
	if p.opts.Stream != "" && p.opts.Stream != e.stream {
		return nil
	}
	first := p.held[e.stream] == nil && !p.skip[e.stream]
	if first && e.at.Before(p.opts.Since) {
		p.skip[e.stream] = e.partial
		return nil
	}
	if p.skip[e.stream] {
		p.skip[e.stream] = e.partial
		return nil
	}
	line := p.held[e.stream]
	if first {
		line = p.buf[:0]
		if p.opts.Timestamps {
			line = e.at.AppendFormat(line, stampFormat)
			line = append(line, ' ')
		}
	}
	line = append(line, e.text...)
	if e.partial {
		if first {
			line = append([]byte{}, line...) // buf is used again
		}
		p.held[e.stream] = line
		return nil
	}
	delete(p.held, e.stream)
	line = append(line, '\n')
	if first {
		p.buf = line
	}
	return p.write(line)
}

// flush prints lines that never ended, without a newline, as the container left them.
func (p *printer) flush() error {
	for _, stream := range []string{"stdout", "stderr"} {
		if line := p.held[stream]; line != nil {
			delete(p.held, stream)
			if err := p.write(line); err != nil {
				return err
			}
		}
	}
	return nil
}

func (p *printer) write(line []byte) error {
	enough := false
	if p.left >= 0 && int64(len(line)) >= p.left {
		line, enough = line[:p.left], true
	}
	if _, err := p.w.Write(line); err != nil {
		return fmt.Errorf("sending log: %w", err)
	}
	if p.left >= 0 {
		p.left -= int64(len(line))
	}
	if enough {
		return errEnough
	}
	return nil
}
