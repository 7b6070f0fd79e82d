package request

import (
	"net/http"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxManager is how long, in bytes, the name of a field manager may be.
const maxManager = 128

// manager is who will own what a request writes: the parameter fieldManager, else what the User-Agent has before its first slash
// (https://kubernetes.io/docs/reference/using-api/server-side-apply/#managers). It is not checked.
func manager(r *http.Request) string {
	if strings.Contains(r.URL.RawQuery, "fieldManager=") {
		if name := r.URL.Query().Get("fieldManager"); name != "" {
			return name
		}
	}
	name, _, _ := strings.Cut(r.UserAgent(), "/")
	if len(name) <= maxManager && strings.IndexFunc(name, unprintable) < 0 {
		return name
	}
	var b strings.Builder
	for _, c := range name {
		if unprintable(c) {
			continue
		}
		if b.Len()+utf8.RuneLen(c) > maxManager {
			break
		}
		b.WriteRune(c)
	}
	return b.String()
}

func unprintable(c rune) bool { return c == utf8.RuneError || !unicode.IsPrint(c) }
