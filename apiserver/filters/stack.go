package filters

import (
	"net/http"

	"pilothouse.dev/apiserver/request"
)

// deep is how much stack a usual write needs below the filters (BenchmarkStack).
const deep = 8 << 10

// Stack grows the goroutine's stack at once. Every HTTP/2 request runs on a goroutine of its own that begins with a small stack;
// grown step by step in the depth of a decoder, with all frames moved each time, it is a seventh of what a create costs. Watches
// stay small: they live long and are many.
func Stack(Parts) Filter {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if !LongRunning(request.InfoOf(r.Context())) {
				grow(len(r.Method))
			}
			next.ServeHTTP(w, r)
		})
	}
}

// grow needs room for a variable that only its frame is for.
//
//go:noinline
func grow(i int) byte {
	var room [deep]byte
	return room[i%deep]
}
