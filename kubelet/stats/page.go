package stats

import (
	"fmt"
	"io"
	"math"
	"strconv"
)

// page writes metrics in Prometheus' text form (https://prometheus.io/docs/instrumenting/exposition_formats/): a hundred pods have ten thousand rows,
// which are not worth an object each.
type page struct {
	w    io.Writer
	buf  []byte
	fail error

	name, kind, help string // of the family that is being written
	headed           bool
}

// family begins the rows of a name; its head is written with the first row.
func (p *page) family(name, kind, help string) {
	p.name, p.kind, p.help, p.headed = name, kind, help, false
}

// row writes a value. labels is «a="b",c="d"» or empty; more are a name and a value each.
func (p *page) row(labels string, v float64, more ...string) {
	if !p.headed {
		p.headed = true
		p.buf = fmt.Appendf(p.buf, "# HELP %s %s\n# TYPE %s %s\n", p.name, p.help, p.name, p.kind)
	}
	p.buf = append(p.buf, p.name...)
	if labels != "" || len(more) > 0 {
		p.buf = append(p.buf, '{')
		p.buf = append(p.buf, labels...)
		for i := 0; i+1 < len(more); i += 2 {
			if i > 0 || labels != "" {
				p.buf = append(p.buf, ',')
			}
			p.buf = label(p.buf, more[i], more[i+1])
		}
		p.buf = append(p.buf, '}')
	}
	p.buf = append(p.buf, ' ')
	if v == math.Trunc(v) && math.Abs(v) < 1<<53 {
		p.buf = strconv.AppendInt(p.buf, int64(v), 10)
	} else {
		p.buf = strconv.AppendFloat(p.buf, v, 'g', -1, 64)
	}
	p.buf = append(p.buf, '\n')
	if len(p.buf) > 48<<10 {
		p.flush()
	}
}

func (p *page) flush() {
	if p.fail == nil && len(p.buf) > 0 {
		_, p.fail = p.w.Write(p.buf)
	}
	p.buf = p.buf[:0]
}

// label appends NAME="VALUE".
func label(buf []byte, name, value string) []byte {
	buf = append(append(buf, name...), '=', '"')
	for i := range len(value) {
		switch c := value[i]; c {
		case '\\', '"':
			buf = append(buf, '\\', c)
		case '\n':
			buf = append(buf, '\\', 'n')
		default:
			buf = append(buf, c)
		}
	}
	return append(buf, '"')
}
