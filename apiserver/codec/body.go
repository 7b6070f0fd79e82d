package codec

import (
	"fmt"
	"io"
	"net/http"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

const (
	// MaxBody is how much a client may send in one request.
	MaxBody = 3 << 20
	// drained is how much of what is too large is read all the same, for nothing: some clients (curl over HTTP/2) do not hear an answer
	// that comes, with the end of their stream, while they still send.
	drained = 4 * MaxBody
)

// ReadBody reads a request's body, at most MaxBody of it. The error is for the client; one that reading brought up as «too many
// requests» (he was so slow that his seats went to others) is passed on.
func ReadBody(r *http.Request) ([]byte, error) {
	if r.Body == nil {
		return nil, nil
	}
	size := r.ContentLength
	if size > MaxBody {
		return nil, tooLarge(r)
	}
	if size > 0 {
		b := make([]byte, size)
		if _, err := io.ReadFull(r.Body, b); err != nil {
			return nil, notRead(err)
		}
		return b, nil
	}
	b, err := io.ReadAll(io.LimitReader(r.Body, MaxBody+1))
	if err != nil {
		return nil, notRead(err)
	}
	if len(b) > MaxBody {
		return nil, tooLarge(r)
	}
	return b, nil
}

func notRead(err error) error {
	if apierrors.IsTooManyRequests(err) {
		return err
	}
	return apierrors.NewBadRequest("reading the body: " + err.Error())
}

func tooLarge(r *http.Request) error {
	_, _ = io.CopyN(io.Discard, r.Body, drained) // that it ends, or does not come, changes nothing
	return apierrors.NewRequestEntityTooLargeError(fmt.Sprintf("limit is %d bytes", MaxBody))
}
