package accounts

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// server is who is asked for tokens, and who is shown them.
type server struct {
	issued  int
	away    error         // tokens cannot be had
	life    time.Duration // of tokens
	refuses string
	shown   []string
}

func (s *server) issue(context.Context, string) (string, time.Time, error) {
	if s.away != nil {
		return "", time.Time{}, s.away
	}
	s.issued++
	return fmt.Sprintf("t%d", s.issued), time.Now().Add(s.life), nil
}

func (s *server) RoundTrip(r *http.Request) (*http.Response, error) {
	token := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	s.shown = append(s.shown, token)
	if token == s.refuses {
		return &http.Response{StatusCode: http.StatusUnauthorized, Body: http.NoBody, Request: r}, nil
	}
	return &http.Response{StatusCode: http.StatusOK, Body: http.NoBody, Request: r}, nil
}

func TestBearer(t *testing.T) {
	for name, play := range map[string]func(t *testing.T, s *server, send func() error){
		"one token serves until a fifth of its life is left": func(t *testing.T, s *server, send func() error) {
			for range 5 { // at 0, 10, 20, 30, 40 minutes
				if err := send(); err != nil {
					t.Fatal(err)
				}
				time.Sleep(10 * time.Minute)
			}
			send() // at 50
			expect(t, s, "t1 t1 t1 t1 t1 t2")
		},
		"the old one serves while there is no other": func(t *testing.T, s *server, send func() error) {
			send()
			time.Sleep(49 * time.Minute)
			s.away = errors.New("away")
			if err := send(); err != nil {
				t.Error(err)
			}
			s.away = nil
			time.Sleep(again / 2)
			send()
			time.Sleep(again)
			send()
			expect(t, s, "t1 t1 t1 t2")
		},
		"but not when it has ended": func(t *testing.T, s *server, send func() error) {
			send()
			time.Sleep(time.Hour)
			s.away = errors.New("away")
			if err := send(); !errors.Is(err, s.away) {
				t.Errorf("sent without a token: %v", err)
			}
			expect(t, s, "t1")
		},
		"none can be had yet": func(t *testing.T, s *server, send func() error) {
			s.away = errors.New("away")
			if err := send(); !errors.Is(err, s.away) {
				t.Errorf("sent without a token: %v", err)
			}
			s.away = nil
			if err := send(); err != nil {
				t.Error(err)
			}
			expect(t, s, "t1")
		},
		"a refused one is not used again": func(t *testing.T, s *server, send func() error) {
			s.refuses = "t1"
			send()
			send()
			send()
			expect(t, s, "t1 t2 t2")
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &server{life: time.Hour}
				b := &bearer{name: "job-controller", next: s, issue: s.issue}
				play(t, s, func() error {
					r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://localhost/", nil)
					if err != nil {
						t.Fatal(err)
					}
					answer, err := b.RoundTrip(r)
					if err == nil {
						answer.Body.Close()
					}
					if r.Header.Get("Authorization") != "" {
						t.Error("the caller's request was changed")
					}
					return err
				})
			})
		})
	}
}

func expect(t *testing.T, s *server, want string) {
	t.Helper()
	if got := strings.Join(s.shown, " "); got != want {
		t.Errorf("tokens shown: %s, want %s", got, want)
	}
}
