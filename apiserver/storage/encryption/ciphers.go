package encryption

import (
	"bytes"
	"context"
	"crypto/aes"
	gocipher "crypto/cipher"
	"crypto/rand"
	"errors"

	"golang.org/x/crypto/nacl/secretbox"
)

// prefix begins every sealed value; then follow the provider, its version and the name of the key, parted by colons.
const prefix = "k8s:enc:"

// errOpen says that a value was not sealed with this key, or changed since, or stood elsewhere.
var errOpen = errors.New("the value does not open with the key that its mark names")

// provider is one way to keep a value. Safe for concurrent use.
type provider interface {
	// name is the mark of what it seals, for people.
	name() string
	// takes says whether a stored value carries its mark.
	takes(stored []byte) bool
	// seal returns what is stored for a value at a path.
	seal(ctx context.Context, path, value []byte) ([]byte, error)
	// open returns the value; old says that it would be sealed otherwise now.
	open(ctx context.Context, path, stored []byte) (value []byte, old bool, err error)
}

// identity keeps values as they are.
type identity struct{}

func (identity) name() string                                              { return "identity" }
func (identity) takes(stored []byte) bool                                  { return !sealed(stored) }
func (identity) seal(_ context.Context, _, value []byte) ([]byte, error)   { return value, nil }
func (identity) open(_ context.Context, _, v []byte) ([]byte, bool, error) { return v, false, nil }

// cipher seals with one key. where, the path of the object, is bound to the value where the cipher can do so.
type cipher interface {
	seal(to, where, value []byte) ([]byte, error) // appends
	open(where, body []byte) ([]byte, error)      // may work in place
}

// keyed is a cipher with a local key.
type keyed struct {
	mark []byte
	cipher
}

func (k *keyed) name() string             { return string(bytes.TrimSuffix(k.mark, []byte(":"))) }
func (k *keyed) takes(stored []byte) bool { return bytes.HasPrefix(stored, k.mark) }

func (k *keyed) seal(_ context.Context, path, value []byte) ([]byte, error) {
	return k.cipher.seal(append(make([]byte, 0, len(k.mark)+len(value)+64), k.mark...), path, value)
}

func (k *keyed) open(_ context.Context, path, stored []byte) ([]byte, bool, error) {
	v, err := k.cipher.open(path, stored[len(k.mark):])
	return v, false, err
}

// gcm is AES in Galois/counter mode with a random nonce before the text (NIST SP 800-38D); the path is authenticated with it.
type gcm struct{ aead gocipher.AEAD }

func newGCM(key []byte) (cipher, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	aead, err := gocipher.NewGCM(block)
	if err != nil {
		return nil, err
	}
	return gcm{aead}, nil
}

func (g gcm) seal(to, where, value []byte) ([]byte, error) {
	at := len(to)
	to = append(to, make([]byte, g.aead.NonceSize())...)
	nonce := to[at:]
	if _, err := rand.Read(nonce); err != nil {
		return nil, err
	}
	return g.aead.Seal(to, nonce, value, where), nil
}

func (g gcm) open(where, body []byte) ([]byte, error) {
	n := g.aead.NonceSize()
	if len(body) < n {
		return nil, errOpen
	}
	value, err := g.aead.Open(nil, body[:n], body[n:], where)
	if err != nil {
		return nil, errOpen
	}
	return value, nil
}

// cbc is AES in cipher block chaining with PKCS #7 padding, a random first block before the text. It authenticates nothing: it is
// here so that values sealed so can be read and sealed anew.
type cbc struct{ block gocipher.Block }

func newCBC(key []byte) (cipher, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cbc{block}, nil
}

func (c cbc) seal(to, _, value []byte) ([]byte, error) {
	at, pad := len(to), aes.BlockSize-len(value)%aes.BlockSize
	to = append(to, make([]byte, aes.BlockSize)...)
	if _, err := rand.Read(to[at:]); err != nil {
		return nil, err
	}
	to = append(to, value...)
	to = append(to, bytes.Repeat([]byte{byte(pad)}, pad)...)
	body := to[at+aes.BlockSize:]
	gocipher.NewCBCEncrypter(c.block, to[at:at+aes.BlockSize]).CryptBlocks(body, body)
	return to, nil
}

func (c cbc) open(_, body []byte) ([]byte, error) {
	if len(body) < 2*aes.BlockSize || len(body)%aes.BlockSize != 0 {
		return nil, errOpen
	}
	value := make([]byte, len(body)-aes.BlockSize)
	gocipher.NewCBCDecrypter(c.block, body[:aes.BlockSize]).CryptBlocks(value, body[aes.BlockSize:])
	pad := int(value[len(value)-1])
	if pad == 0 || pad > aes.BlockSize {
		return nil, errOpen
	}
	for _, b := range value[len(value)-pad:] {
		if int(b) != pad {
			return nil, errOpen
		}
	}
	return value[:len(value)-pad], nil
}

// box is NaCl's secretbox, XSalsa20 and Poly1305, with a random nonce before the text.
type box struct{ key [32]byte }

func newSecretbox(key []byte) (cipher, error) {
	b := &box{}
	copy(b.key[:], key)
	return b, nil
}

func (b *box) seal(to, _, value []byte) ([]byte, error) {
	var nonce [24]byte
	if _, err := rand.Read(nonce[:]); err != nil {
		return nil, err
	}
	return secretbox.Seal(append(to, nonce[:]...), value, &nonce, &b.key), nil
}

func (b *box) open(_, body []byte) ([]byte, error) {
	var nonce [24]byte
	if len(body) < len(nonce) {
		return nil, errOpen
	}
	copy(nonce[:], body)
	value, ok := secretbox.Open(nil, body[len(nonce):], &nonce, &b.key)
	if !ok {
		return nil, errOpen
	}
	return value, nil
}
