package request

import (
	"context"
	"time"

	"go.uber.org/zap"

	"pilothouse.dev/pkg/logging"
)

// scope is the context of one request: all that is learned of it in one value, because a context and a copy of the
// http.Request for each fact would be a tenth of what a small request allocates. The filters fill it, each its own part, before
// the handlers run; nothing changes it after that.
type scope struct {
	context.Context
	info *Info
	user *User
	log  *zap.Logger // without the request's fields
	warn func(text string)
	// begun is called by a watch that has told what there was.
	begun func()

	id      [1]string // of the request, as audit has it; also the value of the answer's header
	began   int64     // nanoseconds; only while notes are kept
	audited bool      // notes are kept
	record  *Record   // nil until there is something to keep
}

type scopeKey struct{}

func (s *scope) Value(key any) any {
	switch key.(type) {
	case scopeKey:
		return s
	case logging.Key:
		return s.logger()
	}
	return s.Context.Value(key)
}

// logger is made when somebody has something to log: most requests do not.
func (s *scope) logger() *zap.Logger {
	if s.info == nil || s.log == nil {
		return nil
	}
	return s.log.With(zap.String("path", s.info.Path), zap.String("verb", s.info.Verb))
}

func scopeOf(ctx context.Context) *scope { s, _ := ctx.Value(scopeKey{}).(*scope); return s }

// Begin makes the context of a request. A user that ctx already has stays. warn takes warnings for the client.
func Begin(ctx context.Context, i *Info, log *zap.Logger, warn func(text string)) context.Context {
	return &scope{Context: ctx, info: i, user: UserOf(ctx), log: log, warn: warn}
}

// WithUser is a context for requests from inside this process.
func WithUser(ctx context.Context, u *User) context.Context { return &scope{Context: ctx, user: u} }

// SetUser notes who asks. For the filter that authenticates; ctx comes from Begin.
func SetUser(ctx context.Context, u *User) { scopeOf(ctx).user = u }

// Limit ends a request after a while. For the filter that sets deadlines, before anybody waits on ctx; ctx comes from Begin.
func Limit(ctx context.Context, after time.Duration) context.CancelFunc {
	s := scopeOf(ctx)
	limited, cancel := context.WithTimeout(s.Context, after)
	s.Context = limited
	return cancel
}

// UserOf is who asks, nil when that is not known.
func UserOf(ctx context.Context) *User {
	if s := scopeOf(ctx); s != nil {
		return s.user
	}
	return nil
}

// InfoOf is what is asked, nil outside a request.
func InfoOf(ctx context.Context) *Info {
	if s := scopeOf(ctx); s != nil {
		return s.info
	}
	return nil
}

// Warn adds a warning to the response (RFC 7234 section 5.5, code 299), if there still is one to add to.
func Warn(ctx context.Context, text string) {
	if s := scopeOf(ctx); s != nil && s.warn != nil {
		s.warn(text)
	}
}
