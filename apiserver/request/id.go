package request

import (
	"context"
	"encoding/binary"
	"math/rand/v2"
	"net/http"
)

// auditHeader is the canonical form of Audit-ID, which may come with a request and goes out with every answer
// (https://kubernetes.io/docs/reference/config-api/apiserver-audit.v1/).
const auditHeader = "Audit-Id"

// maxID is how long, in bytes, an ID may be that a client gives.
const maxID = 64

// Identify gives a request its audit ID, the client's if it sent one, and tells it in the answer. For the first filter; ctx comes
// from Begin.
func Identify(ctx context.Context, sent, answer http.Header) {
	s := scopeOf(ctx)
	if given := sent[auditHeader]; len(given) > 0 && given[0] != "" {
		s.id[0] = given[0]
		if len(given[0]) > maxID {
			s.id[0] = given[0][:maxID]
		}
	} else {
		s.id[0] = newID()
	}
	answer[auditHeader] = s.id[:] // no slice of its own
}

// AuditID is what Identify settled, empty outside a request.
func AuditID(ctx context.Context) string {
	if s := scopeOf(ctx); s != nil {
		return s.id[0]
	}
	return ""
}

// newID makes a random UUID (RFC 9562 section 5.4). It is a name and no secret.
func newID() string {
	a, b := rand.Uint64(), rand.Uint64()
	a = a&^0xf000 | 0x4000
	b = b&^(3<<62) | 2<<62
	var digits [32]byte
	binary.BigEndian.PutUint64(digits[:], hexOf(uint32(a>>32)))
	binary.BigEndian.PutUint64(digits[8:], hexOf(uint32(a)))
	binary.BigEndian.PutUint64(digits[16:], hexOf(uint32(b>>32)))
	binary.BigEndian.PutUint64(digits[24:], hexOf(uint32(b)))
	var text [36]byte
	copy(text[:8], digits[:8])
	copy(text[9:13], digits[8:12])
	copy(text[14:18], digits[12:16])
	copy(text[19:23], digits[16:20])
	copy(text[24:], digits[20:])
	text[8], text[13], text[18], text[23] = '-', '-', '-', '-'
	return string(text[:])
}

// hexOf spreads the eight digits of x over eight bytes, all at the same time: every request needs four of these.
func hexOf(x uint32) uint64 {
	v := uint64(x)
	v = (v<<16 | v) & 0x0000ffff0000ffff
	v = (v<<8 | v) & 0x00ff00ff00ff00ff
	v = (v<<4 | v) & 0x0f0f0f0f0f0f0f0f
	letters := (v + 0x0606060606060606) >> 4 & 0x0101010101010101 // 1 in each byte that is over nine
	return v + 0x3030303030303030 + letters*('a'-'0'-10)
}
