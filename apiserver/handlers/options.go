package handlers

import (
	"context"
	"net/http"
	"net/url"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"pilothouse.dev/apiserver/audit"
	"pilothouse.dev/apiserver/codec"
	"pilothouse.dev/apiserver/request"
)

// change is what a request to write says beside its object. Set once.
type change struct {
	view   *view
	info   *request.Info
	dry    bool
	force  bool
	strict codec.Strictness
	body   []byte
}

// changeOf reads a request to write. The patch type is empty for a create and an update. An answer that is no object of res (a
// Scale) needs no view.
func changeOf(r *http.Request, v *view, info *request.Info, patch types.PatchType) (c *change, err error) {
	c = &change{view: v, info: info, strict: codec.Warn}
	if r.URL.RawQuery != "" || patch == types.ApplyYAMLPatchType || patch == types.ApplyCBORPatchType {
		if err := c.options(r.URL.Query(), patch); err != nil {
			return nil, err
		}
	}
	if c.body, err = codec.ReadBody(r); err == nil && patch != "" && !applies(patch) {
		audit.SentPatch(r.Context(), c.body)
	}
	return c, err
}

// options reads the parameters of CreateOptions, UpdateOptions or PatchOptions.
func (c *change) options(q url.Values, patch types.PatchType) error {
	o := metav1.PatchOptions{DryRun: q["dryRun"], FieldManager: q.Get("fieldManager"), FieldValidation: q.Get("fieldValidation")}
	if q.Has("force") {
		o.Force = ptr.To(q.Get("force") != "0" && !strings.EqualFold(q.Get("force"), "false"))
	}
	kind := "PatchOptions"
	var errs field.ErrorList
	switch c.info.Verb {
	case "create":
		kind = "CreateOptions"
		errs = metav1validation.ValidateCreateOptions(&metav1.CreateOptions{
			DryRun: o.DryRun, FieldManager: o.FieldManager, FieldValidation: o.FieldValidation,
		})
	case "update":
		kind = "UpdateOptions"
		errs = metav1validation.ValidateUpdateOptions(&metav1.UpdateOptions{
			DryRun: o.DryRun, FieldManager: o.FieldManager, FieldValidation: o.FieldValidation,
		})
	default:
		errs = metav1validation.ValidatePatchOptions(&o, patch)
	}
	if len(errs) > 0 {
		return apierrors.NewInvalid(schema.GroupKind{Group: "meta.k8s.io", Kind: kind}, "", errs)
	}
	c.dry = len(o.DryRun) > 0
	c.force = o.Force != nil && *o.Force
	if o.FieldValidation != "" {
		c.strict = codec.Strictness(o.FieldValidation)
	}
	return nil
}

// tell warns of what a body has twice or too much; with Strict it is an error.
func (c *change) tell(ctx context.Context, texts []string) error {
	if len(texts) == 0 || c.strict == codec.Ignore {
		return nil
	}
	if c.strict == codec.Strict {
		return badRequest("strict decoding error: " + strings.Join(texts, ", "))
	}
	for _, text := range texts {
		request.Warn(ctx, text)
	}
	return nil
}

// telling is how strictly the result of a patch is decoded: what is found in it is told together with what was found in the patch.
func (c *change) telling() codec.Strictness {
	if c.strict == codec.Strict {
		return codec.Warn
	}
	return c.strict
}

// decode reads the body as an object of the type served here.
func (c *change) decode(r *http.Request, gvk schema.GroupVersionKind, into runtime.Object) error {
	media := codec.BodyMedia(r)
	if media == "" {
		return unsupportedMedia(r.Header.Get("Content-Type"))
	}
	warnings, err := codec.Decode(c.body, media, gvk, into, c.strict)
	if err != nil {
		return err
	}
	audit.Sent(r.Context(), into, gvk)
	return c.tell(r.Context(), warnings)
}
