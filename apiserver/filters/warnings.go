package filters

import (
	"net/http"
	"slices"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"
)

// How much is said in Warning headers: proxies and clients have limits for headers. Once all would be more than mostWarned, each
// is cut to longWarning.
const (
	mostWarned  = 4 << 10 // characters
	longWarning = 256
)

// warnings puts what a client should know into Warning headers (RFC 7234 section 5.5, code 299), each text once. Safe for concurrent
// use until the header goes out; what comes later is lost.
type warnings struct {
	to http.ResponseWriter

	mu    sync.Mutex
	texts []string // guarded by mu
	said  int      // guarded by mu; characters in the header
	cut   bool     // guarded by mu
}

func (w *warnings) add(text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if text == "" || slices.Contains(w.texts, text) || w.cut && w.said >= mostWarned {
		return
	}
	w.texts = append(w.texts, text)
	if n := utf8.RuneCountInString(text); w.cut || w.said+n <= mostWarned {
		w.say(text)
		return
	}
	// Too much: say all again, each shorter.
	w.cut, w.said = true, 0
	w.to.Header().Del("Warning")
	for _, t := range w.texts {
		w.say(t)
	}
}

func (w *warnings) say(text string) {
	if w.cut {
		if r := []rune(text); len(r) > longWarning {
			text = string(r[:longWarning])
		}
	}
	w.said += utf8.RuneCountInString(text)
	w.to.Header().Add("Warning", `299 - "`+quotable(text)+`"`)
}

// quotable makes text the inside of a quoted string (RFC 9110 section 5.6.4).
func quotable(text string) string {
	text = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == utf8.RuneError {
			return ' '
		}
		return r
	}, text)
	return strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(text)
}
