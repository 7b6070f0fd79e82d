package configuration

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// kind is how a field's value is written.
type kind int

const (
	boolean kind = iota
	number
	float
	text
	file // text; relative to the folder of the file that says it
	duration
	list
	numbers // a list of them
	pairs   // map of texts
	gates   // map of booleans
	taints
	object // anything else, kept as JSON
)

// value is what a file says. Which part is used depends on the kind.
type value struct {
	text  string            // one value, or JSON
	list  []string          // list, numbers, taints
	pairs map[string]string // pairs, gates
}

// under is v with w laid over it: maps are merged, all else is replaced.
func (v value) under(w value) value {
	if v.pairs == nil || w.pairs == nil {
		return w
	}
	all := maps.Clone(v.pairs)
	maps.Copy(all, w.pairs)
	return value{pairs: all}
}

// empty says that nothing is asked for.
func (v value) empty() bool {
	return len(v.list) == 0 && len(v.pairs) == 0 && (v.text == "" || v.text == "0" || v.text == "0s" || v.text == "false" || v.text == "[]" || v.text == "{}")
}

// read reads a node; the error says what was wanted.
func (k kind) read(n *yaml.Node) (value, error) {
	switch k {
	case boolean:
		return scalar(n, "!!bool", "a boolean")
	case number:
		v, err := scalar(n, "!!int", "an integer")
		if err == nil {
			if _, err = strconv.ParseInt(v.text, 0, 64); err != nil {
				err = told("Invalid value: %q: must be an integer", v.text)
			}
		}
		return v, err
	case float:
		if n.Tag == "!!int" {
			return value{text: n.Value}, nil
		}
		return scalar(n, "!!float", "a number")
	case text, file:
		return scalar(n, "!!str", "a string")
	case duration:
		v, err := scalar(n, "!!str", "a duration")
		if err == nil {
			if _, bad := time.ParseDuration(v.text); bad != nil {
				err = told("Invalid value: %q: must be a duration such as \"10s\"", v.text)
			}
		}
		return v, err
	case list:
		return items(n, "!!str", "a list of strings")
	case numbers:
		return items(n, "!!int", "a list of integers")
	case pairs:
		return keys(n, "!!str", "a map of strings")
	case gates:
		return keys(n, "!!bool", "a map of booleans")
	case taints:
		return readTaints(n)
	case object:
		var any any
		if err := n.Decode(&any); err != nil {
			return value{}, told("Invalid value: %v", err)
		}
		raw, err := json.Marshal(any)
		return value{text: string(raw)}, err
	}
	return value{}, told("Invalid value: nobody reads kind %d", k)
}

func scalar(n *yaml.Node, tag, want string) (value, error) {
	if n.Kind != yaml.ScalarNode || n.ShortTag() != tag {
		return value{}, told("Invalid value: %q: must be %s", n.Value, want)
	}
	return value{text: n.Value}, nil
}

func items(n *yaml.Node, tag, want string) (value, error) {
	if n.Kind != yaml.SequenceNode {
		return value{}, told("Invalid value: %q: must be %s", n.Value, want)
	}
	v := value{list: []string{}}
	for _, item := range n.Content {
		one, err := scalar(resolved(item), tag, want)
		if err != nil {
			return value{}, err
		}
		v.list = append(v.list, one.text)
	}
	return v, nil
}

func keys(n *yaml.Node, tag, want string) (value, error) {
	if n.Kind != yaml.MappingNode {
		return value{}, told("Invalid value: %q: must be %s", n.Value, want)
	}
	v := value{pairs: map[string]string{}}
	for i := 0; i+1 < len(n.Content); i += 2 {
		one, err := scalar(resolved(n.Content[i+1]), tag, want)
		if err != nil {
			return value{}, fmt.Errorf("[%s]: %w", n.Content[i].Value, err)
		}
		v.pairs[n.Content[i].Value] = one.text
	}
	return v, nil
}

// readTaints turns taints into the words of --register-with-taints: KEY=VALUE:EFFECT.
func readTaints(n *yaml.Node) (value, error) {
	var all []struct{ Key, Value, Effect string }
	if err := n.Decode(&all); err != nil {
		return value{}, told("Invalid value: must be a list of taints")
	}
	v := value{list: []string{}}
	for i, t := range all {
		if t.Key == "" || t.Effect == "" {
			return value{}, fmt.Errorf("[%d]: Required value: key and effect", i)
		}
		v.list = append(v.list, t.Key+"="+t.Value+":"+t.Effect)
	}
	return v, nil
}

// flagText is how a value is given to a flag.
func (k kind) flagText(v value, sign string) string {
	switch k {
	case list, numbers, taints:
		return strings.Join(v.list, ",")
	case pairs, gates:
		var all []string
		for _, key := range slices.Sorted(maps.Keys(v.pairs)) {
			all = append(all, key+sign+v.pairs[key])
		}
		return strings.Join(all, ",")
	}
	return v.text
}

// json is a flag's text as a file would have it; nil for what cannot be told.
func (k kind) json(text string) any {
	switch k {
	case boolean:
		b, err := strconv.ParseBool(text)
		if err != nil {
			return nil
		}
		return b
	case number, float:
		n, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return nil
		}
		return n
	case duration:
		d, err := time.ParseDuration(text)
		if err != nil {
			return nil
		}
		return d.String()
	case list:
		return split(text)
	case numbers:
		all := []int64{}
		for _, s := range split(text) {
			if n, err := strconv.ParseInt(s, 0, 64); err == nil {
				all = append(all, n)
			}
		}
		return all
	case pairs, gates:
		all := map[string]any{}
		for _, s := range split(text) {
			if i := strings.IndexAny(s, "<="); i > 0 {
				if b, err := strconv.ParseBool(s[i+1:]); k == gates && err == nil {
					all[s[:i]] = b
				} else {
					all[s[:i]] = s[i+1:]
				}
			}
		}
		return all
	case taints:
		all := []map[string]string{}
		for _, s := range split(text) {
			pair, effect, _ := strings.Cut(s, ":")
			key, val, _ := strings.Cut(pair, "=")
			t := map[string]string{"key": key, "effect": effect}
			if val != "" {
				t["value"] = val
			}
			all = append(all, t)
		}
		return all
	case object:
		if !json.Valid([]byte(text)) { // a flag may have a short form too
			return nil
		}
		return json.RawMessage(text)
	}
	return text
}

// split takes a flag's list apart; an empty text has no items.
func split(text string) []string {
	all := []string{}
	for s := range strings.SplitSeq(text, ",") {
		if s = strings.TrimSpace(s); s != "" {
			all = append(all, s)
		}
	}
	return all
}

// told is an error in the words that clients know from the API, which begin with a capital letter.
func told(format string, args ...any) error { return fmt.Errorf(format, args...) }
