package server_test

import (
	"net/http"
	"testing"

	"pilothouse.dev/pkg/testcluster"
)

// Events go when they have not changed for as long as --event-ttl says, by whichever version they were written; others stay.
func TestEventsGo(t *testing.T) {
	c := testcluster.Start(t, "--event-ttl=2s")
	a := &api{c, &http.Client{Transport: &http.Transport{TLSClientConfig: c.TLS(), ForceAttemptHTTP2: true}}}
	t.Cleanup(a.http.CloseIdleConnections)
	ns := a.namespace(t)
	old, newer := "/api/v1/namespaces/"+ns+"/events", "/apis/events.k8s.io/v1/namespaces/"+ns+"/events"
	a.must(t, 201, "POST", old, `{"metadata":{"name":"old"},"involvedObject":{"kind":"Pod","namespace":"`+ns+`","name":"p"}}`)
	a.must(t, 201, "POST", newer, `{"metadata":{"name":"new"},"regarding":{"kind":"Pod","namespace":"`+ns+`","name":"p"},
		"eventTime":"2026-01-01T00:00:00.000000Z","reportingController":"example.com/c","reportingInstance":"i","action":"a","reason":"r","type":"Normal"}`)
	if n := items(t, a, old); n != 2 {
		t.Fatalf("there are %d events, want 2", n)
	}
	until(t, "the events are gone", func() bool { return items(t, a, old) == 0 })
	a.must(t, 200, "GET", "/api/v1/namespaces/"+ns+"/serviceaccounts/default", "")
}
