package images

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/containerd/containerd/errdefs"
	"github.com/containerd/containerd/remotes/docker"
	remoteerrors "github.com/containerd/containerd/remotes/errors"

	"pilothouse.dev/kubelet/credentials"
)

// Errors say what they mean in front, and never what is a key.
func TestWords(t *testing.T) {
	status := func(code int) error {
		return fmt.Errorf("fetching: %w", remoteerrors.ErrUnexpectedStatus{StatusCode: code, Status: fmt.Sprint(code), RequestMethod: "GET", RequestURL: "https://me:hidden@cdn.test/blob?X-Signature=hidden"})
	}
	for name, c := range map[string]struct {
		err            error
		reason, starts string
	}{
		"away":      {&net.OpError{Op: "dial", Err: errors.New("refused")}, RegistryUnavailable, `image pull failed for x because the registry is unavailable: failed to pull and unpack image "x": dial: refused`},
		"no name":   {&net.DNSError{Err: "no such host"}, RegistryUnavailable, "image pull failed for x because"},
		"busy":      {status(http.StatusBadGateway), RegistryUnavailable, "image pull failed for x because"},
		"read":      {&net.OpError{Op: "read", Err: errors.New("reset")}, PullError, `failed to pull and unpack image "x": read: reset`},
		"forbidden": {status(http.StatusForbidden), PullError, `failed to pull and unpack image "x": pull access denied, repository does not exist or may require authorization: fetching: unexpected status from GET request to https://cdn.test/blob?REDACTED: 403`},
		"login":     {fmt.Errorf("token: %w", docker.ErrInvalidAuthorization), PullError, `failed to pull and unpack image "x": pull access denied, repository`},
		"slow":      {status(http.StatusTooManyRequests), PullError, `failed to pull and unpack image "x": the registry asks for fewer requests: fetching`},
		"none":      {fmt.Errorf("x: %w", errdefs.ErrNotFound), PullError, `failed to pull and unpack image "x": manifest unknown: x: not found`},
		"platform":  {fmt.Errorf("no match for platform in manifest: %w", errdefs.ErrNotFound), PullError, `failed to pull and unpack image "x": the image is not made for linux/`},
	} {
		f := pullFailure("x", []error{c.err}, []error{errors.New("no plugin")})
		if f.Reason != c.reason || !strings.HasPrefix(f.Message, c.starts) || strings.Contains(f.Message, "hidden") || !strings.HasSuffix(f.Message, " (no plugin)") {
			t.Errorf("%s: %s: %s", name, f.Reason, f.Message)
		}
	}
}

// The label that says who may have an image stays within what containerd takes; who was first goes first. Once open, always open.
func TestAccessLabel(t *testing.T) {
	label := ""
	for i := range 200 {
		label = access(label, "digest", []credentials.Credential{{Password: fmt.Sprint(i), Secret: "0123456789-0123456789-0123456789"}})
	}
	if len(label) > mostAccess || !strings.HasSuffix(label, credentials.Credential{Password: "199"}.Hash("digest")) || strings.Contains(label, credentials.Credential{Password: "0"}.Hash("digest")) {
		t.Errorf("%d bytes: %s", len(label), label)
	}
	for _, c := range []struct {
		before string
		proven []credentials.Credential
		want   string
	}{
		{"", nil, ofNode}, {label, nil, ofNode}, {label, []credentials.Credential{{Password: "p"}}, ofNode}, {ofNode, []credentials.Credential{{Secret: "s"}}, ofNode},
		{"", []credentials.Credential{{Secret: "s"}}, "h." + credentials.Credential{}.Hash("digest") + ",s.s"},
	} {
		if got := access(c.before, "digest", c.proven); got != c.want {
			t.Errorf("%q after %q: %q", c.want, c.before, got)
		}
	}
}
