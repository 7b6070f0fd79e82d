package server

import (
	"errors"
	"net/http"
	"net/url"
	"testing"
	"time"
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
	for _, bad := range []url.Values{{"tailLines": {"-1"}}, {"tailLines": {"x"}}, {"limitBytes": {"1.5"}}, {"sinceSeconds": {"soon"}}, {"sinceTime": {"noon"}}, {"stream": {"both"}}} {
		_, err := logOptions(bad, now)
		var f failure
		if !errors.As(err, &f) || f.code != http.StatusBadRequest {
			t.Errorf("%v gives %v", bad, err)
		}
	}
}
