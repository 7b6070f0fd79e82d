package openapi

import (
	"io"
	"maps"
	"slices"
	"unicode/utf8"
)

// jsonWriter writes a model as JSON, straight to where it goes: a document of megabytes is never held. Members of an object
// are in the order of the alphabet.
type jsonWriter struct {
	to   io.Writer
	b    []byte
	last byte // the last byte written to to, when b is empty
	v3   bool
	err  error
}

const jsonBuffer = 32 << 10

func (w *jsonWriter) flush() {
	if len(w.b) == 0 {
		return
	}
	w.last = w.b[len(w.b)-1]
	if w.err == nil {
		_, w.err = w.to.Write(w.b)
	}
	w.b = w.b[:0]
}

// next begins a member or element: with a comma, unless it is the first.
func (w *jsonWriter) next() {
	if len(w.b) > jsonBuffer {
		w.flush()
	}
	last := w.last
	if n := len(w.b); n > 0 {
		last = w.b[n-1]
	}
	if last != '{' && last != '[' {
		w.b = append(w.b, ',')
	}
}

func (w *jsonWriter) key(name string) {
	w.next()
	w.b = append(appendText(w.b, name), ':')
}

func (w *jsonWriter) byte(c byte) { w.b = append(w.b, c) }

func (w *jsonWriter) text(s string) { w.b = appendText(w.b, s) }

// member is a text; an empty one is left out.
func (w *jsonWriter) member(name, value string) {
	if value != "" {
		w.key(name)
		w.text(value)
	}
}

func (w *jsonWriter) raw(name, json string) {
	if json != "" {
		w.key(name)
		w.b = append(w.b, json...)
	}
}

func (w *jsonWriter) texts(name string, values []string) {
	if len(values) == 0 {
		return
	}
	w.key(name)
	w.byte('[')
	for _, v := range values {
		w.next()
		w.text(v)
	}
	w.byte(']')
}

func (w *jsonWriter) open(name string) {
	w.key(name)
	w.byte('{')
}

// document writes the whole.
func (w *jsonWriter) document(m *model) error {
	w.byte('{')
	if w.v3 {
		w.open("components")
		w.definitions("schemas", m)
		w.security("securitySchemes")
		w.byte('}')
	} else {
		w.definitions("definitions", m)
	}
	w.open("info")
	w.member("title", title)
	w.member("version", release())
	w.byte('}')
	if w.v3 {
		w.member("openapi", "3.0.0")
	}
	w.open("paths")
	for _, url := range slices.Sorted(maps.Keys(m.paths)) {
		w.path(url, m.paths[url])
	}
	w.byte('}')
	w.raw("security", `[{"`+securityName+`":[]}]`)
	if !w.v3 {
		w.security("securityDefinitions")
		w.member("swagger", "2.0")
	}
	w.byte('}')
	w.flush()
	return w.err
}

func (w *jsonWriter) security(name string) {
	w.open(name)
	w.open(securityName)
	w.member("description", securityAbout)
	w.member("in", "header")
	w.member("name", "authorization")
	w.member("type", "apiKey")
	w.byte('}')
	w.byte('}')
}

func (w *jsonWriter) definitions(name string, m *model) {
	w.open(name)
	for _, n := range slices.Sorted(maps.Keys(m.definitions)) {
		w.key(n)
		w.schema(m.definitions[n])
	}
	w.byte('}')
}

func (w *jsonWriter) schema(s *schemaOf) {
	w.byte('{')
	// In v3 a reference hides what stands beside it.
	inside := w.v3 && (s.about != "" || s.preset != "" || len(s.marks) > 0)
	if s.ref != "" && !inside {
		w.member("$ref", w.prefix()+s.ref)
	}
	if s.values != nil {
		w.key("additionalProperties")
		w.schema(s.values)
	}
	if s.ref != "" && inside {
		w.raw("allOf", `[{"$ref":`+quoted(w.prefix()+s.ref)+`}]`)
	}
	if w.v3 {
		w.raw("default", s.preset)
	}
	w.member("description", s.about)
	w.texts("enum", s.enum)
	w.member("format", s.format)
	if s.items != nil {
		w.key("items")
		w.schema(s.items)
	}
	if w.v3 && len(s.either) > 0 {
		w.key("oneOf")
		w.byte('[')
		for _, kind := range s.either {
			w.next()
			w.byte('{')
			w.member("type", kind)
			w.byte('}')
		}
		w.byte(']')
	}
	if len(s.fields) > 0 {
		w.open("properties")
		for _, f := range s.fields {
			w.key(f.name)
			w.schema(f.schemaOf)
		}
		w.byte('}')
	}
	w.texts("required", s.required)
	if !w.v3 || len(s.either) == 0 {
		w.member("type", s.kind)
	}
	for _, m := range s.marks {
		w.raw(m.name, m.value)
	}
	w.byte('}')
}

func (w *jsonWriter) prefix() string {
	if w.v3 {
		return "#/components/schemas/"
	}
	return "#/definitions/"
}

// appendText appends s as a JSON text.
func appendText(b []byte, s string) []byte {
	const hex = "0123456789abcdef"
	b = append(b, '"')
	from := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= utf8.RuneSelf || c >= ' ' && c != '"' && c != '\\' {
			i++
			continue
		}
		b = append(b, s[from:i]...)
		switch c {
		case '"', '\\':
			b = append(b, '\\', c)
		case '\n':
			b = append(b, '\\', 'n')
		case '\t':
			b = append(b, '\\', 't')
		default:
			b = append(b, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		}
		i++
		from = i
	}
	return append(append(b, s[from:]...), '"')
}
