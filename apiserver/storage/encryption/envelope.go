package encryption

import (
	"errors"
	"maps"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"
)

// envelope is what a kms provider stores: a protobuf message with these fields.
type envelope struct {
	body []byte // salt, nonce, sealed value
	seed sealedSeed
}

const (
	fieldBody        = 1
	fieldKeyID       = 2
	fieldSeed        = 3
	fieldAnnotations = 4 // of a map: 1 key, 2 value
)

var errEnvelope = errors.New("the envelope cannot be read")

func appendEnvelope(to []byte, e envelope) []byte {
	add := func(to []byte, n protowire.Number, v []byte) []byte {
		return protowire.AppendBytes(protowire.AppendTag(to, n, protowire.BytesType), v)
	}
	to = add(to, fieldBody, e.body)
	to = add(to, fieldKeyID, []byte(e.seed.keyID))
	to = add(to, fieldSeed, e.seed.ciphertext)
	for _, key := range slices.Sorted(maps.Keys(e.seed.annotations)) {
		to = add(to, fieldAnnotations, add(add(nil, 1, []byte(key)), 2, e.seed.annotations[key]))
	}
	return to
}

func parseEnvelope(b []byte) (envelope, error) {
	var e envelope
	err := eachBytes(b, func(n protowire.Number, v []byte) error {
		switch n {
		case fieldBody:
			e.body = v
		case fieldKeyID:
			e.seed.keyID = string(v)
		case fieldSeed:
			e.seed.ciphertext = v
		case fieldAnnotations:
			var key string
			var value []byte
			if err := eachBytes(v, func(n protowire.Number, v []byte) error {
				switch n {
				case 1:
					key = string(v)
				case 2:
					value = v
				}
				return nil
			}); err != nil {
				return err
			}
			if e.seed.annotations == nil {
				e.seed.annotations = map[string][]byte{}
			}
			e.seed.annotations[key] = value
		}
		return nil
	})
	return e, err
}

// eachBytes walks over the fields of a message, all of which are bytes.
func eachBytes(b []byte, f func(protowire.Number, []byte) error) error {
	for len(b) > 0 {
		n, t, size := protowire.ConsumeTag(b)
		if size < 0 || t != protowire.BytesType {
			return errEnvelope
		}
		v, rest := protowire.ConsumeBytes(b[size:])
		if rest < 0 {
			return errEnvelope
		}
		if err := f(n, v); err != nil {
			return err
		}
		b = b[size+rest:]
	}
	return nil
}
