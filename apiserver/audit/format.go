package audit

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"
)

// Formats of the log file, by the names of the flag.
const (
	JSON   = "json"
	Legacy = "legacy"
)

const truncated = "audit.k8s.io/truncated"

// Truncation is what becomes of large events.
type Truncation struct {
	Enabled  bool
	MaxEvent int // bytes of JSON; a larger event goes without its objects
	MaxBatch int // bytes of one write
}

func (t Truncation) validate(flag string) error {
	switch {
	case !t.Enabled:
	case t.MaxEvent <= 0:
		return fmt.Errorf("--%s-truncate-max-event-size %d: must be greater than zero", flag, t.MaxEvent)
	case t.MaxBatch < t.MaxEvent:
		return fmt.Errorf("--%s-truncate-max-batch-size %d: must not be smaller than --%s-truncate-max-event-size %d", flag, t.MaxBatch, flag, t.MaxEvent)
	}
	return nil
}

// encode makes the JSON of an event, which it does not change. What is too large without its objects too is an error.
func (t Truncation) encode(e *auditv1.Event) ([]byte, error) {
	b, err := json.Marshal(e)
	if err != nil {
		return nil, fmt.Errorf("encoding an audit event: %w", err)
	}
	if !t.Enabled || len(b) <= t.MaxEvent {
		return b, nil
	}
	short := *e
	short.RequestObject, short.ResponseObject = nil, nil
	short.Annotations = maps.Clone(e.Annotations)
	if short.Annotations == nil {
		short.Annotations = map[string]string{}
	}
	short.Annotations[truncated] = "true"
	if b, err = json.Marshal(&short); err != nil {
		return nil, fmt.Errorf("encoding an audit event: %w", err)
	}
	if len(b) > t.MaxEvent {
		return nil, fmt.Errorf("an audit event of %d bytes is too large, also without its objects", len(b))
	}
	return b, nil
}

// legacy makes the line of the old text format, which has one line an event and no objects.
func legacy(e *auditv1.Event) ([]byte, error) {
	or := func(s, none string) string {
		if s == "" {
			return none
		}
		return s
	}
	groups := func(all []string, none string) string {
		if len(all) == 0 {
			return none
		}
		quoted := slices.Clone(all)
		for i, g := range quoted {
			quoted[i] = strconv.Quote(g)
		}
		return strings.Join(quoted, ",")
	}
	as, asGroups := "<self>", "<lookup>"
	if u := e.ImpersonatedUser; u != nil {
		as, asGroups = u.Username, groups(u.Groups, asGroups)
	}
	ip, namespace, response := "<unknown>", "<none>", "<deferred>"
	if len(e.SourceIPs) > 0 {
		ip = e.SourceIPs[0]
	}
	if e.ObjectRef != nil {
		namespace = or(e.ObjectRef.Namespace, namespace)
	}
	if e.ResponseStatus != nil {
		response = strconv.Itoa(int(e.ResponseStatus.Code))
	}
	return fmt.Appendf(nil,
		"%s AUDIT: id=%q stage=%q ip=%q method=%q user=%q groups=%q as=%q asgroups=%q user-agent=%q namespace=%q uri=%q response=%q",
		e.RequestReceivedTimestamp.Format(time.RFC3339Nano), e.AuditID, e.Stage, ip, e.Verb, or(e.User.Username, "<none>"),
		groups(e.User.Groups, "<none>"), as, asGroups, e.UserAgent, namespace, e.RequestURI, response), nil
}
