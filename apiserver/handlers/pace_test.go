package handlers

import (
	"context"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"
)

// slowWriter takes a while for each write.
type slowWriter struct {
	*httptest.ResponseRecorder
	takes time.Duration
}

func (s *slowWriter) Write(b []byte) (int, error) {
	time.Sleep(s.takes)
	return s.ResponseRecorder.Write(b)
}

// Long lists take turns piece by piece, and a client that does not read loses his.
func TestPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &pace{turns: make(turns, 1)}
		list := func(takes time.Duration, pieces int, over *time.Duration) {
			began := time.Now()
			w, _, err := p.begin(t.Context(), &slowWriter{httptest.NewRecorder(), takes})
			if err != nil {
				t.Error(err)
				return
			}
			defer w.end()
			for range pieces {
				if _, err := w.Write([]byte("x")); err != nil {
					t.Error(err)
				}
			}
			*over = time.Since(began)
		}
		var long, short, stuck time.Duration
		go list(time.Minute, 2, &stuck)
		go list(time.Millisecond, 100, &long)
		synctest.Wait()
		time.Sleep(time.Millisecond)
		go list(time.Millisecond, 5, &short)
		time.Sleep(time.Hour)
		synctest.Wait()
		if short == 0 || short > 50*time.Millisecond || long == 0 || long > 200*time.Millisecond || stuck > 3*time.Minute {
			t.Errorf("the short list took %s, the long one %s, the one that nobody read %s", short, long, stuck)
		}
		if p.lists.Load() != 0 || len(p.turns) != 0 {
			t.Errorf("%d lists, %d turns are left", p.lists.Load(), len(p.turns))
		}
		// A request that is over does not wait, and leaves nothing behind.
		first, alone, err := p.begin(t.Context(), httptest.NewRecorder())
		if err != nil || !alone {
			t.Fatal(alone, err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, alone, err := p.begin(ctx, httptest.NewRecorder()); err == nil || alone {
			t.Errorf("a request that is over began: %v", err)
		}
		first.end()
		if p.lists.Load() != 0 || len(p.turns) != 0 {
			t.Errorf("%d lists, %d turns are left", p.lists.Load(), len(p.turns))
		}
	})
}
