package codec

import (
	"bytes"
	"fmt"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	kjson "sigs.k8s.io/json"
	"sigs.k8s.io/yaml"
)

// Strictness is what happens to unknown and duplicate fields (the fieldValidation parameter).
type Strictness string

const (
	Ignore Strictness = "Ignore"
	Warn   Strictness = "Warn"
	Strict Strictness = "Strict"
)

// Decode reads a body that should be a gvk into an empty object of that type. A body that names no kind is taken to be one;
// one that names another is a 400. The strings are warnings about unknown and duplicate fields; with Strict they are a 400.
func Decode(body []byte, media string, gvk schema.GroupVersionKind, into runtime.Object, s Strictness) ([]string, error) {
	var unknown []error
	switch media {
	case Protobuf:
		u, err := unwrap(body)
		if err != nil {
			return nil, apierrors.NewBadRequest(err.Error())
		}
		if err := expect(u.APIVersion, u.Kind, gvk); err != nil {
			return nil, err
		}
		m, ok := into.(message)
		if !ok {
			return nil, apierrors.NewBadRequest(fmt.Sprintf("%s has no protobuf form: send JSON", gvk.Kind))
		}
		if err := checkNesting(u.Raw); err != nil {
			return nil, unreadable(gvk, err)
		}
		if err := m.Unmarshal(u.Raw); err != nil {
			return nil, unreadable(gvk, err)
		}
	default:
		if media == YAML {
			converted, err := toJSON(body, s == Strict)
			if err != nil {
				return nil, apierrors.NewBadRequest(fmt.Sprintf("error converting YAML to JSON: %v", err))
			}
			body = converted
		}
		var errs []error
		var err error
		switch {
		case media == CBOR:
			errs, err = decodeCBOR(body, gvk, into, s)
		case s == Ignore:
			err = kjson.UnmarshalCaseSensitivePreserveInts(body, into)
		default:
			errs, err = kjson.UnmarshalStrict(body, into)
		}
		if err != nil {
			return nil, unreadable(gvk, err)
		}
		unknown = errs
		got := into.GetObjectKind().GroupVersionKind()
		av, kind := got.ToAPIVersionAndKind()
		if got.Version == "" {
			av = ""
		}
		if err := expect(av, kind, gvk); err != nil {
			return nil, err
		}
	}
	into.GetObjectKind().SetGroupVersionKind(schema.GroupVersionKind{})
	if len(unknown) == 0 {
		return nil, nil
	}
	texts := make([]string, 0, len(unknown))
	for _, e := range unknown {
		texts = append(texts, e.Error())
	}
	if s == Strict {
		return nil, apierrors.NewBadRequest("strict decoding error: " + strings.Join(texts, ", "))
	}
	return texts, nil
}

func unreadable(gvk schema.GroupVersionKind, err error) error {
	return apierrors.NewBadRequest(fmt.Sprintf("%s in version %q cannot be handled as a %s: %v", gvk.Kind, gvk.Version, gvk.Kind, err))
}

func expect(av, kind string, gvk schema.GroupVersionKind) error {
	if kind != "" && kind != gvk.Kind {
		return apierrors.NewBadRequest(fmt.Sprintf(
			"%s in version %q cannot be handled as a %s: the kind in the data does not match what this path takes", kind, av, gvk.Kind))
	}
	if want := apiVersion(gvk); av != "" && av != want {
		return apierrors.NewBadRequest(fmt.Sprintf(
			"the API version in the data (%s) does not match the expected API version (%s)", av, want))
	}
	return nil
}

func toJSON(body []byte, strict bool) ([]byte, error) {
	if b := bytes.TrimLeft(body, " \t\r\n"); len(b) > 0 && b[0] == '{' {
		return body, nil // YAML is a superset: a JSON body under a YAML header is read as what it is
	}
	if strict {
		return yaml.YAMLToJSONStrict(body)
	}
	return yaml.YAMLToJSON(body)
}

// PeekKind reads apiVersion and kind alone, for bodies that may be one of several (DeleteOptions, a Status, a review).
func PeekKind(body []byte, media string) (schema.GroupVersionKind, error) {
	if media == Protobuf {
		u, err := unwrap(body)
		if err != nil {
			return schema.GroupVersionKind{}, err
		}
		return schema.FromAPIVersionAndKind(u.APIVersion, u.Kind), nil
	}
	if media == CBOR {
		return peekCBOR(body)
	}
	if media == YAML {
		j, err := toJSON(body, false)
		if err != nil {
			return schema.GroupVersionKind{}, err
		}
		body = j
	}
	var t struct {
		APIVersion string `json:"apiVersion"`
		Kind       string `json:"kind"`
	}
	if err := kjson.UnmarshalCaseSensitivePreserveInts(body, &t); err != nil {
		return schema.GroupVersionKind{}, err
	}
	return schema.FromAPIVersionAndKind(t.APIVersion, t.Kind), nil
}
