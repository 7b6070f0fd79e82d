package storage

import (
	"errors"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
)

// TestKeyCompare holds the order against that of the etcd keys it stands for.
func TestKeyCompare(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	part := func() string {
		b := make([]byte, rnd.IntN(4))
		for i := range b {
			b[i] = "a-.0"[rnd.IntN(4)]
		}
		return string(b)
	}
	for range 20000 {
		a, b := Key{part(), part()}, Key{part(), part()}
		if got, want := a.Compare(b), strings.Compare(a.Namespace+"/"+a.Name, b.Namespace+"/"+b.Name); got != want {
			t.Fatalf("%q and %q compare as %d, want %d", a, b, got, want)
		}
	}
}

func TestToken(t *testing.T) {
	pods, nodes := Kind{Plural: "pods", Namespaced: true}, Kind{Plural: "nodes"}
	for _, c := range []struct {
		name  string
		token Token
		kind  Kind
		ns    string
		good  bool
	}{
		{"namespaced", Token{7, Key{"ns", "a"}, 12}, pods, "", true},
		{"newest", Token{0, Key{"ns", "a"}, 0}, pods, "", true},
		{"largest", Token{1<<63 - 1, Key{"ns", "a"}, 1<<63 - 1}, pods, "", true},
		{"in its namespace", Token{7, Key{"ns", "a"}, 0}, pods, "ns", true},
		{"in another", Token{7, Key{"ns", "a"}, 0}, pods, "n", false},
		{"cluster", Token{7, Key{"", "a"}, 0}, nodes, "", true},
		{"cluster for a namespaced kind", Token{7, Key{"", "a"}, 0}, pods, "", false},
		{"namespaced for a cluster kind", Token{7, Key{"ns", "a"}, 0}, nodes, "", false},
		{"no name", Token{7, Key{"ns", ""}, 0}, pods, "", false},
		{"a path", Token{7, Key{"ns", "a/b"}, 0}, pods, "", false},
		{"negative revision", Token{-1, Key{"ns", "a"}, 0}, pods, "", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := ParseToken(c.token.String(), c.kind, c.ns)
			if c.good && (err != nil || got != c.token) {
				t.Errorf("became %+v, %v", got, err)
			}
			if !c.good && !errors.Is(err, ErrBadContinue) {
				t.Errorf("became %+v, %v", got, err)
			}
		})
	}
}

func FuzzParseToken(f *testing.F) {
	f.Add(Token{7, Key{"ns", "a"}, 12}.String(), "", true)
	f.Add(Token{0, Key{"", "a"}, 0}.String(), "", false)
	f.Add("AQ", "ns", true)
	f.Fuzz(func(t *testing.T, s, ns string, namespaced bool) {
		got, err := ParseToken(s, Kind{Plural: "things", Namespaced: namespaced}, ns)
		if err != nil {
			if !errors.Is(err, ErrBadContinue) || got != (Token{}) {
				t.Fatalf("%+v, %v", got, err)
			}
			return
		}
		if !got.After.Valid(namespaced) || got.Revision < 0 || got.Left < 0 || ns != "" && got.After.Namespace != ns {
			t.Fatalf("taken: %+v", got)
		}
		if again, err := ParseToken(got.String(), Kind{Namespaced: namespaced}, ns); err != nil || again != got {
			t.Fatalf("%+v became %+v, %v", got, again, err)
		}
	})
}

func TestSelectorDoesNotAllocate(t *testing.T) {
	l, err := labels.Parse("app in (a,b),tier!=x")
	if err != nil {
		t.Fatal(err)
	}
	s := Selector{Namespace: "ns", Labels: l, Fields: fields.ParseSelectorOrDie("spec.nodeName=n1,metadata.name=a")}
	e := &Entry{Key: Key{"ns", "a"}, Attrs: Attrs{Labels: labels.Set{"app": "a"}, Fields: fields.Set{"spec.nodeName": "n1"}}}
	if !s.Matches(e) {
		t.Fatal("does not match")
	}
	if n := testing.AllocsPerRun(100, func() { s.Matches(e) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestEncodedOnceUntilForgotten(t *testing.T) {
	e := &Entry{Value: []byte("v")}
	var mu sync.Mutex
	made := map[Form]int{}
	get := func(f Form) {
		b, err := e.Encoded(f, func(e *Entry) ([]byte, error) {
			mu.Lock()
			defer mu.Unlock()
			made[f]++
			return append([]byte(f.Media), e.Value...), nil
		})
		if err != nil || string(b) != f.Media+"v" {
			t.Errorf("%s: %q, %v", f.Media, b, err)
		}
	}
	json, proto := Form{Media: "json"}, Form{Media: "proto", Event: Added}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() { get(json); get(proto) })
	}
	wg.Wait()
	if made[json] != 1 || made[proto] != 1 {
		t.Errorf("encoded %v times, want once each", made)
	}
	bad := errors.New("bad")
	if _, err := e.Encoded(Form{Media: "bad"}, func(*Entry) ([]byte, error) { return nil, bad }); !errors.Is(err, bad) {
		t.Error(err)
	}
	get(Form{Media: "bad"}) // an error is not kept
	e.Forget()
	get(json)
	get(json)
	if made[json] != 3 || e.forms != nil {
		t.Errorf("encoded %d times, want anew for each after Forget; kept %v", made[json], e.forms)
	}
}
