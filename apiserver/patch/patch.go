// Package patch applies what a PATCH request carries: JSON Patch (RFC 6902), JSON Merge Patch (RFC 7386) and strategic merge
// patch. It is pure: the old document and the patch in, the new document out; the caller decodes, validates and stores.
package patch

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/mergepatch"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
)

// MaxOperations bounds a JSON Patch, as upstream does.
const MaxOperations = 10000

// Types are the media types Apply takes, in the order an error lists them.
var Types = []types.PatchType{types.JSONPatchType, types.MergePatchType, types.StrategicMergePatchType}

// Apply returns old with the patch applied; both are JSON. schemaOf is an empty object of the patched type (its struct tags
// say how lists merge). Errors are 400 for a patch that cannot be read, 422 for one that does not apply, 415 for another type.
func Apply(kind types.PatchType, old, patch []byte, schemaOf any) ([]byte, error) {
	switch kind {
	case types.JSONPatchType:
		return jsonPatch(old, patch)
	case types.MergePatchType:
		out, err := merge(old, patch)
		if err != nil {
			return nil, apierrors.NewBadRequest("error decoding patch: " + err.Error())
		}
		return out, nil
	case types.StrategicMergePatchType:
		return strategic(old, patch, schemaOf)
	}
	return nil, Unsupported(string(kind))
}

// Unsupported is the 415 for a body that is no patch we know.
func Unsupported(media string) error {
	return &apierrors.StatusError{ErrStatus: metav1.Status{
		Status: metav1.StatusFailure, Code: http.StatusUnsupportedMediaType, Reason: metav1.StatusReasonUnsupportedMediaType,
		Message: fmt.Sprintf("the body of the request was in an unknown format (%s) - accepted media types include: %s, %s, %s",
			media, Types[0], Types[1], Types[2]),
	}}
}

func jsonPatch(old, patch []byte) ([]byte, error) {
	ops, err := jsonpatch.DecodePatch(patch)
	if err != nil {
		return nil, apierrors.NewBadRequest("error decoding patch: " + err.Error())
	}
	if len(ops) > MaxOperations {
		return nil, apierrors.NewRequestEntityTooLargeError(
			fmt.Sprintf("The allowed maximum operations in a JSON patch is %d, got %d", MaxOperations, len(ops)))
	}
	out, err := ops.Apply(old)
	if err != nil {
		return nil, unprocessable(err)
	}
	return out, nil
}

func strategic(old, patch []byte, schemaOf any) ([]byte, error) {
	var o, p map[string]any
	if err := json.Unmarshal(patch, &p); err != nil {
		return nil, apierrors.NewBadRequest("error decoding patch: " + err.Error())
	}
	if err := json.Unmarshal(old, &o); err != nil {
		return nil, fmt.Errorf("decoding the object to patch: %w", err)
	}
	meta, err := strategicpatch.NewPatchMetaFromStruct(schemaOf)
	if err != nil {
		return nil, fmt.Errorf("reading the merge rules of %T: %w", schemaOf, err)
	}
	merged, err := strategicpatch.StrategicMergeMapPatchUsingLookupPatchMeta(o, p, meta)
	switch {
	case errors.Is(err, mergepatch.ErrBadJSONDoc), errors.Is(err, mergepatch.ErrBadPatchFormatForPrimitiveList),
		errors.Is(err, mergepatch.ErrBadPatchFormatForRetainKeys), errors.Is(err, mergepatch.ErrBadPatchFormatForSetElementOrderList),
		errors.Is(err, mergepatch.ErrUnsupportedStrategicMergePatchFormat):
		return nil, apierrors.NewBadRequest(err.Error())
	case err != nil:
		return nil, unprocessable(err)
	}
	return json.Marshal(merged)
}

func unprocessable(err error) error {
	return apierrors.NewGenericServerResponse(http.StatusUnprocessableEntity, "", schema.GroupResource{}, "", err.Error(), 0, false)
}
