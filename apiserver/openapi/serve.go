package openapi

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/munnerz/goautoneg"
)

// Media types of the protobuf forms: what we answer with, after what clients also ask for.
var (
	protobuf2 = []string{"application/com.github.proto-openapi.spec.v2.v1.0+protobuf", "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"}
	protobuf3 = []string{"application/com.github.proto-openapi.spec.v3.v1.0+protobuf", "application/com.github.proto-openapi.spec.v3@v1.0+protobuf"}
)

const jsonType = "application/json"

// ServeV2 answers /openapi/v2.
func (d *Docs) ServeV2(w http.ResponseWriter, r *http.Request) {
	f, media, ok := negotiate(r, protobuf2)
	if !ok {
		http.Error(w, "only JSON and protobuf are to be had", http.StatusNotAcceptable)
		return
	}
	doc, err := d.v2(f)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	send(w, r, doc, media)
}

// ServeV3 answers /openapi/v3, the index, and below it one document a group version.
func (d *Docs) ServeV3(w http.ResponseWriter, r *http.Request) {
	path := strings.Trim(strings.TrimPrefix(r.URL.Path, "/openapi/v3"), "/")
	if path == "" {
		d.serveIndex(w, r)
		return
	}
	gv, ok := d.paths()[path]
	if !ok {
		http.NotFound(w, r)
		return
	}
	f, media, ok := negotiate(r, protobuf3)
	if !ok {
		http.Error(w, "only JSON and protobuf are to be had", http.StatusNotAcceptable)
		return
	}
	doc, err := d.v3(path, gv, f)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	if hash := r.URL.Query().Get("hash"); hash != "" {
		if hash != doc.hash {
			http.Redirect(w, r, address(path, doc), http.StatusMovedPermanently)
			return
		}
		// An address with the right hash means these bytes for ever.
		w.Header().Set("Cache-Control", "public, immutable")
		w.Header().Set("Expires", time.Now().AddDate(1, 0, 0).UTC().Format(http.TimeFormat))
	}
	send(w, r, doc, media)
}

// index is what /openapi/v3 answers.
type index struct {
	Paths map[string]indexed `json:"paths"`
}

type indexed struct {
	URL string `json:"serverRelativeURL"`
}

// serveIndex names every v3 document with its hash, so that clients need not fetch again what they have.
func (d *Docs) serveIndex(w http.ResponseWriter, r *http.Request) {
	all := index{map[string]indexed{}}
	for path, gv := range d.paths() {
		doc, err := d.v3(path, gv, asJSON)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		all.Paths[path] = indexed{address(path, doc)}
	}
	b, err := json.Marshal(all)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	sum := sha256.Sum256(b)
	if unchanged(w, r, hex.EncodeToString(sum[:])) {
		return
	}
	w.Header().Set("Content-Type", jsonType)
	_, _ = w.Write(b) // a client that went away does not want to know
}

// unchanged says what an answer is of, and whether the client has just that; then the answer is given.
func unchanged(w http.ResponseWriter, r *http.Request, hash string) bool {
	tag := strconv.Quote(hash)
	w.Header().Set("ETag", tag)
	if !strings.Contains(r.Header.Get("If-None-Match"), tag) {
		return false
	}
	w.WriteHeader(http.StatusNotModified)
	return true
}

func address(path string, doc *document) string {
	return fmt.Sprintf("/openapi/v3/%s?%s", path, url.Values{"hash": {doc.hash}}.Encode())
}

// negotiate picks the form the client likes best.
func negotiate(r *http.Request, protobuf []string) (form, string, bool) {
	accept := r.Header.Get("Accept")
	if accept == "" {
		return asJSON, jsonType, true
	}
	for _, c := range goautoneg.ParseAccept(accept) {
		media := c.Type + "/" + c.SubType
		switch {
		case media == jsonType, media == "*/*", media == "application/*":
			return asJSON, jsonType, true
		}
		for _, p := range protobuf {
			if media == p {
				return asProtobuf, protobuf[0], true
			}
		}
	}
	return asJSON, "", false
}

// send writes a document, packed where the client takes it so.
func send(w http.ResponseWriter, r *http.Request, doc *document, media string) {
	h := w.Header()
	h.Add("Vary", "Accept")
	h.Add("Vary", "Accept-Encoding")
	h.Set("Content-Type", media)
	if unchanged(w, r, doc.hash) {
		return
	}
	if takesGzip(r) {
		h.Set("Content-Encoding", "gzip")
		h.Set("Content-Length", strconv.Itoa(len(doc.packed)))
		_, _ = w.Write(doc.packed) // as above
		return
	}
	plain, err := doc.unpacked()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	h.Set("Content-Length", strconv.Itoa(doc.size))
	_, _ = io.Copy(w, plain) // as above
}

func takesGzip(r *http.Request) bool {
	for c := range strings.SplitSeq(r.Header.Get("Accept-Encoding"), ",") {
		coding, q, _ := strings.Cut(strings.ReplaceAll(c, " ", ""), ";")
		if coding == "gzip" && strings.Trim(strings.TrimPrefix(q, "q="), "0.") != "" || coding == "gzip" && q == "" {
			return true
		}
	}
	return false
}
