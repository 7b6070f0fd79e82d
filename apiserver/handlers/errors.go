package handlers

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"go.uber.org/zap"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"pilothouse.dev/apiserver/audit"
	"pilothouse.dev/apiserver/codec"
	"pilothouse.dev/apiserver/registry"
	"pilothouse.dev/apiserver/request"
	"pilothouse.dev/apiserver/storage"
	"pilothouse.dev/pkg/logging"
)

var statusKind = schema.GroupVersionKind{Version: "v1", Kind: "Status"}

// errNoPath is the answer to a path that names nothing we serve.
var errNoPath error = &apierrors.StatusError{ErrStatus: metav1.Status{
	Status: metav1.StatusFailure, Code: http.StatusNotFound, Reason: metav1.StatusReasonNotFound,
	Message: "the server could not find the requested resource", Details: &metav1.StatusDetails{},
}}

// NotFound answers a path outside the API.
func NotFound(w http.ResponseWriter, r *http.Request) { WriteError(w, r, errNoPath) }

// WriteError writes err as a Status in the form the client accepts: the only place that does. An error that is not one of
// the API's is a 500 whose cause is logged and shown.
func WriteError(w http.ResponseWriter, r *http.Request, err error) {
	status := StatusOf(err)
	if status.Code == http.StatusInternalServerError {
		logging.From(r.Context()).Error("request failed", zap.Error(err))
	}
	if status.Details != nil && status.Details.RetryAfterSeconds > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(status.Details.RetryAfterSeconds)))
	}
	WriteStatus(w, r, status)
}

// WriteStatus writes a Status with its code.
func WriteStatus(w http.ResponseWriter, r *http.Request, status metav1.Status) {
	if record := request.RecordOf(r.Context()); record != nil {
		record.Status(&status)
		audit.Answered(record, &status, statusKind)
	}
	a, ok := codec.Negotiate(r, false)
	if !ok {
		a = codec.Accepted{Media: codec.JSON}
	}
	b, err := codec.Encode(&status, statusKind, a)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	writeBody(w, a, int(status.Code), b)
}

// StatusOf is the Status that an error stands for.
func StatusOf(err error) metav1.Status {
	var api apierrors.APIStatus
	if errors.As(err, &api) {
		s := api.Status()
		s.Status = metav1.StatusFailure
		if s.Code == 0 {
			s.Code = http.StatusInternalServerError
		}
		return s
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return apierrors.NewTimeoutError("the request did not finish in the time allowed for it", 1).Status()
	case errors.Is(err, context.Canceled):
		return apierrors.NewTimeoutError("the client went away", 0).Status()
	}
	return apierrors.NewInternalError(err).Status()
}

// storeError gives an error of the storage its meaning for a client.
func storeError(err error, res *registry.Resource, name string) error {
	var expired *storage.Expired
	var tooNew *storage.TooNew
	gr := res.GroupResource()
	switch {
	case err == nil:
		return nil
	case errors.Is(err, storage.ErrNotFound):
		return apierrors.NewNotFound(gr, name)
	case errors.Is(err, storage.ErrExists):
		return apierrors.NewAlreadyExists(gr, name)
	case errors.Is(err, storage.ErrConflict):
		return modified(res, name)
	case errors.As(err, &expired):
		e := apierrors.NewResourceExpired("The provided continue parameter is too old to display a consistent list result. " +
			"You can start a new list without the continue parameter, or use the continue token in this response to retrieve " +
			"the remainder of the results. Continuing with the provided token results in an inconsistent list - objects that " +
			"were created, modified, or deleted between the time the first chunk was returned and now may show up in the list.")
		e.ErrStatus.ListMeta.Continue = expired.Continue
		return e
	case errors.Is(err, storage.ErrCompacted):
		return apierrors.NewResourceExpired("The resourceVersion for the provided list is too old.")
	case errors.As(err, &tooNew):
		e := apierrors.NewTimeoutError(fmt.Sprintf("Too large resource version: %d, current: %d", tooNew.Asked, tooNew.Current), 1)
		e.ErrStatus.Details.Causes = []metav1.StatusCause{{Type: metav1.CauseTypeResourceVersionTooLarge, Message: "Too large resource version"}}
		return e
	case errors.Is(err, storage.ErrTooLarge):
		return apierrors.NewRequestEntityTooLargeError(fmt.Sprintf("the object as it would be stored: limit is %d bytes", storage.MaxObject))
	case errors.Is(err, storage.ErrFull):
		e := apierrors.NewServiceUnavailable("the storage is full: etcd's database has reached its quota (--quota-backend-bytes). " +
			"Reads and deletes go on; writes are taken again once old history is compacted, which is under way")
		e.ErrStatus.Details = &metav1.StatusDetails{RetryAfterSeconds: 2}
		return e
	case errors.Is(err, storage.ErrBadContinue):
		return apierrors.NewBadRequest("invalid continue token: " + err.Error())
	case errors.Is(err, context.Canceled):
		return err
	}
	e := apierrors.NewServiceUnavailable("the storage does not answer: " + err.Error())
	e.ErrStatus.Details = &metav1.StatusDetails{RetryAfterSeconds: 1}
	return e
}

func modified(res *registry.Resource, name string) error {
	return apierrors.NewConflict(res.GroupResource(), name,
		errors.New("the object has been modified; please apply your changes to the latest version and try again"))
}

// notAcceptable is the answer to an Accept header that asks for nothing we can serve here.
func notAcceptable(media ...string) error {
	return &apierrors.StatusError{ErrStatus: metav1.Status{
		Status: metav1.StatusFailure, Code: http.StatusNotAcceptable, Reason: metav1.StatusReasonNotAcceptable,
		Message: "only the following media types are accepted: " + strings.Join(media, ", "),
	}}
}

// wrongShape is the answer to a wish for a list where there is an object, or the other way round.
func wrongShape(format string, of any) error {
	return &apierrors.StatusError{ErrStatus: metav1.Status{
		Status: metav1.StatusFailure, Code: http.StatusNotAcceptable, Reason: metav1.StatusReasonNotAcceptable,
		Message: fmt.Sprintf(format, of),
	}}
}

func unsupportedMedia(string) error {
	return &apierrors.StatusError{ErrStatus: metav1.Status{
		Status: metav1.StatusFailure, Code: http.StatusUnsupportedMediaType, Reason: metav1.StatusReasonUnsupportedMediaType,
		Message: "the body of the request was in an unknown format - accepted media types include: " + strings.Join(codec.Media, ", "),
	}}
}
