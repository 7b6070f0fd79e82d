package codec

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
)

// slot is what one message says of one field.
type slot struct {
	bytes    []byte // of the last
	number   uint64 // of the last varint
	from, to int    // where in the message the first begins and the last ends
	n        int
}

// transcoding is one run. Its slots are a stack: each message takes as many as its plan has fields.
type transcoding struct {
	slots    []slot
	pairs    []pair
	meta     []byte // the object's own, with its revision
	revision int64
}

// pair is an entry of a map.
type pair struct {
	key   string
	value []byte
}

var transcodings = sync.Pool{New: func() any { return &transcoding{} }}

// Append appends the JSON of a stored object, the same that encoding/json makes of the decoded one. When ok is false, dst is as
// it was, and the object must go the long way: it is stored in another form, or bytes in it are not what plans expect.
func (t *Transcoder) Append(dst, value []byte, revision int64) (out []byte, ok bool) {
	if t == nil || IsJSON(value) {
		return dst, false
	}
	run := transcodings.Get().(*transcoding)
	run.revision = revision
	out = append(dst, t.head...)
	out, ok = run.fields(out, t.root, value, true)
	run.slots, run.pairs = run.slots[:0], run.pairs[:0]
	transcodings.Put(run)
	if !ok {
		return dst, false
	}
	return append(out, '}'), true
}

// object appends a message in braces.
func (r *transcoding) object(dst []byte, p *plan, b []byte) ([]byte, bool) {
	dst, ok := r.fields(append(dst, '{'), p, b, false)
	return append(dst, '}'), ok
}

// fields appends the fields of a message, each after a comma but, if there is none before it, the first.
func (r *transcoding) fields(dst []byte, p *plan, b []byte, comma bool) (_ []byte, ok bool) {
	if p.broken {
		return dst, false
	}
	base := len(r.slots)
	r.slots = slices.Grow(r.slots, len(p.fields))[:base+len(p.fields)]
	clear(r.slots[base:])
	for at := 0; at < len(b); {
		start := at
		num, wire, n := tag(b[at:])
		if n == 0 {
			return dst, false
		}
		at += n
		var s slot
		switch wire {
		case 0:
			s.number, n = binary.Uvarint(b[at:])
		case 2:
			s.bytes, n = block(b[at:])
		default:
			return dst, false
		}
		if n <= 0 {
			return dst, false
		}
		at += n
		if num >= len(p.numbers) || p.numbers[num] == 0 {
			continue
		}
		i := int(p.numbers[num]) - 1
		if (wire == 0) != p.fields[i].varint() {
			return dst, false
		}
		was := &r.slots[base+i]
		if s.n, s.from, s.to = was.n+1, was.from, at; was.n == 0 {
			s.from = start
		}
		*was = s
	}
	for i := range p.fields {
		f := &p.fields[i]
		s := r.slots[base+i]
		if s.n > 1 && !f.many && f.kind != planMap && f.kind >= planStruct {
			return dst, false // messages that are to be merged
		}
		if f.kind == planInline {
			before := len(dst)
			if dst, ok = r.fields(dst, f.of, s.bytes, comma); !ok {
				return dst, false
			}
			comma = comma || len(dst) > before
			continue
		}
		if f.absent(s) {
			continue
		}
		if comma {
			dst = append(dst, ',')
		}
		comma = true
		dst = append(dst, f.key...)
		switch {
		case f.many:
			dst, ok = r.list(dst, f, b, s)
		case f.kind == planMap:
			dst, ok = r.dict(dst, f, b, s)
		case s.n == 0 && (f.pointer || f.kind == planBytes):
			dst, ok = append(dst, "null"...), true
		default:
			dst, ok = r.value(dst, f, s)
		}
		if !ok {
			return dst, false
		}
	}
	r.slots = r.slots[:base]
	return dst, true
}

func (f *planField) varint() bool {
	return f.kind == planBool || f.kind == planInt || f.kind == planUint
}

// absent says that a field is not printed.
func (f *planField) absent(s slot) bool {
	switch {
	case f.kind == planTime && f.zero && !f.pointer:
		sec, ok := seconds(s.bytes)
		return ok && isZero(s.bytes, sec)
	case f.keep:
		return false
	case s.n == 0:
		return true
	case f.many, f.pointer, f.kind == planMap:
		return false
	case f.varint():
		return f.truncated(s.number) == 0
	}
	return len(s.bytes) == 0
}

// truncated is a varint as the field's type has it.
func (f *planField) truncated(n uint64) int64 {
	switch {
	case f.kind == planBool && n != 0:
		return 1
	case f.bits == 32:
		return int64(int32(n))
	}
	return int64(n)
}

func (r *transcoding) value(dst []byte, f *planField, s slot) ([]byte, bool) {
	switch f.kind {
	case planString:
		return appendString(dst, s.bytes), true
	case planBool:
		return strconv.AppendBool(dst, s.number != 0), true
	case planInt:
		return strconv.AppendInt(dst, f.truncated(s.number), 10), f.bits >= 32
	case planUint:
		if f.bits == 32 {
			s.number = uint64(uint32(s.number))
		}
		return strconv.AppendUint(dst, s.number, 10), true
	case planBytes:
		return append(base64.StdEncoding.AppendEncode(append(dst, '"'), s.bytes), '"'), true
	case planStruct:
		return r.object(dst, f.of, s.bytes)
	case planObjectMeta:
		return r.metadata(dst, f.of, s.bytes)
	case planTime:
		return appendTime(dst, s.bytes)
	case planIntOrString:
		return appendIntOrString(dst, s.bytes)
	case planFields:
		return appendFieldSet(dst, s.bytes)
	case planCustom:
		if s.n == 0 {
			return dst, false // empty in its own way
		}
		d := f.custom()
		if d.Unmarshal(s.bytes) != nil {
			return dst, false
		}
		b, err := json.Marshal(d)
		return append(dst, b...), err == nil
	}
	return dst, false
}

// metadata is object for the metadata of the object itself, with the revision as its resourceVersion.
func (r *transcoding) metadata(dst []byte, p *plan, b []byte) ([]byte, bool) {
	// Where the empty one stands in stored bytes, the true one is read: fields() takes the last.
	r.meta = append(append(r.meta[:0], b...), fieldResourceVersion<<3|2, byte(digits(r.revision)))
	r.meta = strconv.AppendInt(r.meta, r.revision, 10)
	return r.object(dst, p, r.meta)
}

func (r *transcoding) list(dst []byte, f *planField, b []byte, s slot) (_ []byte, ok bool) {
	if s.n == 0 {
		return append(dst, "null"...), true
	}
	sep := byte('[')
	for at := s.from; at < s.to; {
		num, wire, n := tag(b[at:])
		at += n
		one := slot{n: 1}
		if wire == 0 {
			one.number, n = binary.Uvarint(b[at:])
		} else {
			one.bytes, n = block(b[at:])
		}
		if at += n; num != f.number {
			continue
		}
		dst = append(dst, sep)
		sep = ','
		if dst, ok = r.value(dst, f, one); !ok {
			return dst, false
		}
	}
	return append(dst, ']'), true
}

func (r *transcoding) dict(dst []byte, f *planField, b []byte, s slot) (_ []byte, ok bool) {
	if s.n == 0 {
		return append(dst, "null"...), true
	}
	base := len(r.pairs)
	for at := s.from; at < s.to; {
		num, wire, n := tag(b[at:])
		at += n
		var entry []byte
		if wire == 0 { // some other field between
			_, n = binary.Uvarint(b[at:])
		} else {
			entry, n = block(b[at:])
		}
		if at += n; num != f.number {
			continue
		}
		// Our encoder writes both, the key first; of empty bytes only the key.
		key, n := part(entry, 1)
		value, m := part(entry[n:], 2)
		if n == 0 || m == 0 && f.value.kind != planBytes || n+m != len(entry) || f.value.varint() {
			return dst, false
		}
		r.pairs = append(r.pairs, pair{string(key), value})
	}
	pairs := r.pairs[base:]
	slices.SortFunc(pairs, func(a, b pair) int { return strings.Compare(a.key, b.key) })
	sep := byte('{')
	for i, p := range pairs {
		if i > 0 && pairs[i-1].key == p.key || !utf8.ValidString(p.key) {
			return dst, false
		}
		dst = append(dst, sep)
		sep = ','
		dst = append(appendString(dst, []byte(p.key)), ':')
		if dst, ok = r.value(dst, f.value, slot{bytes: p.value, n: 1}); !ok {
			return dst, false
		}
	}
	r.pairs = r.pairs[:base]
	return append(dst, '}'), true
}

// tag reads a field's number and wire type; n is 0 when there is none.
func tag(b []byte) (num, wire, n int) {
	v, n := binary.Uvarint(b)
	if n <= 0 || v>>3 == 0 || v>>3 > 1<<29 {
		return 0, 0, 0
	}
	return int(v >> 3), int(v & 7), n
}

// block reads bytes with their length before them; n is 0 when there are none.
func block(b []byte) (_ []byte, n int) {
	size, n := binary.Uvarint(b)
	if n <= 0 || size > uint64(len(b)-n) {
		return nil, 0
	}
	return b[n : n+int(size) : n+int(size)], n + int(size)
}

// part reads a field of bytes that must come next.
func part(b []byte, want int) (_ []byte, n int) {
	num, wire, n := tag(b)
	if n == 0 || num != want || wire != 2 {
		return nil, 0
	}
	v, m := block(b[n:])
	if m == 0 {
		return nil, 0
	}
	return v, n + m
}

const hex = "0123456789abcdef"

// appendString is a string as encoding/json writes it.
func appendString(dst, s []byte) []byte {
	dst = append(dst, '"')
	first, start, plain := len(dst)-1, 0, false // plain: what is not ASCII goes as it is
	for i := 0; i < len(s); i++ {
		for i+8 <= len(s) && clean(binary.LittleEndian.Uint64(s[i:])) {
			i += 8
		}
		if i == len(s) {
			break
		}
		c := s[i]
		if c >= ' ' && c < utf8.RuneSelf && c != '"' && c != '\\' && c != '<' && c != '>' && c != '&' {
			continue
		}
		if c >= utf8.RuneSelf {
			if !plain && (!utf8.Valid(s) || bytes.Contains(s, []byte("\u2028")) || bytes.Contains(s, []byte("\u2029"))) {
				b, _ := json.Marshal(string(s)) // of a string there is no error
				return append(dst[:first], b...)
			}
			plain = true
			continue
		}
		dst = append(dst, s[start:i]...)
		start = i + 1
		switch c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\b':
			dst = append(dst, '\\', 'b')
		case '\f':
			dst = append(dst, '\\', 'f')
		case '\n':
			dst = append(dst, '\\', 'n')
		case '\r':
			dst = append(dst, '\\', 'r')
		case '\t':
			dst = append(dst, '\\', 't')
		default:
			dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		}
	}
	return append(append(dst, s[start:]...), '"')
}

// clean says that eight characters go into a JSON string as they are. It may say no to some that do.
func clean(w uint64) bool {
	const ones, high = 0x0101010101010101, 0x8080808080808080
	bad := w | (w - ' '*ones) // no ASCII, or before the blank
	// The highest bit of a character that is the one asked for.
	bad |= ((w ^ '"'*ones) - ones) | ((w ^ '\\'*ones) - ones) | ((w ^ '<'*ones) - ones) | ((w ^ '>'*ones) - ones) | ((w ^ '&'*ones) - ones)
	return bad&high == 0
}

// seconds reads a Timestamp's seconds; Kubernetes' times have no others.
func seconds(b []byte) (sec int64, ok bool) {
	for len(b) > 0 {
		num, wire, n := tag(b)
		if n == 0 || wire != 0 {
			return 0, false
		}
		v, m := binary.Uvarint(b[n:])
		if m <= 0 {
			return 0, false
		}
		if num == 1 {
			sec = int64(v)
		}
		b = b[n+m:]
	}
	return sec, true
}

func isZero(b []byte, sec int64) bool { return len(b) == 0 || time.Unix(sec, 0).UTC().IsZero() }

func appendTime(dst, b []byte) ([]byte, bool) {
	sec, ok := seconds(b)
	if !ok {
		return dst, false
	}
	if isZero(b, sec) {
		return append(dst, "null"...), true
	}
	return append(time.Unix(sec, 0).UTC().AppendFormat(append(dst, '"'), time.RFC3339), '"'), true
}

func appendIntOrString(dst, b []byte) ([]byte, bool) {
	var kind, number uint64
	var text []byte
	for len(b) > 0 {
		num, wire, n := tag(b)
		if n == 0 {
			return dst, false
		}
		b = b[n:]
		var v uint64
		if wire == 2 && num == 3 {
			text, n = block(b)
		} else if wire == 0 && num < 3 {
			v, n = binary.Uvarint(b)
		} else {
			return dst, false
		}
		if n <= 0 {
			return dst, false
		}
		b = b[n:]
		switch num {
		case 1:
			kind = v
		case 2:
			number = v
		}
	}
	switch kind {
	case 0:
		return strconv.AppendInt(dst, int64(int32(number)), 10), true
	case 1:
		return appendString(dst, text), true
	}
	return dst, false
}

// appendFieldSet writes the JSON that a FieldsV1 holds.
func appendFieldSet(dst, b []byte) ([]byte, bool) {
	raw, n := part(b, 1)
	if n == 0 || n != len(b) || len(raw) == 0 || !json.Valid(raw) {
		return dst, false
	}
	for _, c := range raw {
		if c <= ' ' || c == '<' || c == '>' || c == '&' || c >= utf8.RuneSelf { // to be left out or escaped
			b, err := json.Marshal(json.RawMessage(raw))
			return append(dst, b...), err == nil
		}
	}
	return append(dst, raw...), true
}
