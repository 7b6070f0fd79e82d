package handlers

import (
	"compress/gzip"
	"io"
	"net/http"
	"strconv"
	"sync"

	"pilothouse.dev/apiserver/codec"
)

// gzipOver is how long a body must be to be worth compressing, for clients that take it.
const gzipOver = 128 << 10

// zippers are kept for the next long body: each has more memory than a short list. The level is the cheapest; a higher one costs
// several times the processor's time for a tenth fewer bytes.
var zippers = sync.Pool{New: func() any {
	z, err := gzip.NewWriterLevel(nil, gzip.BestSpeed)
	if err != nil {
		panic(err) // the level is a constant
	}
	return z
}}

// outlet takes a body whose length is not known before it is written. Of a client that takes gzip it holds back what it gets until
// that is long enough to be compressed, or all there is. The header goes out with the first bytes.
type outlet struct {
	w    http.ResponseWriter
	a    codec.Accepted
	held []byte // only while a.Gzip and not begun
	to   io.Writer
	z    *gzip.Writer
}

func newOutlet(w http.ResponseWriter, a codec.Accepted) *outlet { return &outlet{w: w, a: a} }

func (o *outlet) Write(p []byte) (int, error) {
	if o.to != nil {
		return o.to.Write(p)
	}
	if o.a.Gzip {
		if o.held = append(o.held, p...); len(o.held) <= gzipOver {
			return len(p), nil
		}
		o.zip()
		held := o.held
		o.held = nil
		if _, err := o.to.Write(held); err != nil {
			return 0, err
		}
		return len(p), nil
	}
	o.begin()
	return o.to.Write(p)
}

func (o *outlet) begin() {
	startStream(o.w, o.a)
	o.to = o.w
}

func (o *outlet) zip() {
	h := o.w.Header()
	h.Set("Content-Encoding", "gzip")
	h.Add("Vary", "Accept-Encoding")
	h.Del("Content-Length")
	o.z = zippers.Get().(*gzip.Writer)
	o.z.Reset(o.w)
	startStream(o.w, o.a)
	o.to = o.z
}

// finish writes the end of the body. Without it the body is not whole.
func (o *outlet) finish() error {
	switch {
	case o.z != nil:
		err := o.z.Close()
		o.drop()
		return err
	case o.to == nil:
		o.w.Header().Set("Content-Length", strconv.Itoa(len(o.held)))
		o.begin()
		_, err := o.to.Write(o.held)
		return err
	}
	return nil
}

// drop gives the compressor back. An outlet that is not finished is dropped.
func (o *outlet) drop() {
	if o.z != nil {
		o.z.Reset(nil)
		zippers.Put(o.z)
		o.z, o.to = nil, nil
	}
}

func startStream(w http.ResponseWriter, a codec.Accepted) {
	w.Header().Set("Content-Type", a.ContentType(false))
	w.Header().Set("Cache-Control", "no-cache, private")
	w.WriteHeader(http.StatusOK)
}

// writeBody writes a whole response. A client that went away is its own business: the error of Write says no more.
func writeBody(w http.ResponseWriter, a codec.Accepted, code int, parts ...[]byte) {
	size := 0
	for _, b := range parts {
		size += len(b)
	}
	h := w.Header()
	h.Set("Content-Type", a.ContentType(false))
	h.Set("Cache-Control", "no-cache, private")
	var to io.Writer = w
	if a.Gzip && size > gzipOver {
		h.Set("Content-Encoding", "gzip")
		h.Add("Vary", "Accept-Encoding")
		z := zippers.Get().(*gzip.Writer)
		z.Reset(w)
		defer func() {
			_ = z.Close()
			z.Reset(nil)
			zippers.Put(z)
		}()
		to = z
	} else {
		h.Set("Content-Length", strconv.Itoa(size))
	}
	w.WriteHeader(code)
	for _, b := range parts {
		_, _ = to.Write(b)
	}
}

// abort ends a response whose header is already out: the connection is cut, so that nobody takes a part for the whole.
func abort(error) error { panic(http.ErrAbortHandler) }
