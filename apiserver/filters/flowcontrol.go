package filters

import (
	"net/http"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"pilothouse.dev/apiserver/authz"
	"pilothouse.dev/apiserver/flowcontrol"
	"pilothouse.dev/apiserver/handlers"
	"pilothouse.dev/apiserver/request"
)

// The headers that say how a request was classified, as http.Header keeps them. They hold UIDs and no names, since not everybody may
// know the objects (https://kubernetes.io/docs/reference/debug-cluster/flow-control/#diagnostics).
const (
	schemaHeader = "X-Kubernetes-Pf-Flowschema-Uid"
	levelHeader  = "X-Kubernetes-Pf-Prioritylevel-Uid"
)

// FlowControl has every request wait for its seats, or refuses it with 429. Streams into containers are let through; a watch has seats
// until it has told what there is at its start. most is how long a request may take, and a client may stop a watch.
func FlowControl(p Parts, most time.Duration) Filter {
	switch {
	case p.Limits != nil:
		return func(next http.Handler) http.Handler { return &bounded{next, p.Limits, most} }
	case p.Flow != nil:
		return func(next http.Handler) http.Handler { return &fair{next, p.Flow, most} }
	}
	return func(next http.Handler) http.Handler { return next }
}

type fair struct {
	next http.Handler
	gate *flowcontrol.Gate
	most time.Duration
}

func (f *fair) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	ctx := r.Context()
	i, u := request.InfoOf(ctx), request.UserOf(ctx)
	watch := i.Verb == "watch"
	if LongRunning(i) && !watch {
		unhurried(w, r)
		f.next.ServeHTTP(w, r)
		return
	}
	flow := f.gate.Sort(ctx, u, i)
	h := w.Header()
	h[schemaHeader], h[levelHeader] = flow.SchemaUID(), flow.LevelUID()
	c := clientOf(w, r, f.most)
	t := &c.ticket
	if err := f.gate.Enter(ctx, t, flow, u, i, r.URL.RawQuery); err != nil {
		tooMany(w, r, err.Error())
		return
	}
	defer t.Leave()
	if watch {
		request.OnBegun(ctx, t.Leave)
		defer f.gate.Watching(i, r.URL.RawQuery)()
	}
	c.serve(f.next)
}

func tooMany(w http.ResponseWriter, r *http.Request, why string) {
	handlers.WriteError(w, r, refusal(why))
}

func refusal(why string) error {
	return apierrors.NewTooManyRequests("Too many requests, please try again later: "+why, 1)
}

// bounded is what there is without priorities and fairness.
type bounded struct {
	next   http.Handler
	limits *flowcontrol.Limits
	most   time.Duration
}

func (b *bounded) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	i := request.InfoOf(r.Context())
	if LongRunning(i) {
		if i.Verb == "watch" {
			clientOf(w, r, b.most).serve(b.next)
			return
		}
		unhurried(w, r)
		b.next.ServeHTTP(w, r)
		return
	}
	changes := i.IsResource && i.Verb != "get" && i.Verb != "list"
	leave, ok := b.limits.Enter(changes)
	switch {
	case ok:
		defer leave()
	case !request.UserOf(r.Context()).InGroup(authz.Masters): // they are to get through when nobody else does
		tooMany(w, r, "as many requests as may run at a time are running")
		return
	}
	clientOf(w, r, b.most).serve(b.next)
}
