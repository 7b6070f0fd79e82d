package codec

import (
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// Media types.
const (
	JSON     = "application/json"
	YAML     = "application/yaml"
	Protobuf = "application/vnd.kubernetes.protobuf"
	CBOR     = "application/cbor"
	CBORSeq  = "application/cbor-seq" // RFC 8742: items one after another, what a watch in CBOR is
)

// Media are the types that bodies are read and written in; the first is what a client gets that has no wish.
var Media = []string{JSON, YAML, Protobuf, CBOR}

// StreamMedia are the types of watches.
var StreamMedia = []string{JSON + ";stream=watch", Protobuf + ";stream=watch", CBORSeq}

// Transform is what shape of an object a client asks for.
type Transform int

const (
	Whole       Transform = iota
	Table                 // meta.k8s.io/v1 Table
	Partial               // meta.k8s.io/v1 PartialObjectMetadata
	PartialList           // meta.k8s.io/v1 PartialObjectMetadataList
)

// Accepted is what a response will look like.
type Accepted struct {
	Media  string // one of Media
	As     Transform
	Pretty bool // indent JSON
	Gzip   bool // the client takes compressed bodies
}

// ContentType is the response's header value; a watch has one of its own.
func (a Accepted) ContentType(watch bool) string {
	switch {
	case watch && a.Media == Protobuf:
		return Protobuf + ";stream=watch"
	case watch && a.Media == CBOR:
		return CBORSeq
	}
	return a.Media
}

// Negotiate chooses by the Accept header (RFC 9110 section 12.5.1): the highest quality that we can serve, the earlier of
// equals. transforms says whether the endpoint can serve tables and partial metadata. ok is false when nothing fits (406).
func Negotiate(r *http.Request, transforms bool) (a Accepted, ok bool) {
	a, ok = accepted(r, transforms)
	if !ok {
		return Accepted{}, false
	}
	a.Pretty = a.Media == JSON && pretty(r, a.Pretty)
	a.Gzip = takesGzip(r)
	return a, true
}

func accepted(r *http.Request, transforms bool) (Accepted, bool) {
	header := r.Header.Get("Accept")
	if header == "" {
		return Accepted{Media: JSON}, true
	}
	// Most clients want their first choice and say so without parameters: nothing behind it can be better.
	if first, _, _ := strings.Cut(header, ","); slices.Contains(Media, first) {
		return Accepted{Media: first}, true
	}
	var best Accepted
	top := 0.0
	for clause := range strings.SplitSeq(header, ",") {
		media, params, err := mime.ParseMediaType(clause)
		if err != nil {
			continue
		}
		q := 1.0
		if s, has := params["q"]; has {
			if q, err = strconv.ParseFloat(s, 64); err != nil {
				continue
			}
		}
		if !(q > top) { // nor is it when q is no number
			continue
		}
		if a, ok := clauseOf(media, params, transforms); ok {
			best, top = a, q
		}
	}
	return best, top > 0
}

// clauseOf is what one clause of an Accept header means here.
func clauseOf(media string, params map[string]string, transforms bool) (a Accepted, ok bool) {
	switch media {
	case JSON, YAML, Protobuf, CBOR:
		a.Media = media
	case CBORSeq:
		a.Media = CBOR
	case "application/*", "*/*":
		a.Media = JSON
	default: // text/html is what browsers list first; the wildcard behind it gives JSON
		return a, false
	}
	a.Pretty = params["pretty"] == "1"
	if s := params["stream"]; s != "" && s != "watch" {
		return a, false
	}
	as, group, version := params["as"], params["g"], params["v"]
	if as == "" && group == "" && version == "" {
		return a, true
	}
	if !transforms || group != "meta.k8s.io" || version != "v1" {
		return a, false
	}
	switch as {
	case "Table":
		a.As = Table
		return a, a.Media == JSON || a.Media == YAML // its cells have no protobuf form
	case "PartialObjectMetadata":
		a.As = Partial
	case "PartialObjectMetadataList":
		a.As = PartialList
	default:
		return a, false
	}
	return a, true
}

// pretty is on when asked for in the query or the media type, and by itself for curl, Wget and browsers.
func pretty(r *http.Request, asked bool) bool {
	if strings.Contains(r.URL.RawQuery, "pretty") {
		if v := r.URL.Query().Get("pretty"); v != "" {
			on, err := strconv.ParseBool(v)
			return err == nil && on
		}
	}
	agent := r.Header.Get("User-Agent")
	return asked || strings.HasPrefix(agent, "curl") || strings.HasPrefix(agent, "Wget") || strings.HasPrefix(agent, "Mozilla/5.0")
}

// takesGzip reads Accept-Encoding (RFC 9110 section 12.5.3).
func takesGzip(r *http.Request) bool {
	header := r.Header.Get("Accept-Encoding")
	if header == "gzip" {
		return true
	}
	if header == "" || !strings.Contains(header, "gzip") {
		return false
	}
	for clause := range strings.SplitSeq(header, ",") {
		coding, weight, _ := strings.Cut(clause, ";")
		if !strings.EqualFold(strings.TrimSpace(coding), "gzip") {
			continue
		}
		s, has := strings.CutPrefix(strings.TrimSpace(weight), "q=")
		if !has {
			return true
		}
		q, err := strconv.ParseFloat(s, 64)
		return err == nil && q > 0
	}
	return false
}

// BodyMedia is the media type of a request's body; empty when we cannot read it (415).
func BodyMedia(r *http.Request) string {
	ct := r.Header.Get("Content-Type")
	switch ct {
	case "":
		return JSON
	case JSON, YAML, Protobuf, CBOR:
		return ct
	}
	media, _, err := mime.ParseMediaType(ct)
	if err != nil {
		return ""
	}
	switch media {
	case JSON, YAML, Protobuf, CBOR:
		return media
	case "text/yaml", "application/x-yaml":
		return YAML
	}
	return ""
}
