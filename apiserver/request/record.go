package request

import (
	"context"
	"maps"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Record is what audit is told of one request while it runs, beside what Info and User say. It exists only while somebody audits
// the request: all its methods may be called on nil, and then do nothing and want nothing. Safe for concurrent use.
type Record struct {
	mu           sync.Mutex
	bodies       Bodies            // guarded by mu; see Want
	notes        map[string]string // guarded by mu
	impersonated *User             // guarded by mu
	sent, answer []byte            // guarded by mu; JSON
	status       *metav1.Status    // guarded by mu
	object       Named             // guarded by mu
}

// Bodies is which of the objects that a request carries and answers are kept.
type Bodies struct {
	Sent   bool // the object that the client sent
	Answer bool // the object that it got
	Owners bool // with metadata.managedFields
}

// Named is which object a request turned out to be about.
type Named struct{ Namespace, Name, UID, ResourceVersion string }

// Facts are all that a Record holds.
type Facts struct {
	Notes        map[string]string
	Impersonated *User
	Sent, Answer []byte // JSON, nil when there is none
	Status       *metav1.Status
	Object       Named
}

// Note tells audit something about the request, as an annotation of its events: key is like that of a label, in the domain of who
// says it. The first value of a key stays, since a write that is tried again says the same again. Without auditing it costs nothing.
func Note(ctx context.Context, key, value string) {
	s := scopeOf(ctx)
	if s == nil || !s.audited {
		return
	}
	if s.record == nil { // before the filter that audits: nobody else has the request yet
		s.record = &Record{}
	}
	s.record.Note(key, value)
}

// Audited says whether anybody wants notes, for those that cost something to make.
func Audited(ctx context.Context) bool {
	s := scopeOf(ctx)
	return s != nil && s.audited
}

// RecordOf is what audit is told of the request, nil when nobody audits it.
func RecordOf(ctx context.Context) *Record {
	if s := scopeOf(ctx); s != nil && s.audited {
		return s.record
	}
	return nil
}

// Listen begins to keep notes. For the first filter, when there is an audit policy; ctx comes from Begin.
func Listen(ctx context.Context) {
	s := scopeOf(ctx)
	s.audited, s.began = true, time.Now().UnixNano()
}

// Began is when the request came, if somebody listens.
func Began(ctx context.Context) time.Time {
	if s := scopeOf(ctx); s != nil && s.began != 0 {
		return time.Unix(0, s.began)
	}
	return time.Time{}
}

// Want settles how much of the request is kept, and returns the record. For the filter that audits, once, before others run at
// the same time; ctx comes from Begin.
func Want(ctx context.Context, b Bodies) *Record {
	s := scopeOf(ctx)
	s.audited = true
	if s.record == nil {
		s.record = &Record{}
	}
	s.record.bodies = b
	return s.record
}

// Unwanted drops what was noted and keeps nothing more. As Want.
func Unwanted(ctx context.Context) {
	s := scopeOf(ctx)
	s.audited, s.record = false, nil
}

// Note is the function Note.
func (r *Record) Note(key, value string) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, said := r.notes[key]; said {
		return
	}
	if r.notes == nil {
		r.notes = make(map[string]string, 2) // a decision and its reason
	}
	r.notes[key] = value
}

// Wants says which objects are to be told with Sent and Answer.
func (r *Record) Wants() Bodies {
	if r == nil {
		return Bodies{}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.bodies
}

// Impersonate notes as whom the request goes on.
func (r *Record) Impersonate(u *User) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.impersonated = u
}

// Sent keeps the object that the client sent, as JSON; it belongs to the record from now on. It is dropped when nobody wants it.
func (r *Record) Sent(json []byte) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.bodies.Sent {
		r.sent = json
	}
}

// Answer keeps the object that the client gets. As Sent.
func (r *Record) Answer(json []byte) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.bodies.Answer {
		r.answer = json
	}
}

// Status keeps the Status that the request was answered with.
func (r *Record) Status(s *metav1.Status) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.status = s
}

// Named keeps which object the client named in what it sent.
func (r *Record) Named(n Named) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.object = n
}

// Called keeps the name of an object that had none when it was sent.
func (r *Record) Called(name string) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.object.Name == "" {
		r.object.Name = name
	}
}

// Facts are what was told up to now. The map is the caller's, the rest is shared and not to be changed.
func (r *Record) Facts() Facts {
	if r == nil {
		return Facts{}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return Facts{Notes: maps.Clone(r.notes), Impersonated: r.impersonated, Sent: r.sent, Answer: r.answer, Status: r.status, Object: r.object}
}
