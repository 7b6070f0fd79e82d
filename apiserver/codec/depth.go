package codec

import (
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
)

// maxNesting is how deep messages may stand in each other in a body. Some types contain themselves (a schema in a schema), and
// generated decoders call themselves once a level without a limit of their own: a goroutine's stack that is full ends the process.
// JSON, YAML and CBOR decoders have such limits.
const maxNesting = 1000

// checkNesting says no to a message that is nested deeper than anybody's.
func checkNesting(raw []byte) error {
	if nestedDeeper(raw, maxNesting) {
		return fmt.Errorf("exceeded max depth: messages are nested more than %d deep", maxNesting)
	}
	return nil
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
