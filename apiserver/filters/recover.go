package filters

import (
	"errors"
	"fmt"
	"net/http"
	"runtime/debug"

	"go.uber.org/zap"

	"pilothouse.dev/apiserver/handlers"
)

// Recover turns a panic into a 500 and an error in the log. http.ErrAbortHandler passes: it cuts the connection on purpose.
func Recover(p Parts) Filter {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			defer func() {
				cause := recover()
				if cause == nil {
					return
				}
				if err, ok := cause.(error); ok && errors.Is(err, http.ErrAbortHandler) {
					panic(cause)
				}
				p.Log.Error("request panicked", zap.String("method", r.Method), zap.String("path", r.URL.Path),
					zap.Any("panic", cause), zap.ByteString("stack", debug.Stack()))
				handlers.WriteError(w, r, fmt.Errorf("this request caused the server to panic: see its log"))
			}()
			next.ServeHTTP(w, r)
		})
	}
}
