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

// merge returns doc, a JSON object, with patch applied.
func merge(doc, patch []byte) ([]byte, error) {
	n, err := parse(patch)
	if err != nil {
		return nil, err
	}
	if n.members == nil {
		return nil, errors.New("a merge patch of an object must be an object")
	}
	return n.apply(make([]byte, 0, len(doc)+len(patch)), doc)
}

// parse reads a value. What is no object is not looked at: the object around it was read, so it is JSON.
func parse(raw []byte) (*node, error) {
	raw = bytes.TrimLeft(raw, " \t\r\n")
	switch {
	case len(raw) > 0 && raw[0] == '{':
	case string(raw) == "null":
		return &node{}, nil
	default:
		return &node{raw: raw}, nil
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(raw, &members); err != nil {
		return nil, err
	}
	n := &node{members: make(map[string]*node, len(members)), names: make([]string, 0, len(members))}
	for name, value := range members {
		m, err := parse(value)
		if err != nil {
			return nil, err
		}
		n.members[name] = m
		n.names = append(n.names, name)
	}
	slices.Sort(n.names)
	return n, nil
}

// apply appends what becomes of value, which is nil where there is none.
func (n *node) apply(dst, value []byte) ([]byte, error) {
	if n.members == nil {
		return append(dst, n.raw...), nil
	}
	met := make([]bool, len(n.names))
	first := true
	add := func(name []byte) {
		if !first {
			dst = append(dst, ',')
		}
		first = false
		dst = append(append(dst, name...), ':')
	}
	dst = append(dst, '{')
	err := eachMember(value, func(name, old []byte) error {
		key, err := unquote(name)
		if err != nil {
			return err
		}
		i, ours := slices.BinarySearch(n.names, key)
		if !ours {
			add(name)
			dst = append(dst, old...)
			return nil
		}
		m := n.members[key]
		if met[i] = true; m.removes() {
			return nil
		}
		add(name)
		dst, err = m.apply(dst, old)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("reading the object to patch: %w", err)
	}
	for i, key := range n.names {
		m := n.members[key]
		if met[i] || m.removes() {
			continue
		}
		name, err := json.Marshal(key)
		if err != nil {
			return nil, err
		}
		add(name)
		if dst, err = m.apply(dst, nil); err != nil {
			return nil, err
		}
	}
	return append(dst, '}'), nil
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

// eachMember calls f with the quoted name and the value of each member of a JSON object; of anything else there are none.
func eachMember(b []byte, f func(name, value []byte) error) error {
	i := space(b, 0)
	if i == len(b) || b[i] != '{' {
		return nil
	}
	if i = space(b, i+1); i < len(b) && b[i] == '}' {
		return nil
	}
	for {
		from := i
		to, err := skip(b, i)
		if err != nil || b[from] != '"' {
			return errBroken
		}
		if i = space(b, to); i == len(b) || b[i] != ':' {
			return errBroken
		}
		start := space(b, i+1)
		end, err := skip(b, start)
		if err != nil {
			return err
		}
		if err := f(b[from:to], b[start:end]); err != nil {
			return err
		}
		if i = space(b, end); i == len(b) {
			return errBroken
		}
		switch b[i] {
		case '}':
			return nil
		case ',':
			i = space(b, i+1)
		default:
			return errBroken
		}
	}
}

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
