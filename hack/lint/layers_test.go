package lint

import (
	"fmt"
	"os"
	"path"
	"slices"
	"strings"
	"testing"
)

// layers is layers.txt.
type layers struct {
	rooms map[string][]level // of each module, top to bottom
	sole  map[string][]string
	never []string
}

// level is one line: rooms that are siblings.
type level []string

func readLayers(t *testing.T) layers {
	t.Helper()
	text, err := os.ReadFile("layers.txt")
	if err != nil {
		t.Fatal(err)
	}
	l, err := parseLayers(string(text))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func parseLayers(text string) (layers, error) {
	l := layers{rooms: map[string][]level{}, sole: map[string][]string{}}
	module := ""
	for i, line := range strings.Split(text, "\n") {
		line, _, _ = strings.Cut(line, "#")
		words := strings.Fields(line)
		switch {
		case len(words) == 0:
		case words[0] == "module" && len(words) == 2:
			module = words[1]
			l.rooms[module] = []level{}
		case words[0] == "sole" && len(words) > 2:
			l.sole[words[1]] = words[2:]
		case words[0] == "never" && len(words) == 2:
			l.never = append(l.never, words[1])
		case module == "" || words[0] == "module" || words[0] == "sole" || words[0] == "never":
			return l, fmt.Errorf("layers.txt:%d: cannot read %q", i+1, line)
		default:
			l.rooms[module] = append(l.rooms[module], words)
		}
	}
	return l, nil
}

// find gives the level of a room, -1 for the root of its module.
func (l layers) find(room string) (at int, ok bool) {
	module, inner, below := strings.Cut(room, "/")
	if _, ok := l.rooms[module]; !ok {
		return 0, false
	}
	if !below {
		return -1, true
	}
	for i, level := range l.rooms[module] {
		for _, pattern := range level {
			if ok, err := path.Match(pattern, inner); err == nil && ok {
				return i, true
			}
		}
	}
	return 0, false
}

// mayImport tells whether a room may import another of ours, and if not, why.
func (l layers) mayImport(from, to string) (rule string) {
	a, okA := l.find(from)
	b, okB := l.find(to)
	moduleA, _, _ := strings.Cut(from, "/")
	moduleB, _, _ := strings.Cut(to, "/")
	switch {
	case !okB:
		return "every room is listed in layers.txt"
	case moduleA != moduleB && moduleB == "pkg":
		return ""
	case moduleA != moduleB:
		return "daemons meet only at the REST API: of other modules only pkg is imported"
	case !okA:
		return "" // said once, by the test that every room is listed
	case a == b:
		return "siblings never import each other"
	case a > b:
		return "imports point down"
	}
	return ""
}

func TestEveryRoomIsListed(t *testing.T) {
	l := readLayers(t)
	unlisted := map[string]bool{}
	eachSource(t, func(s source) {
		if _, ok := l.find(s.room); !ok && !unlisted[s.room] {
			unlisted[s.room] = true
			t.Errorf("every room is listed in layers.txt, in its place: %s is not", s.room)
		}
	})
}

// Tests inside a room obey, too; a test that looks at a room from outside
// (package x_test) may stand above it and import what it needs of its module.
func TestImportsPointDown(t *testing.T) {
	l := readLayers(t)
	eachSource(t, func(s source) {
		outside := s.test && strings.HasSuffix(s.syntax.Name.Name, "_test")
		for _, p := range s.imports {
			to, ours := strings.CutPrefix(p, modulePrefix)
			if !ours || to == s.room {
				continue
			}
			rule := l.mayImport(s.room, to)
			if outside && strings.HasPrefix(to, s.module+"/") {
				rule = ""
			}
			if rule != "" {
				t.Errorf("%s: %s imports %s", rule, s.path, to)
			}
		}
	})
}

func TestSoleImporters(t *testing.T) {
	l := readLayers(t)
	eachSource(t, func(s source) {
		for _, p := range s.imports {
			for thing, rooms := range l.sole {
				if within(p, thing) && !slices.Contains(rooms, s.room) {
					t.Errorf("each outside thing has its importers: %s is for %s, but %s imports %s", thing, strings.Join(rooms, ", "), s.path, p)
				}
			}
			for _, thing := range l.never {
				if within(p, thing) {
					t.Errorf("nobody imports %s: %s does", thing, s.path)
				}
			}
			if within(p, "github.com/urfave/cli") && s.name() != "main.go" && s.name() != "flags.go" && !s.test {
				t.Errorf("urfave/cli is for main.go and flags.go: %s imports it", s.path)
			}
		}
	})
}

// The checks themselves, on a small house.
func TestLayersCatchWhatTheyShould(t *testing.T) {
	l, err := parseLayers("module a\nup\nx y # siblings\nx/*\ndown\nmodule b\nroom\nmodule pkg\nlog\n")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		from, to string
		ok       bool
	}{
		{"a", "a/up", true},
		{"a", "a/down", true},
		{"a/up", "a/down", true},
		{"a/up", "a", false},
		{"a/down", "a/up", false},
		{"a/x", "a/y", false},
		{"a/x", "a/x/one", true},
		{"a/x/one", "a/x/two", false},
		{"a/x/one", "a/x", false},
		{"a/up", "a/unlisted", false},
		{"a/up", "b/room", false},
		{"a/up", "b", false},
		{"a/down", "pkg/log", true},
		{"pkg/log", "a/down", false},
		{"a/up", "c/room", false},
	} {
		if rule := l.mayImport(c.from, c.to); (rule == "") != c.ok {
			t.Errorf("%s imports %s: got %q, want allowed %v", c.from, c.to, rule, c.ok)
		}
	}
	for _, bad := range []string{"room\n", "module a b\n", "sole x\n", "module a\nnever\n"} {
		if _, err := parseLayers(bad); err == nil {
			t.Errorf("%q was read without complaint", bad)
		}
	}
}
