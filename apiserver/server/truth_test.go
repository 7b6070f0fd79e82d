package server_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
)

// change is one line of etcd's history: the state after and before it, nil where there is none.
type change struct {
	rev      int64
	now, was object
}

// etcdHistory reads all that ever happened to a kind, from etcd itself (https://etcd.io/docs/v3.6/dev-guide/api_grpc_gateway/).
func etcdHistory(t *testing.T, endpoint string, k *watched, last int64) []change {
	t.Helper()
	prefix := "/registry/core/" + k.plural + "/"
	ask, err := json.Marshal(map[string]any{"create_request": map[string]any{
		"key": []byte(prefix), "range_end": []byte(prefix[:len(prefix)-1] + "0"), "start_revision": "1", "prev_kv": true, "progress_notify": true,
	}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, "POST", endpoint+"/v3/watch", bytes.NewReader(ask))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	type kv struct {
		Key, Value  []byte
		ModRevision string `json:"mod_revision"`
	}
	read := func(e *kv, rev string) object {
		if e == nil {
			return nil
		}
		o := k.empty()
		if err := o.Unmarshal(e.Value); err != nil {
			t.Fatal(err)
		}
		o.SetResourceVersion(rev)
		return o
	}
	in := json.NewDecoder(resp.Body)
	var out []change
	ends := map[string]bool{}
	for { // the end is known by the last objects that were written
		var m struct {
			Result struct {
				Events []struct {
					Type   string
					Kv     kv
					PrevKv *kv `json:"prev_kv"`
				}
			}
		}
		if err := in.Decode(&m); err != nil {
			t.Fatalf("etcd's history of %s ends: %v", k.plural, err)
		}
		for _, e := range m.Result.Events {
			rev, err := strconv.ParseInt(e.Kv.ModRevision, 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			ch := change{rev: rev, was: read(e.PrevKv, e.Kv.ModRevision)}
			if e.PrevKv != nil {
				ch.was.SetResourceVersion(e.Kv.ModRevision) // as one who loses sight of it is told
			}
			if e.Type != "DELETE" {
				ch.now = read(&e.Kv, e.Kv.ModRevision)
				if strings.HasPrefix(ch.now.GetName(), "end-") {
					ends[ch.now.GetName()] = true
				}
			}
			out = append(out, ch)
		}
		if len(ends) == 12 {
			return out
		}
	}
}

// project is a history as somebody with an interest should see it.
func project(t *testing.T, i *interest, history []change) []step {
	var out []step
	for _, ch := range history {
		switch was, is := ch.was != nil && i.matches(t, ch.was), ch.now != nil && i.matches(t, ch.now); {
		case was && is:
			out = append(out, step{"MODIFIED", ch.rev, ch.now})
		case is:
			out = append(out, step{"ADDED", ch.rev, ch.now})
		case was:
			out = append(out, step{"DELETED", ch.rev, ch.was})
		}
	}
	return out
}

// compare holds one connection against the projected history.
func compare(t *testing.T, f *follower, s *segment, want []step, history []change) {
	t.Helper()
	where := fmt.Sprintf("%s in %q with %q %q from %d", f.kind.plural, f.ns, f.labels, f.fields, s.from)
	if s.state != nil {
		state := map[string]object{}
		for _, ch := range history {
			if ch.rev > s.from {
				break
			}
			if o := ch.was; o != nil {
				delete(state, o.GetNamespace()+"/"+o.GetName())
			}
			if o := ch.now; o != nil && f.matches(t, o) {
				state[o.GetNamespace()+"/"+o.GetName()] = o
			}
		}
		for _, e := range s.state {
			key := e.obj.GetNamespace() + "/" + e.obj.GetName()
			if e.event != "ADDED" || state[key] == nil || !same(e.obj, state[key]) {
				t.Errorf("%s: the state has %s, etcd %v", where, e, state[key])
			}
			delete(state, key)
		}
		for key := range state {
			t.Errorf("%s: the state lacks %s", where, key)
		}
	}
	i, _ := slices.BinarySearchFunc(want, s.from+1, func(e step, rev int64) int { return int(e.rev - rev) })
	for n, got := range s.steps {
		if got.event == "BOOKMARK" {
			if i < len(want) && want[i].rev <= got.rev {
				t.Errorf("%s: %s came before %s", where, got, want[i])
			}
			continue
		}
		if i >= len(want) {
			t.Errorf("%s: event %d is %s, etcd has no more", where, n, got)
			return
		}
		if got.event != want[i].event || got.rev != want[i].rev || !same(got.obj, want[i].obj) {
			t.Errorf("%s: event %d is %s, in etcd's history %s:\n%v\n%v", where, n, got, want[i], got.obj, want[i].obj)
			return
		}
		i++
	}
}

// same compares objects but for their type, which the stored form does not have.
func same(a, b object) bool {
	a.GetObjectKind().SetGroupVersionKind(b.GetObjectKind().GroupVersionKind())
	return equality.Semantic.DeepEqual(a, b)
}
