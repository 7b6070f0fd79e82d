package images

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"regexp"
	"strings"

	"github.com/containerd/containerd/errdefs"
	"github.com/containerd/containerd/remotes/docker"
	remoteerrors "github.com/containerd/containerd/remotes/errors"
	"github.com/containerd/platforms"
)

// Reasons of a container's waiting state, as Kubernetes names them
// (https://kubernetes.io/docs/concepts/containers/images/#imagepullbackoff).
const (
	InvalidName         = "InvalidImageName"
	NeverPull           = "ErrImageNeverPull"
	InspectError        = "ImageInspectError"
	PullError           = "ErrImagePull"
	RegistryUnavailable = "RegistryUnavailable"
	BackOff             = "ImagePullBackOff"
)

// Failure is why an image is not ready: Reason is one of the above, Message what the waiting state says.
type Failure struct {
	Reason, Message string
	// Image as the pod names it.
	Image string
}

func (f *Failure) Error() string { return f.Message }

// FailureOf finds the Failure in an error, if it is about an image.
func FailureOf(err error) (*Failure, bool) {
	var f *Failure
	ok := errors.As(err, &f)
	return f, ok
}

// Reason is what a container's waiting state says for an error of Ensure; ErrImagePull for one that is no Failure.
func Reason(err error) string {
	if err == nil {
		return ""
	}
	if f, ok := FailureOf(err); ok {
		return f.Reason
	}
	return PullError
}

var (
	errStalled  = errors.New("the pull has stalled")
	errArtifact = errors.New("it is an OCI artifact, not a container image")
)

// pullFailure makes of a pull's errors what is told about it. problems are what kept credentials from being found.
func pullFailure(image string, errs, problems []error) *Failure {
	var told []string
	f := &Failure{Reason: PullError, Image: image}
	for _, err := range errs {
		if away(err) {
			f.Reason = RegistryUnavailable
		}
		told = append(told, fmt.Sprintf("failed to pull and unpack image %q: %s", image, explain(err)))
	}
	f.Message = strings.Join(told, "; ")
	if f.Reason == RegistryUnavailable {
		f.Message = fmt.Sprintf("image pull failed for %s because the registry is unavailable: %s", image, f.Message)
	}
	for _, p := range problems {
		f.Message += fmt.Sprintf(" (%s)", redact(p.Error()))
	}
	return f
}

// explain is the error with what it means in front, without anything secret.
func explain(err error) string {
	text := redact(err.Error())
	platform := platforms.DefaultSpec()
	switch {
	case errors.Is(err, errArtifact), errors.Is(err, errStalled), away(err):
		return text
	case strings.Contains(text, "no match for platform"):
		return fmt.Sprintf("the image is not made for %s: %s", platforms.Format(platform), text)
	case errors.Is(err, docker.ErrInvalidAuthorization), status(err) == http.StatusUnauthorized, status(err) == http.StatusForbidden:
		if strings.Contains(text, "pull access denied") {
			return text
		}
		return "pull access denied, repository does not exist or may require authorization: " + text
	case status(err) == http.StatusTooManyRequests:
		return "the registry asks for fewer requests: " + text
	case errdefs.IsNotFound(err):
		return "manifest unknown: " + text
	}
	return text
}

// away says that the registry could not be reached, or said that it cannot answer now.
func away(err error) bool {
	var op *net.OpError
	var dns *net.DNSError
	if errors.As(err, &op) && op.Op == "dial" || errors.As(err, &dns) {
		return true
	}
	switch status(err) {
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}

// status is the HTTP status in an error, 0 without one.
func status(err error) int {
	var s remoteerrors.ErrUnexpectedStatus
	if errors.As(err, &s) {
		return s.StatusCode
	}
	return 0
}

// refused: another credential may help. Some registries say of what one may not see that it is not there.
func refused(err error) bool {
	if errors.Is(err, context.Canceled) {
		return false
	}
	s := status(err)
	return s == http.StatusUnauthorized || s == http.StatusForbidden || errors.Is(err, docker.ErrInvalidAuthorization) ||
		errdefs.IsPermissionDenied(err) || errdefs.IsNotFound(err)
}

// A registry may send a client on to an address that is signed: that is a key, and errors tell addresses.
var (
	queries   = regexp.MustCompile(`(https?://[^\s"'?]+)\?[^\s"')]*[^\s"'):,;]`)
	userinfos = regexp.MustCompile(`(https?://)[^\s"'/@]+@`)
)

func redact(text string) string {
	return userinfos.ReplaceAllString(queries.ReplaceAllString(text, "$1?REDACTED"), "$1")
}
