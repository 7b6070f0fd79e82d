package server

import (
	"errors"
	"net/http"
	"net/url"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

func TestLogOptions(t *testing.T) {
	now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	q := url.Values{"follow": {"true"}, "timestamps": {"1"}, "tailLines": {"0"}, "limitBytes": {"10"}, "sinceSeconds": {"60"}, "stream": {"Stderr"}}
	o, err := logOptions(q, now)
	if err != nil || !o.Follow || !o.Timestamps || *o.TailLines != 0 || *o.LimitBytes != 10 || !o.Since.Equal(now.Add(-time.Minute)) || o.Stream != "stderr" {
		t.Errorf("got %+v, %v", o, err)
	}
	if o, err := logOptions(url.Values{"sinceTime": {"2026-01-01T11:00:00Z"}, "stream": {"All"}}, now); err != nil || !o.Since.Equal(now.Add(-time.Hour)) || o.Stream != "" || o.TailLines != nil {
		t.Errorf("got %+v, %v", o, err)
	}
	if o, err := logOptions(url.Values{"sinceSeconds": {"9223372036854775807"}}, now); err != nil || !o.Since.Before(now.AddDate(-200, 0, 0)) {
		t.Errorf("since ever is since %s, %v", o.Since, err)
	}
	for _, bad := range []url.Values{{"tailLines": {"-1"}}, {"tailLines": {"x"}}, {"limitBytes": {"1.5"}}, {"sinceSeconds": {"soon"}}, {"sinceTime": {"noon"}}, {"stream": {"both"}}} {
		_, err := logOptions(bad, now)
		var f failure
		if !errors.As(err, &f) || f.code != http.StatusBadRequest {
			t.Errorf("%v gives %v", bad, err)
		}
	}
}

type pods []*corev1.Pod

func (p pods) Pods() []*corev1.Pod { return p }

// A pod that was deleted by force still ends when the next of its name is there: that one is meant, unless the UID says else.
func TestNamesakes(t *testing.T) {
	at := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	one := func(uid types.UID, age time.Duration, ends bool) *corev1.Pod {
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "a", UID: uid, CreationTimestamp: metav1.NewTime(at.Add(-age))}}
		if ends {
			p.DeletionTimestamp = &metav1.Time{Time: at}
		}
		return p
	}
	for _, tc := range []struct {
		name string
		pods pods
		uid  types.UID
		want types.UID
	}{
		{"newer", pods{one("old", time.Hour, false), one("new", time.Minute, false)}, "", "new"},
		{"newer, first", pods{one("new", time.Minute, false), one("old", time.Hour, false)}, "", "new"},
		{"the one that stays", pods{one("new", time.Minute, false), one("old", time.Minute, true)}, "", "new"},
		{"by UID", pods{one("new", time.Minute, false), one("old", time.Hour, false)}, "old", "old"},
		{"none", pods{one("new", time.Minute, false)}, "other", ""},
	} {
		s := &Server{parts: Parts{Pods: tc.pods}}
		p, err := s.pod("ns", "a", tc.uid)
		if (err == nil) != (tc.want != "") || p != nil && p.UID != tc.want {
			t.Errorf("%s: %v, %v", tc.name, p, err)
		}
	}
}
