package markers

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestOf(t *testing.T) {
	container := Of(reflect.TypeFor[corev1.Container]())
	if container == nil {
		t.Fatal("nothing is said of a container")
	}
	for name, want := range map[string]Field{
		"ports":        {ListType: "map", ListKeys: []string{"containerPort", "protocol"}},
		"command":      {ListType: "atomic"},
		"env":          {ListType: "map", ListKeys: []string{"name"}},
		"volumeMounts": {ListType: "map", ListKeys: []string{"mountPath"}},
		"image":        {},
	} {
		if got := container.Fields[name]; !reflect.DeepEqual(got, want) {
			t.Errorf("container field %s: got %+v, want %+v", name, got, want)
		}
	}
	if got := Of(reflect.TypeFor[corev1.ContainerPort]()).Fields["protocol"]; got.Default != `"TCP"` {
		t.Errorf("protocol of a port: got default %s", got.Default)
	}
	if got := Of(reflect.TypeFor[corev1.NodeSelector]()); got.StructType != "atomic" {
		t.Errorf("node selector: got struct type %q", got.StructType)
	}
	if got := Of(reflect.TypeFor[corev1.PullPolicy]()); !slices.Equal(got.Enum, []string{"Always", "IfNotPresent", "Never"}) {
		t.Errorf("pull policy: got enumeration %q", got.Enum)
	}
	if got := Of(reflect.TypeFor[metav1.ObjectMeta]()).Fields["ownerReferences"]; !slices.Equal(got.ListKeys, []string{"uid"}) {
		t.Errorf("owner references: got keys %q", got.ListKeys)
	}
	if got := Of(reflect.TypeFor[resourcev1.DeviceTaintSelector]()); got != nil && len(got.Fields) > 0 && got.Fields["key"].ListType != "" {
		t.Errorf("a text is no list: got %+v", got)
	}
	for _, none := range []reflect.Type{reflect.TypeFor[string](), reflect.TypeFor[[]corev1.Container](), reflect.TypeFor[testing.T]()} {
		if got := Of(none); got != nil {
			t.Errorf("%s: got %+v, want nothing", none, got)
		}
	}
}

// Every word of the table is one that the parser knows, and every default is JSON.
func TestTheTableIsUnderstood(t *testing.T) {
	types, fields := 0, 0
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if strings.HasPrefix(line, "#") || strings.HasPrefix(line, "package ") {
			continue
		}
		of, isField := strings.CutPrefix(line, "\t")
		_, words, _ := strings.Cut(of, " ")
		if head, value, ok := strings.Cut(words, "default="); ok {
			if !json.Valid([]byte(value)) {
				t.Errorf("default is not JSON: %q", line)
			}
			words = strings.TrimSuffix(head, " ")
		}
		words, _, _ = strings.Cut(words, "enum=")
		for word := range strings.FieldsSeq(words) {
			name, _, _ := strings.Cut(word, "=")
			if !slices.Contains([]string{"list", "map", "struct", "optional", "required"}, name) {
				t.Errorf("word %q: %q", word, line)
			}
		}
		if isField {
			fields++
		} else {
			types++
		}
	}
	got := 0
	for _, t := range table() {
		got += len(t.Fields)
	}
	if len(table()) != types || got != fields {
		t.Errorf("read %d types and %d fields of %d and %d", len(table()), got, types, fields)
	}
}

func BenchmarkParse(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		parse(text)
	}
}
