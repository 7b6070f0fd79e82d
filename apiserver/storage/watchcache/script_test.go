package watchcache

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"

	"pilothouse.dev/apiserver/storage"
	"pilothouse.dev/apiserver/storage/etcd"
	"pilothouse.dev/apiserver/storage/storagetest"
	"pilothouse.dev/pkg/logging"
)

// script drives one cache as its feed does, without etcd: the cache is all the state there is.
type script struct {
	c   *cache
	rev int64
	now time.Time
}

func newScript(c *cache) *script {
	s := &script{c: c, rev: 1, now: time.Now()}
	c.now = func() time.Time { return s.now }
	c.install(&storage.Page{Revision: 1})
	return s
}

func scriptKey(s string) storage.Key {
	ns, name, _ := strings.Cut(s, "/")
	return storage.Key{Namespace: ns, Name: name}
}

// put stores an object at the next revision.
func (s *script) put(key string, o storagetest.Object) {
	s.rev++
	s.c.apply(etcd.Step{Revision: s.rev, Changes: []etcd.Change{{Entry: &storage.Entry{
		Key: scriptKey(key), Revision: s.rev, Value: o.Bytes(), Attrs: storage.Attrs{Labels: o.Labels, Fields: o.Fields}}}}})
}

// delete removes an object at the next revision.
func (s *script) delete(key string) {
	s.rev++
	s.c.apply(etcd.Step{Revision: s.rev, Changes: []etcd.Change{{Entry: &storage.Entry{Key: scriptKey(key), Revision: s.rev}, Deleted: true}}})
}

// progress moves the revision without a change.
func (s *script) progress(to int64) {
	s.rev = to
	s.c.apply(etcd.Step{Revision: to})
}

func quiet(t testing.TB) *zap.Logger { return logging.ForTest(t) }

func yield() { runtime.Gosched() }

// update has TestScripts write what is instead of comparing with it.
var update = flag.Bool("update", false, "rewrite testdata")

// TestScripts plays the stories of testdata: a line that begins with «>» is a command, what follows is what it says.
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, f := range files {
		t.Run(strings.TrimSuffix(filepath.Base(f), ".txt"), func(t *testing.T) {
			text, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			p := &player{
				script:   newScript(newCache(storagetest.Pods(), openDB(t, shared), newFresh(nil, nil), quiet(t))),
				watchers: map[string]storage.Watcher{}, values: map[string]string{},
			}
			p.c.patience = 10 * time.Millisecond
			var out strings.Builder
			for line := range strings.Lines(string(text)) {
				switch {
				case strings.HasPrefix(line, "> "):
					out.WriteString(line)
					p.do(strings.Fields(line)[1:], &out)
				case strings.HasPrefix(line, "#"), strings.TrimSpace(line) == "":
					out.WriteString(line)
				}
			}
			if *update {
				if err := os.WriteFile(f, []byte(out.String()), 0o644); err != nil {
					t.Fatal(err)
				}
			} else if out.String() != string(text) {
				t.Errorf("the story went otherwise; rewrite it with -update and look at the difference:\n%s", out.String())
			}
		})
	}
}

// player is a script that understands words.
type player struct {
	*script
	watchers map[string]storage.Watcher
	values   map[string]string // continue tokens by the name of their page
}

func (p *player) do(words []string, out *strings.Builder) {
	say := func(format string, args ...any) { fmt.Fprintf(out, format+"\n", args...) }
	opts := map[string]string{}
	var args []string
	for _, w := range words[1:] {
		if k, v, ok := strings.Cut(w, ":"); ok {
			opts[k] = v
		} else {
			args = append(args, w)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel() // nothing waits in a script
	switch words[0] {
	case "put": // put ns/name [l:LABEL] [f:FIELD] [data:D] [size:N]
		o := storagetest.Object{Data: opts["data"]}
		if n, _ := strconv.Atoi(opts["size"]); n > 0 {
			o.Data = strings.Repeat("x", n)
		}
		if v, ok := opts["l"]; ok {
			o.Labels = labels.Set{"l": v}
		}
		if v, ok := opts["f"]; ok {
			o.Fields = fields.Set{"f": v}
		}
		p.put(args[0], o)
	case "puts": // puts N: as many changes of ns/many
		for range number(args[0]) {
			p.put("ns/many", storagetest.Object{})
		}
	case "delete":
		p.delete(args[0])
	case "progress":
		p.progress(int64(number(args[0])))
	case "later": // later 80s
		d, err := time.ParseDuration(args[0])
		if err != nil {
			panic(err)
		}
		p.now = p.now.Add(d)
		p.c.sweep()
	case "load": // load REVISION ns/name@REVISION ...: as after a compaction
		page := &storage.Page{Revision: int64(number(args[0]))}
		for _, a := range args[1:] {
			k, rev, _ := strings.Cut(a, "@")
			page.Entries = append(page.Entries, &storage.Entry{Key: scriptKey(k), Revision: int64(number(rev)), Value: []byte("{}")})
		}
		p.c.install(page)
		p.rev = page.Revision
	case "watch": // watch NAME [from:REVISION] [initial:yes] [bookmarks:yes] [ns:] [name:] [l:] [f:]
		o := storage.WatchOptions{Read: storage.Cached, Initial: opts["initial"] != "", Bookmarks: opts["bookmarks"] != "", Selector: selector(opts)}
		if opts["from"] != "" {
			o.Read.Revision = int64(number(opts["from"]))
		}
		w, err := p.c.Watch(context.Background(), o)
		if err != nil {
			say("%v", err)
			return
		}
		p.watchers[args[0]] = w
	case "next":
		w := p.watchers[args[0]].(*watcher)
		evs, err := w.Next(ctx)
		if errors.Is(err, context.Canceled) {
			say("(nothing)")
			return
		} else if err != nil {
			say("%v", err)
			return
		}
		if len(evs) > 10 {
			say("%d events up to %d", len(evs), evs[len(evs)-1].Revision)
			return
		}
		for _, e := range evs {
			if e.Type == storage.Bookmark {
				say("BOOKMARK at %d%s", e.Revision, map[bool]string{true: ", end of the initial events"}[e.InitialEnd])
			} else {
				say("%s %s@%d %.60s", e.Type, e.Entry.Key, e.Entry.Revision, e.Entry.Value)
			}
		}
	case "due": // the watcher's bookmark timer fires
		p.watchers[args[0]].(*watcher).due = true
	case "close":
		p.watchers[args[0]].Close()
	case "list": // list NAME [exact:R] [newer:R] [limit:N] [continue:NAME] [ns:] [l:] [f:]
		o := storage.ListOptions{Read: storage.Cached, Selector: selector(opts), Continue: p.values[opts["continue"]]}
		o.Limit = int64(number(opts["limit"]))
		if r := opts["exact"]; r != "" {
			o.Read = storage.Read{Match: storage.Exact, Revision: int64(number(r))}
		}
		if r := opts["newer"]; r != "" {
			o.Read.Revision = int64(number(r))
		}
		p.c.truth = elsewhere{}
		page, err := p.c.List(context.Background(), o)
		if err != nil {
			say("%v", err)
			return
		}
		p.values[args[0]] = page.Continue
		var names []string
		for _, e := range page.Entries {
			names = append(names, fmt.Sprintf("%s@%d", e.Key, e.Revision))
		}
		say("at %d: %s%s", page.Revision, strings.Join(names, " "), map[bool]string{true: " …"}[page.Continue != ""])
		if page.Remaining != nil {
			say("%d follow", *page.Remaining)
		}
	case "ring":
		r := &p.c.ring
		say("changes %d to %d of %d, recent from %d, floor %d, %d bytes", r.first, r.next, len(r.buf), r.warm, r.floor, r.bytes)
	case "topics":
		say("everything: %d watchers", p.c.topics.all.watchers)
		byName := map[string]*topic{}
		for of, t := range p.c.topics.narrow {
			byName[strings.Trim(fmt.Sprintf("%c %s %s %s", of.by, of.field, of.a, of.b), " ")] = t
		}
		for _, n := range slices.Sorted(maps.Keys(byName)) {
			say("%s: %d watchers, changes %v", n, byName[n].watchers, byName[n].seqs)
		}
	default:
		panic("no such command: " + words[0])
	}
}

func number(s string) int {
	if s == "" {
		return 0
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		panic(err)
	}
	return n
}

func selector(opts map[string]string) storage.Selector {
	s := storage.Selector{Namespace: opts["ns"], Name: opts["name"]}
	if v, ok := opts["l"]; ok {
		s.Labels = labels.SelectorFromSet(labels.Set{"l": v})
	}
	if v, ok := opts["f"]; ok {
		s.Fields = fields.OneTermEqualSelector("f", v)
	}
	return s
}

// elsewhere stands for etcd in scripts: it says that it was asked.
type elsewhere struct{ storage.Store }

func (elsewhere) List(_ context.Context, o storage.ListOptions) (*storage.Page, error) {
	return nil, errors.New("(asked etcd)")
}
