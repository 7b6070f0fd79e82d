package audit

import (
	"fmt"
	"maps"
	"net/http"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"

	"pilothouse.dev/apiserver/request"
)

// maxAgent is how much of a User-Agent is recorded.
const maxAgent = 1024

// A request that is answered in full, and took this long, has an annotation that says so.
const (
	slow    = 500 * time.Millisecond
	latency = "apiserver.latency.k8s.io/total"
)

// Entry is one request that is recorded. Its methods are called by the goroutine that answers the request; on nil they do nothing.
type Entry struct {
	t      *Trail
	r      *http.Request
	what   decision
	base   auditv1.Event // what all events of the request say
	record *request.Record
	// started: it is long running; ended: it has its last event.
	started, ended bool
}

// Begin is called once a request, when it is known who asks (nobody, of a request that is refused for that) and before anything
// else is done with it. It returns nil for a request that is not recorded. The context of r comes from request.Begin.
func (t *Trail) Begin(r *http.Request) *Entry {
	if !t.On() {
		return nil
	}
	ctx := r.Context()
	u, i := request.UserOf(ctx), request.InfoOf(ctx)
	d := t.decide(u, i)
	if d.none() {
		request.Unwanted(ctx)
		return nil
	}
	bodies := d.bodies()
	if !i.IsResource {
		bodies = request.Bodies{}
	}
	e := &Entry{t: t, r: r, what: d, record: request.Want(ctx, bodies)}
	e.base = auditv1.Event{
		TypeMeta: metav1.TypeMeta{APIVersion: auditv1.SchemeGroupVersion.String(), Kind: "Event"},
		Level:    d.level, AuditID: types.UID(request.AuditID(ctx)), RequestURI: r.URL.RequestURI(), Verb: i.Verb,
		UserAgent: short(r.UserAgent()), RequestReceivedTimestamp: metav1.NewMicroTime(request.Began(ctx)),
	}
	if u != nil {
		e.base.User = *infoOf(u)
	}
	for _, ip := range utilnet.SourceIPs(r) {
		e.base.SourceIPs = append(e.base.SourceIPs, ip.String())
	}
	if i.IsResource {
		e.base.ObjectRef = &auditv1.ObjectReference{
			Resource: i.Resource, Namespace: i.Namespace, Name: i.Name, APIGroup: i.Group, APIVersion: i.Version, Subresource: i.Subresource,
		}
	}
	return e
}

func short(agent string) string {
	if len(agent) <= maxAgent {
		return agent
	}
	return agent[:maxAgent] + "...TRUNCATED"
}

func infoOf(u *request.User) *authenticationv1.UserInfo {
	info := &authenticationv1.UserInfo{Username: u.Name, UID: u.UID, Groups: u.Groups}
	for key, values := range u.Extra {
		if info.Extra == nil {
			info.Extra = make(map[string]authenticationv1.ExtraValue, len(u.Extra))
		}
		info.Extra[key] = values
	}
	return info
}

// Received is the stage RequestReceived. The error says that the request must be refused: its event cannot be written.
func (e *Entry) Received() error {
	if e == nil {
		return nil
	}
	err := e.send(auditv1.StageRequestReceived, nil)
	if err != nil {
		e.ended = true // nothing is done for it
		e.t.metrics.rejected.Inc()
	}
	return err
}

// Started is the stage ResponseStarted of a long running request: its header goes out.
func (e *Entry) Started(code int) {
	if e != nil {
		e.started = true
		_ = e.send(auditv1.StageResponseStarted, &metav1.Status{Code: int32(code)}) // counted and logged; the request goes on
	}
}

// Complete is the stage ResponseComplete. code is 0 when nothing was answered. message, when not empty, says more than the answer
// told the client.
func (e *Entry) Complete(code int, message string) {
	if e == nil || e.ended {
		return
	}
	e.ended = true
	status := &metav1.Status{Code: int32(code)}
	if code == 0 {
		status = &metav1.Status{Code: http.StatusOK, Status: metav1.StatusSuccess, Message: "Connection closed early"}
	}
	if s := e.record.Facts().Status; s != nil {
		status = &metav1.Status{Status: s.Status, Message: s.Message, Reason: s.Reason, Details: s.Details, Code: s.Code}
	}
	if message != "" {
		status.Message = message
	}
	if took := time.Since(e.base.RequestReceivedTimestamp.Time); took >= slow && !e.started {
		e.record.Note(latency, took.String())
	}
	_ = e.send(auditv1.StageResponseComplete, status) // counted and logged; the request is over
}

// Panicked is the stage Panic, the last one then.
func (e *Entry) Panicked(cause any) {
	if e == nil || e.ended {
		return
	}
	e.ended = true
	_ = e.send(auditv1.StagePanic, &metav1.Status{ // counted and logged; the request is over
		Code: http.StatusInternalServerError, Status: metav1.StatusFailure, Reason: metav1.StatusReasonInternalError,
		Message: fmt.Sprintf("APIServer panic'd: %v", cause),
	})
}

// send makes the event of a stage.
func (e *Entry) send(s auditv1.Stage, status *metav1.Status) error {
	if e.what.omits(s) {
		return nil
	}
	ev := e.base
	ev.Stage, ev.ResponseStatus, ev.StageTimestamp = s, status, metav1.NewMicroTime(time.Now())
	f := e.record.Facts()
	ev.Annotations = maps.Clone(f.Notes)
	if f.Impersonated != nil {
		ev.ImpersonatedUser = infoOf(f.Impersonated)
	}
	if f.Sent != nil {
		ev.RequestObject = &runtime.Unknown{Raw: f.Sent, ContentType: runtime.ContentTypeJSON}
	}
	if f.Answer != nil {
		ev.ResponseObject = &runtime.Unknown{Raw: f.Answer, ContentType: runtime.ContentTypeJSON}
	}
	if ev.ObjectRef != nil && f.Object != (request.Named{}) {
		ref := *ev.ObjectRef
		if ref.Name == "" {
			ref.Name = f.Object.Name
		}
		if ref.Namespace == "" {
			ref.Namespace = f.Object.Namespace
		}
		ref.UID, ref.ResourceVersion = types.UID(f.Object.UID), f.Object.ResourceVersion
		ev.ObjectRef = &ref
	}
	return e.t.send(e.r.Context(), &ev)
}
