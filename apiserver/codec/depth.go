package codec

import (
	"fmt"
	"reflect"
	"sync"

	"google.golang.org/protobuf/encoding/protowire"
)

// maxNesting is how deep messages may stand in each other in a body whose type can contain itself (a schema in a schema).
// Generated decoders call themselves once a level without a limit of their own, and a goroutine's stack that is full ends the
// process. JSON, YAML and CBOR decoders have such limits.
const maxNesting = 1000

// recursive caches whether a type can contain itself. There are as many entries as there are kinds.
var recursive sync.Map // reflect.Type → bool

// checkNesting says no to a message for into that is nested deeper than anybody's.
func checkNesting(raw []byte, into any) error {
	t := reflect.TypeOf(into)
	r, ok := recursive.Load(t)
	if !ok {
		r = containsItself(t, map[reflect.Type]bool{})
		recursive.Store(t, r)
	}
	if r.(bool) && nestedDeeper(raw, maxNesting) {
		return fmt.Errorf("exceeded max depth: messages are nested more than %d deep", maxNesting)
	}
	return nil
}

// containsItself says whether a value of type t can hold, however deep, another of the same type. open are the types on the way.
func containsItself(t reflect.Type, open map[reflect.Type]bool) bool {
	switch t.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Array, reflect.Map:
		return containsItself(t.Elem(), open)
	case reflect.Struct:
		if was, seen := open[t]; seen {
			return was
		}
		open[t] = true
		defer func() { open[t] = false }() // and never looked at again
		for i := range t.NumField() {
			if containsItself(t.Field(i).Type, open) {
				return true
			}
		}
	}
	return false
}

// nestedDeeper takes every field of bytes for a message, if it reads like one. It looks at each byte at most twice, and does not
// call itself.
func nestedDeeper(raw []byte, limit int) bool {
	open := [][]byte{raw} // the rest of each message on the way down
	for len(open) > 0 {
		if len(open) > limit {
			return true
		}
		top := &open[len(open)-1]
		if len(*top) == 0 {
			open = open[:len(open)-1]
			continue
		}
		num, typ, n := protowire.ConsumeTag(*top)
		if n < 0 || num <= 0 {
			open = open[:len(open)-1] // no message after all
			continue
		}
		b := (*top)[n:]
		if typ != protowire.BytesType {
			if n = protowire.ConsumeFieldValue(num, typ, b); n < 0 {
				n = len(b)
			}
			*top = b[n:]
			continue
		}
		inner, n := protowire.ConsumeBytes(b)
		if n < 0 {
			open = open[:len(open)-1]
			continue
		}
		*top = b[n:]
		open = append(open, inner)
	}
	return false
}
