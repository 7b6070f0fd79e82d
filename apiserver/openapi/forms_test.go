package openapi

import (
	"encoding/json"
	"slices"
	"testing"

	openapi_v2 "github.com/google/gnostic-models/openapiv2"
	openapi_v3 "github.com/google/gnostic-models/openapiv3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"k8s.io/kube-openapi/pkg/handler"
	"k8s.io/kube-openapi/pkg/handler3"
	"sigs.k8s.io/yaml"

	"pilothouse.dev/apiserver/registry"
	"pilothouse.dev/apiserver/resources"
)

// The protobuf that is written here field by field is what the library makes of the JSON.
func TestProtobufSaysWhatJSONSays(t *testing.T) {
	// Every shape there is; the library is slow.
	var some []*registry.Resource
	for _, r := range resources.Table {
		if slices.Contains([]string{"apps", "apiextensions.k8s.io", "authentication.k8s.io"}, r.GVK.Group) {
			some = append(some, r)
		}
	}
	d := New(registry.New(nowhere{}, some))
	t.Run("v2", func(t *testing.T) {
		library, err := handler.ToProtoBinary(ask(t, d.ServeV2, "/openapi/v2").Body.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		ours := ask(t, d.ServeV2, "/openapi/v2", "Accept", protobuf2[1]).Body.Bytes()
		same(t, ours, library, &openapi_v2.Document{}, &openapi_v2.Document{})
	})
	for at := range d.paths() {
		t.Run(at, func(t *testing.T) {
			library, err := handler3.ToV3ProtoBinary(ask(t, d.ServeV3, "/openapi/v3/"+at).Body.Bytes())
			if err != nil {
				t.Fatal(err)
			}
			ours := ask(t, d.ServeV3, "/openapi/v3/"+at, "Accept", protobuf3[1]).Body.Bytes()
			same(t, ours, library, &openapi_v3.Document{}, &openapi_v3.Document{})
		})
	}
}

func same(t *testing.T, ours, library []byte, a, b proto.Message) {
	t.Helper()
	if err := proto.Unmarshal(ours, a); err != nil {
		t.Fatal(err)
	}
	if err := proto.Unmarshal(library, b); err != nil {
		t.Fatal(err)
	}
	level(t, a.ProtoReflect())
	level(t, b.ProtoReflect())
	if !proto.Equal(a, b) {
		t.Error("other messages")
	}
}

// level writes every piece of YAML within a message as JSON: there are many ways to write the same.
func level(t *testing.T, m protoreflect.Message) {
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case f.Name() == "yaml":
			var value any
			if err := yaml.Unmarshal([]byte(v.String()), &value); err != nil {
				t.Fatal(err)
			}
			text, err := json.Marshal(value)
			if err != nil {
				t.Fatal(err)
			}
			m.Set(f, protoreflect.ValueOfString(string(text)))
		case f.IsList() && f.Message() != nil:
			for i := range v.List().Len() {
				level(t, v.List().Get(i).Message())
			}
		case f.Message() != nil:
			level(t, v.Message())
		}
		return true
	})
}
