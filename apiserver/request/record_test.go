package request

import (
	"context"
	"maps"
	"testing"

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
