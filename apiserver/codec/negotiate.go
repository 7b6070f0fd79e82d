package codec

import (
	"mime"
	"net/http"
	"strconv"
	"strings"
)

// Media types.
const (
	JSON     = "application/json"
	YAML     = "application/yaml"
	Protobuf = "application/vnd.kubernetes.protobuf"
)

// Transform is what shape of an object a client asks for.
type Transform int

const (
	Whole   Transform = iota
	Table             // meta.k8s.io/v1 Table
	Partial           // meta.k8s.io/v1 PartialObjectMetadata, or its list
)

// Accepted is what a response will look like.
type Accepted struct {
	Media  string // JSON, YAML or Protobuf
	As     Transform
	Pretty bool // indent JSON
}

// ContentType is the response's header value; watch adds the stream parameter.
func (a Accepted) ContentType(watch bool) string {
	if watch && a.Media == Protobuf {
		return Protobuf + ";stream=watch"
	}
	if a.Media == Protobuf {
		return Protobuf
	}
	return a.Media
}

// Negotiate chooses by the Accept header (RFC 9110 section 12.5.1): the highest quality that we can serve, the earlier of
// equals. transforms says whether the endpoint can serve tables and partial metadata. ok is false when nothing fits (406).
func Negotiate(r *http.Request, transforms bool) (a Accepted, ok bool) {
	header := r.Header.Get("Accept")
	if header == "" {
		return Accepted{Media: JSON, Pretty: pretty(r)}, true
	}
	// Most clients want their first choice and say so without parameters: nothing behind it can be better.
	if first, _, _ := strings.Cut(header, ","); first == JSON || first == Protobuf || first == YAML {
		return Accepted{Media: first, Pretty: first == JSON && pretty(r)}, true
	}
	best := -1.0
	for clause := range strings.SplitSeq(header, ",") {
		media, params, err := mime.ParseMediaType(clause)
		if err != nil {
			continue
		}
		q := 1.0
		if s, has := params["q"]; has {
			if q, err = strconv.ParseFloat(s, 64); err != nil || q <= 0 {
				continue
			}
		}
		if q <= best {
			continue
		}
		c := Accepted{}
		switch media {
		case JSON, YAML, Protobuf:
			c.Media = media
		case "application/*", "*/*":
			c.Media = JSON
		case "text/html", "text/plain": // browsers list them first; the wildcard behind gives JSON
			continue
		default:
			continue
		}
		if as := params["as"]; as != "" {
			if !transforms || params["g"] != "meta.k8s.io" || params["v"] != "v1" && params["v"] != "v1beta1" {
				continue
			}
			switch as {
			case "Table":
				if c.Media == Protobuf {
					continue // a Table's cells have no protobuf form
				}
				c.As = Table
			case "PartialObjectMetadata", "PartialObjectMetadataList":
				c.As = Partial
			default:
				continue
			}
		}
		a, best = c, q
	}
	a.Pretty = a.Media == JSON && pretty(r)
	return a, best > 0
}

// pretty is on when asked for, and by itself for curl and browsers.
func pretty(r *http.Request) bool {
	if strings.Contains(r.URL.RawQuery, "pretty") {
		if v := r.URL.Query()["pretty"]; len(v) > 0 {
			on, err := strconv.ParseBool(v[0])
			return err != nil || on
		}
	}
	agent := r.Header.Get("User-Agent")
	return strings.HasPrefix(agent, "curl") || strings.HasPrefix(agent, "Wget") || strings.HasPrefix(agent, "Mozilla/5.0")
}

// BodyMedia is the media type of a request's body; empty when we cannot read it (415).
func BodyMedia(r *http.Request) string {
	ct := r.Header.Get("Content-Type")
	switch ct {
	case "":
		return JSON
	case JSON, YAML, Protobuf:
		return ct
	}
	media, _, err := mime.ParseMediaType(ct)
	if err != nil {
		return ""
	}
	switch media {
	case JSON, YAML, Protobuf:
		return media
	case "text/yaml", "application/x-yaml":
		return YAML
	}
	return ""
}
