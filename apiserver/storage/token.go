package storage

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"strings"
)

// Token is what a continue token says: go on after key After in the state at Revision; with revision 0 in the newest state
// (an inconsistent list). Both backends write and read the same tokens.
type Token struct {
	Revision int64
	After    Key
	Left     int64 // how many follow After, where the writer knew; else 0
}

// tokenVersion stands first in a token, so that a later form can be told from this one.
const tokenVersion = 1

// String is the opaque form for clients: base64url over version, revision and left as varints, and «namespace/name».
func (t Token) String() string {
	b := make([]byte, 0, 2+2*binary.MaxVarintLen64+len(t.After.Namespace)+len(t.After.Name))
	b = append(b, tokenVersion)
	b = binary.AppendUvarint(b, uint64(t.Revision))
	b = binary.AppendUvarint(b, uint64(t.Left))
	b = append(b, t.After.Namespace...)
	b = append(b, '/')
	b = append(b, t.After.Name...)
	return base64.RawURLEncoding.EncodeToString(b)
}

// ParseToken reads a token for a list of kind in namespace ns (empty: all). The error is ErrBadContinue and says what is wrong
// with the token: it was cut, comes from another list, or was never ours.
func ParseToken(s string, kind Kind, ns string) (Token, error) {
	raw, err := base64.RawURLEncoding.Strict().DecodeString(s)
	if err != nil || len(raw) < 2 || raw[0] != tokenVersion {
		return Token{}, fmt.Errorf("%w: not a token of this server", ErrBadContinue)
	}
	rev, n := binary.Uvarint(raw[1:])
	left, m := binary.Uvarint(raw[1+max(n, 0):])
	if n <= 0 || m <= 0 || int64(rev) < 0 || int64(left) < 0 {
		return Token{}, fmt.Errorf("%w: no revision in it", ErrBadContinue)
	}
	namespace, name, ok := strings.Cut(string(raw[1+n+m:]), "/")
	t := Token{Revision: int64(rev), After: Key{Namespace: namespace, Name: name}, Left: int64(left)}
	switch {
	case !ok || !t.After.Valid(kind.Namespaced):
		return Token{}, fmt.Errorf("%w: no key in it", ErrBadContinue)
	case ns != "" && ns != namespace:
		return Token{}, fmt.Errorf("%w: it belongs to another namespace", ErrBadContinue)
	}
	return t, nil
}

// Valid says whether k can be the key of an object: a name, and a namespace exactly when the kind has them, neither with a
// slash or a zero byte in it.
func (k Key) Valid(namespaced bool) bool {
	return k.Name != "" && (k.Namespace != "") == namespaced &&
		!strings.ContainsAny(k.Name, "/\x00") && !strings.ContainsAny(k.Namespace, "/\x00")
}
