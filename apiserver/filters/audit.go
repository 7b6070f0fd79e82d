package filters

import (
	"bufio"
	"errors"

	"net"
	"net/http"
	"strings"

	"go.uber.org/zap"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"pilothouse.dev/apiserver/audit"
	"pilothouse.dev/apiserver/authz"
	"pilothouse.dev/apiserver/handlers"
	"pilothouse.dev/apiserver/request"
	"pilothouse.dev/pkg/logging"
)

// What is noted of every request that is recorded
// (https://kubernetes.io/docs/reference/labels-annotations-taints/audit-annotations/).
const (
	decisionNote = "authorization.k8s.io/decision"
	reasonNote   = "authorization.k8s.io/reason"
)

// Audit records each request that gets this far: when it came, when a long running one began to be answered, and how it ended.
// What the outer filters refuse they have recorded themselves: see refused.
func Audit(p Parts) Filter {
	return func(next http.Handler) http.Handler {
		if !p.Audit.On() {
			return next
		}
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { audited(p.Audit, w, r, next.ServeHTTP, "") })
	}
}

// refused records a request that goes no further; answer tells the client, message tells audit more.
func refused(p Parts, w http.ResponseWriter, r *http.Request, answer http.HandlerFunc, message string) {
	if !p.Audit.On() {
		answer(w, r)
		return
	}
	audited(p.Audit, w, r, answer, message)
}

func audited(t *audit.Trail, w http.ResponseWriter, r *http.Request, next http.HandlerFunc, message string) {
	e := t.Begin(r)
	if e == nil {
		next(w, r)
		return
	}
	if err := e.Received(); err != nil {
		logging.From(r.Context()).Warn("request refused: its audit event cannot be written", zap.Error(err))
		handlers.WriteError(w, r, apierrors.NewInternalError(errors.New("failed to store audit event")))
		return
	}
	rec := &heard{ResponseWriter: w, entry: e, long: LongRunning(request.InfoOf(r.Context()))}
	defer func() {
		cause := recover()
		err, _ := cause.(error)
		switch {
		case cause == nil:
			if rec.long && rec.code == 0 {
				e.Started(http.StatusOK)
			}
			e.Complete(rec.code, message)
			return
		case errors.Is(err, http.ErrAbortHandler) && rec.code != 0: // the answer was cut on purpose
			e.Complete(rec.code, "the connection was closed before the whole response was sent")
		default:
			e.Panicked(cause)
		}
		panic(cause)
	}()
	next(rec, r)
}

// heard hears which code goes out, and when.
type heard struct {
	http.ResponseWriter
	entry *audit.Entry
	long  bool
	code  int
}

func (h *heard) begin(code int) {
	if h.code != 0 || code < http.StatusOK && code != http.StatusSwitchingProtocols { // others come before the answer
		return
	}
	if h.code = code; h.long {
		h.entry.Started(code)
	}
}

func (h *heard) WriteHeader(code int) {
	h.begin(code)
	h.ResponseWriter.WriteHeader(code)
}

func (h *heard) Write(b []byte) (int, error) {
	h.begin(http.StatusOK)
	return h.ResponseWriter.Write(b)
}

// Hijack is how a connection begins to carry a stream.
func (h *heard) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	h.begin(http.StatusSwitchingProtocols)
	return http.NewResponseController(h.ResponseWriter).Hijack()
}

// Unwrap lets http.ResponseController find the real writer (flush, deadlines).
func (h *heard) Unwrap() http.ResponseWriter { return h.ResponseWriter }

// noteVerdict tells audit what was decided of a request and why.
func noteVerdict(r *http.Request, v authz.Verdict) {
	if !request.Audited(r.Context()) {
		return
	}
	decision := "forbid"
	if v.Decision == authz.Allowed {
		decision = "allow"
	}
	reason := v.Reason
	if reason == "" && v.Err != nil {
		reason = "internal error"
	}
	request.Note(r.Context(), decisionNote, decision)
	request.Note(r.Context(), reasonNote, reason)
}

// attempted says which proofs a request brought that is refused as nobody's; never the proofs themselves.
func attempted(r *http.Request) string {
	var how []string
	if _, _, ok := r.BasicAuth(); ok {
		how = append(how, "basic")
	} else if header := r.Header.Get("Authorization"); header != "" {
		how = append(how, "bearer")
	}
	if r.TLS != nil && len(r.TLS.PeerCertificates) > 0 {
		how = append(how, "x509")
	}
	if len(how) == 0 {
		return "Authentication failed, no credentials provided"
	}
	return "Authentication failed, attempted: " + strings.Join(how, ", ")
}
