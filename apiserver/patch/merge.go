package patch

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// A merge patch (RFC 7386) is parsed; the document is not: what the patch does not touch is copied as it stands. A document is
// our own encoding of an object, a patch is small, and most of a patch's cost would be to read and write the document twice more
// (BenchmarkMerge). Values that are no objects replace what is there as they are, arrays with their nulls included.

// node is one value of a merge patch: an object that merges, null that removes, or raw, which replaces.
type node struct {
	raw     []byte           // nil for an object and for null
	members map[string]*node // nil for all but an object
	names   []string         // of members, sorted
}

func (n *node) removes() bool { return n.raw == nil && n.members == nil }

// maxDepth is how deeply JSON may be nested, as for every body.
const maxDepth = 10000

// merge returns doc, a JSON object, with patch applied, and what the patch says twice. Both are read once, whatever their depth.
func merge(doc, patch []byte) (merged []byte, twice []string, err error) {
	p := patchReader{b: patch}
	n, end, err := p.value(space(patch, 0))
	if err == nil && space(patch, end) != len(patch) {
		err = errBroken
	}
	switch {
	case errors.Is(err, errBroken):
		var raw json.RawMessage
		if told := json.Unmarshal(patch, &raw); told != nil { // it can say what is wrong
			err = told
		}
		return nil, nil, err
	case err != nil:
		return nil, nil, err
	case n.members == nil:
		return nil, nil, errors.New("a merge patch of an object must be an object")
	}
	merged, end, err = n.apply(make([]byte, 0, len(doc)+len(patch)), doc, space(doc, 0))
	if err == nil && space(doc, end) != len(doc) {
		err = errBroken
	}
	if err != nil {
		return nil, nil, fmt.Errorf("reading the object to patch: %w", err)
	}
	return merged, p.twice, nil
}

// patchReader reads a patch.
type patchReader struct {
	b     []byte
	path  []string // of the object that is being read
	twice []string
}

// value reads the value at i and says where it ends.
func (p *patchReader) value(i int) (*node, int, error) {
	if i == len(p.b) {
		return nil, 0, errBroken
	}
	if p.b[i] == '{' {
		return p.object(i)
	}
	end, err := skip(p.b, i)
	if err != nil {
		return nil, 0, err
	}
	raw := p.b[i:end]
	if string(raw) == "null" {
		return &node{}, end, nil
	}
	if !valid(raw) {
		return nil, 0, errBroken
	}
	return &node{raw: raw}, end, nil
}

func (p *patchReader) object(i int) (*node, int, error) {
	if len(p.path) == maxDepth {
		return nil, 0, errors.New("exceeded max depth")
	}
	n := &node{members: map[string]*node{}}
	if i = space(p.b, i+1); i < len(p.b) && p.b[i] == '}' {
		return n, i + 1, nil
	}
	for {
		end, err := skip(p.b, i)
		if err != nil || p.b[i] != '"' || !valid(p.b[i:end]) {
			return nil, 0, errBroken
		}
		name, err := unquote(p.b[i:end])
		if err != nil {
			return nil, 0, errBroken
		}
		if i = space(p.b, end); i == len(p.b) || p.b[i] != ':' {
			return nil, 0, errBroken
		}
		if n.members[name] != nil {
			p.twice = append(p.twice, fmt.Sprintf("duplicate field %q", strings.Join(append(p.path, name), ".")))
		} else {
			n.names = append(n.names, name)
		}
		p.path = append(p.path, name)
		m, end, err := p.value(space(p.b, i+1))
		if err != nil {
			return nil, 0, err
		}
		p.path = p.path[:len(p.path)-1]
		n.members[name] = m
		if i = space(p.b, end); i == len(p.b) {
			return nil, 0, errBroken
		}
		switch p.b[i] {
		case '}':
			slices.Sort(n.names)
			return n, i + 1, nil
		case ',':
			i = space(p.b, i+1)
		default:
			return nil, 0, errBroken
		}
	}
}

// valid says whether what skip found is JSON. Long strings are common, and seldom have anything to look into.
func valid(raw []byte) bool {
	if raw[0] == '"' {
		odd := false
		for _, c := range raw {
			odd = odd || c < ' ' || c == '\\'
		}
		if !odd {
			return true
		}
	}
	return json.Valid(raw)
}

// apply appends what becomes of the value at doc[i:], and says where that ends. Where there is none, i is len(doc).
func (n *node) apply(dst, doc []byte, i int) ([]byte, int, error) {
	if n.members == nil {
		end, err := skipIf(doc, i)
		return append(dst, n.raw...), end, err
	}
	if i == len(doc) || doc[i] != '{' {
		dst, err := n.appendNew(append(dst, '{'), 0, nil)
		if err != nil {
			return nil, 0, err
		}
		end, err := skipIf(doc, i)
		return dst, end, err
	}
	dst = append(dst, '{')
	first := len(dst)
	met := make([]bool, len(n.names))
	for i = space(doc, i+1); i < len(doc) && doc[i] != '}'; {
		from := i
		to, err := skip(doc, i)
		if err != nil || doc[from] != '"' {
			return nil, 0, errBroken
		}
		if i = space(doc, to); i == len(doc) || doc[i] != ':' {
			return nil, 0, errBroken
		}
		i = space(doc, i+1)
		key, err := unquote(doc[from:to])
		if err != nil {
			return nil, 0, err
		}
		at, ours := slices.BinarySearch(n.names, key)
		if ours {
			met[at] = true
		}
		if ours && n.members[key].removes() {
			i, err = skip(doc, i)
		} else {
			if len(dst) > first {
				dst = append(dst, ',')
			}
			dst = append(append(dst, doc[from:to]...), ':')
			if ours {
				dst, i, err = n.members[key].apply(dst, doc, i)
			} else {
				value := i
				if i, err = skip(doc, i); err == nil {
					dst = append(dst, doc[value:i]...)
				}
			}
		}
		if err != nil {
			return nil, 0, err
		}
		if i = space(doc, i); i < len(doc) && doc[i] == ',' {
			if i = space(doc, i+1); i == len(doc) || doc[i] == '}' {
				return nil, 0, errBroken
			}
		} else if i == len(doc) || doc[i] != '}' {
			return nil, 0, errBroken
		}
	}
	if i == len(doc) {
		return nil, 0, errBroken
	}
	dst, err := n.appendNew(dst, first, met)
	return dst, i + 1, err
}

// appendNew appends the members that the document has not, and the end of the object whose first member is at dst[first].
func (n *node) appendNew(dst []byte, first int, met []bool) ([]byte, error) {
	if first == 0 {
		first = len(dst)
	}
	for i, key := range n.names {
		m := n.members[key]
		if met != nil && met[i] || m.removes() {
			continue
		}
		name, err := json.Marshal(key)
		if err != nil {
			return nil, err
		}
		if len(dst) > first {
			dst = append(dst, ',')
		}
		dst = append(append(dst, name...), ':')
		if dst, _, err = m.apply(dst, nil, 0); err != nil {
			return nil, err
		}
	}
	return append(dst, '}'), nil
}

// skipIf is skip, where there may be nothing.
func skipIf(doc []byte, i int) (int, error) {
	if i == len(doc) {
		return i, nil
	}
	return skip(doc, i)
}

func unquote(name []byte) (string, error) {
	if bytes.IndexByte(name, '\\') < 0 {
		return string(name[1 : len(name)-1]), nil
	}
	var s string
	err := json.Unmarshal(name, &s)
	return s, err
}

var errBroken = errors.New("it is not JSON")

func space(b []byte, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\n' || b[i] == '\t' || b[i] == '\r') {
		i++
	}
	return i
}

// skip returns where the value at i ends.
func skip(b []byte, i int) (int, error) {
	for depth := 0; i < len(b); {
		switch b[i] {
		case '"':
			end := closing(b, i+1)
			if end < 0 {
				return 0, errBroken
			}
			i = end
		case '{', '[':
			depth++
			i++
			continue
		case '}', ']':
			if depth--; depth < 0 {
				return 0, errBroken
			}
			i++
		default:
			was := i
			for i < len(b) && strings.IndexByte("{}[]\",: \t\r\n", b[i]) < 0 {
				i++
			}
			if i == was { // a comma, a colon or space
				if depth == 0 {
					return 0, errBroken
				}
				i++
				continue
			}
		}
		if depth == 0 {
			return i, nil
		}
	}
	return 0, errBroken
}

// closing is where the string ends whose first byte is at i; -1 when it does not.
func closing(b []byte, i int) int {
	for {
		q := bytes.IndexByte(b[i:], '"')
		if q < 0 {
			return -1
		}
		s := bytes.IndexByte(b[i:i+q], '\\')
		if s < 0 {
			return i + q + 1
		}
		if i += s + 2; i > len(b) {
			return -1
		}
	}
}
