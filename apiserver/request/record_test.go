package request

import (
	"context"
	"encoding/binary"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"testing"

	"github.com/google/uuid"
	"go.uber.org/zap"
)

func TestNotesAreKeptOnlyWhenSomebodyListens(t *testing.T) {
	ctx := Begin(context.Background(), &Info{}, zap.NewNop(), nil)
	Note(ctx, "a", "1")
	if Audited(ctx) || RecordOf(ctx) != nil {
		t.Error("noted with nobody listening")
	}
	if n := testing.AllocsPerRun(10, func() { Note(ctx, "a", "1") }); n != 0 {
		t.Errorf("a note that nobody wants allocates %v times", n)
	}
	Listen(ctx)
	Note(ctx, "early", "1")
	Note(ctx, "early", "2")
	r := Want(ctx, Bodies{Sent: true})
	Note(ctx, "late", "3")
	r.Sent([]byte("s"))
	r.Answer([]byte("a"))
	f := r.Facts()
	if !maps.Equal(f.Notes, map[string]string{"early": "1", "late": "3"}) || string(f.Sent) != "s" || f.Answer != nil {
		t.Errorf("got %+v", f)
	}
	if RecordOf(ctx) != r {
		t.Error("another record on the context")
	}
	Unwanted(ctx)
	Note(ctx, "a", "1")
	if Audited(ctx) || RecordOf(ctx) != nil {
		t.Error("noted after nobody wants it")
	}
}

func TestNoRecordTakesEverything(t *testing.T) {
	var r *Record
	r.Note("a", "b")
	r.Sent(nil)
	r.Answer(nil)
	r.Status(nil)
	r.Impersonate(nil)
	if r.Wants() != (Bodies{}) || r.Facts().Notes != nil {
		t.Error("wants something")
	}
	Note(context.Background(), "a", "b") // outside a request
}

func TestAuditID(t *testing.T) {
	for _, c := range []struct{ name, sent, want string }{
		{"given", "mine", "mine"},
		{"long", strings.Repeat("x", 100), strings.Repeat("x", 64)},
		{"made", "", ""},
	} {
		ctx := Begin(context.Background(), &Info{}, zap.NewNop(), nil)
		sent, answer := http.Header{}, http.Header{}
		sent.Set("Audit-ID", c.sent)
		Identify(ctx, sent, answer)
		got := AuditID(ctx)
		if c.want != "" && got != c.want {
			t.Errorf("%s: %q", c.name, got)
		}
		if id, err := uuid.Parse(got); c.want == "" && (err != nil || id.Version() != 4 || id.Variant() != uuid.RFC4122) {
			t.Errorf("%s: %q: %v", c.name, got, err)
		}
		if answer.Get("Audit-ID") != got {
			t.Errorf("%s: the client is told %q", c.name, answer.Get("Audit-ID"))
		}
	}
	for _, x := range []uint32{0, 0x01234567, 0x89abcdef, 0xffffffff} {
		if got, want := string(binary.BigEndian.AppendUint64(nil, hexOf(x))), fmt.Sprintf("%08x", x); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	if first, second := newID(), newID(); first == second {
		t.Error("the same twice")
	}
}

// What every request pays when nobody audits.
func BenchmarkUnaudited(b *testing.B) {
	ctx := Begin(context.Background(), &Info{}, zap.NewNop(), nil)
	sent, answer := http.Header{}, http.Header{}
	b.ReportAllocs()
	for b.Loop() {
		Identify(ctx, sent, answer)
		Note(ctx, "authorization.k8s.io/decision", "allow")
		Note(ctx, "authorization.k8s.io/reason", "")
	}
}
