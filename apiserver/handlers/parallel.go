package handlers

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"

	"pilothouse.dev/apiserver/codec"
	"pilothouse.dev/apiserver/storage"
)

const (
	pieceItems = 64 // of a list, encoded by one goroutine at a time
	mostPieces = 4  // of one list in the making beside the one that is written: one list does not take the whole machine
)

// piece is some items of a list, each with a comma before it.
type piece struct {
	buf *bytes.Buffer
	err error
}

// itemsJSON writes the JSON of entries in order, with commas between. Making it is nearly all that a list costs, and no item needs
// another: pieces are made on all processors while the one before them is written (BenchmarkItemsJSON).
func (v *view) itemsJSON(entries []*storage.Entry, write func([]byte) (int, error)) error {
	if v.beside {
		return v.itemsInTurn(entries, write)
	}
	made := make(chan chan piece, min(runtime.GOMAXPROCS(0), mostPieces))
	stop := make(chan struct{})
	var wg sync.WaitGroup
	defer wg.Wait()
	defer close(stop)
	wg.Go(func() {
		defer close(made)
		for some := range slices.Chunk(entries, pieceItems) {
			out := make(chan piece, 1)
			select {
			case made <- out:
			case <-stop:
				return
			}
			wg.Go(func() { out <- v.piece(some) })
		}
	})
	skip := 1 // the first comma
	for out := range made {
		p := <-out
		if p.err != nil {
			return p.err
		}
		_, err := write(p.buf.Bytes()[skip:])
		release(p.buf)
		if err != nil {
			return err
		}
		skip = 0
	}
	return nil
}

// itemsInTurn is itemsJSON on one processor.
func (v *view) itemsInTurn(entries []*storage.Entry, write func([]byte) (int, error)) error {
	skip := 1
	for some := range slices.Chunk(entries, pieceItems) {
		p := v.piece(some)
		if p.err != nil {
			return p.err
		}
		_, err := write(p.buf.Bytes()[skip:])
		release(p.buf)
		if err != nil {
			return err
		}
		skip = 0
	}
	return nil
}

// piece encodes entries straight into a buffer; those that have no short way, by way of one object. It does not look for encodings that watches share: few of
// a long list have one.
func (v *view) piece(entries []*storage.Entry) (p piece) {
	defer func() { // no filter stands above this goroutine
		if cause := recover(); cause != nil {
			p.err = fmt.Errorf("encoding a list panicked: %v\n%s", cause, debug.Stack())
		}
	}()
	p.buf = newBuffer()
	enc := json.NewEncoder(p.buf)
	obj := v.res.Hub.New()
	into := reflect.ValueOf(obj).Elem()
	short := v.transcoder()
	for _, e := range entries {
		if b, ok := short.Append(append(p.buf.AvailableBuffer(), ','), e.Value, e.Revision); ok {
			p.buf.Write(b) // nothing is copied while there is room in the buffer
			continue
		}
		into.SetZero()
		if p.err = codec.Unmarshal(e.Value, e.Revision, obj); p.err != nil {
			return p
		}
		p.buf.WriteByte(',')
		if p.err = enc.Encode(v.shape(v.res.Served(obj))); p.err != nil {
			return p
		}
		p.buf.Truncate(p.buf.Len() - 1) // the newline that an encoder adds
	}
	return p
}
