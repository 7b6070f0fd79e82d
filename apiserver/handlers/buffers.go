package handlers

import (
	"bytes"
	"sync"
)

// buffers are what responses are made in. An idle watch has none. A pool is only a cache: it holds nothing that anybody sees.
var buffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// keepBuffer is the largest that is used again.
const keepBuffer = 2 * streamBuffer

func newBuffer() *bytes.Buffer { return buffers.Get().(*bytes.Buffer) }

// release gives a buffer back; nobody may hold its bytes any more. (An http.ResponseWriter does not: see io.Writer.)
func release(b *bytes.Buffer) {
	if b.Cap() > keepBuffer {
		return
	}
	b.Reset()
	buffers.Put(b)
}
