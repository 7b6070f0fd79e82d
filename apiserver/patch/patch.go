// Package patch changes objects as a PATCH request asks: JSON Patch (RFC 6902), JSON Merge Patch (RFC 7386), strategic merge patch,
// and server-side apply; and it keeps metadata.managedFields, which says who set which field, for every write. It is pure: the old
// object and the patch in, the new object out; the caller decodes, validates and stores.
package patch

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	cbor "k8s.io/apimachinery/pkg/runtime/serializer/cbor/direct"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/mergepatch"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	kjson "sigs.k8s.io/json"
	"sigs.k8s.io/yaml"
)

// MaxOperations bounds a JSON Patch, as upstream does.
const MaxOperations = 10000

// maxCopied bounds how many bytes the copy operations of one JSON Patch may add, as upstream does.
const maxCopied = 3 << 20

// Types are the media types of patches, in the order an error lists them. The last two are applied configurations (ReadConfig and
// Owners.Apply), the others are for Apply.
var Types = []types.PatchType{
	types.JSONPatchType, types.MergePatchType, types.StrategicMergePatchType, types.ApplyYAMLPatchType, types.ApplyCBORPatchType,
}

// Apply returns old with the patch applied; both are JSON. schemaOf is an empty object of the patched type (its struct tags
// say how lists merge). When twice is asked for, it also tells what fields the patch has twice, as decoding an object does.
// Errors are 400 for a patch that cannot be read, 422 for one that does not apply, 413 for one that is or becomes too large and 415
// for another type.
func Apply(kind types.PatchType, old, patch []byte, schemaOf any, twice bool) (doc []byte, told []string, err error) {
	switch kind {
	case types.JSONPatchType:
		doc, err = jsonPatch(old, patch)
		if err == nil && twice {
			told = duplicates(patch, &[]any{})
		}
		return doc, told, err
	case types.MergePatchType:
		doc, told, err = merge(old, patch)
		if err != nil {
			return nil, nil, badPatch(err)
		}
		return doc, told, nil
	case types.StrategicMergePatchType:
		doc, err = strategic(old, patch, schemaOf)
		if err == nil && twice {
			told = duplicates(patch, &map[string]any{})
		}
		return doc, told, err
	}
	return nil, nil, Unsupported(string(kind))
}

// ReadConfig reads an applied configuration and what fields it has twice. Errors are 400.
func ReadConfig(kind types.PatchType, body []byte) (config map[string]any, twice []string, err error) {
	if kind == types.ApplyCBORPatchType {
		if err := cbor.Unmarshal(body, &config); err != nil {
			return nil, nil, badPatch(err)
		}
	} else {
		if b := bytes.TrimLeft(body, " \t\r\n"); len(b) == 0 || b[0] != '{' {
			if err := yaml.UnmarshalStrict(body, &map[string]any{}); err != nil {
				twice = append(twice, err.Error())
			}
			if body, err = yaml.YAMLToJSON(body); err != nil {
				return nil, nil, badPatch(err)
			}
		}
		told, err := kjson.UnmarshalStrict(body, &config)
		if err != nil {
			return nil, nil, badPatch(err)
		}
		for _, t := range told {
			twice = append(twice, t.Error())
		}
	}
	if config == nil {
		return nil, nil, badPatch(errors.New("it is no object"))
	}
	return config, twice, nil
}

func badPatch(err error) error {
	return apierrors.NewBadRequest("error decoding patch: " + err.Error())
}

// duplicates are the fields that JSON names twice; into is where it can be read to.
func duplicates(b []byte, into any) []string {
	told, err := kjson.UnmarshalStrict(b, into, kjson.DisallowDuplicateFields)
	if err != nil {
		return nil // it could not be applied either
	}
	texts := make([]string, 0, len(told))
	for _, t := range told {
		texts = append(texts, t.Error())
	}
	return texts
}

// Unsupported is the 415 for a body that is no patch we know.
func Unsupported(media string) error {
	known := make([]string, len(Types))
	for i, t := range Types {
		known[i] = string(t)
	}
	return &apierrors.StatusError{ErrStatus: metav1.Status{
		Status: metav1.StatusFailure, Code: http.StatusUnsupportedMediaType, Reason: metav1.StatusReasonUnsupportedMediaType,
		Message: fmt.Sprintf("the body of the request was in an unknown format (%s) - accepted media types include: %s",
			media, strings.Join(known, ", ")),
	}}
}

// limitCopies tells the library once, for the process: it knows no other way.
var limitCopies = sync.OnceFunc(func() { jsonpatch.AccumulatedCopySizeLimit = maxCopied })

func jsonPatch(old, patch []byte) ([]byte, error) {
	limitCopies()
	ops, err := jsonpatch.DecodePatch(patch)
	if err != nil {
		return nil, badPatch(err)
	}
	if len(ops) > MaxOperations {
		return nil, apierrors.NewRequestEntityTooLargeError(
			fmt.Sprintf("The allowed maximum operations in a JSON patch is %d, got %d", MaxOperations, len(ops)))
	}
	out, err := ops.Apply(old)
	var copied *jsonpatch.AccumulatedCopySizeError
	switch {
	case errors.As(err, &copied):
		return nil, apierrors.NewRequestEntityTooLargeError(err.Error())
	case err != nil:
		return nil, unprocessable(err)
	}
	return out, nil
}

func strategic(old, patch []byte, schemaOf any) ([]byte, error) {
	var o, p map[string]any
	if err := kjson.UnmarshalCaseSensitivePreserveInts(patch, &p); err != nil {
		return nil, badPatch(err)
	}
	if p == nil {
		return nil, badPatch(errors.New("a strategic merge patch must be an object"))
	}
	if err := kjson.UnmarshalCaseSensitivePreserveInts(old, &o); err != nil {
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
