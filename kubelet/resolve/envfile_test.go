package resolve

import (
	"errors"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

func TestEnvFile(t *testing.T) {
	for _, c := range []struct {
		name, text string
		want       map[string]string
		fails      string
	}{
		{"nothing", "", map[string]string{}, ""},
		{"comments and blank lines", "# a comment\n\n  \t\n  # another ='x'\n", map[string]string{}, ""},
		{"plain", "A='1'\nB='two words'", map[string]string{"A": "1", "B": "two words"}, ""},
		{"spaces around", "  A = '1'  \n\tB='2'\r\n", map[string]string{"A": "1", "B": "2"}, ""},
		{"empty", "A=''\n", map[string]string{"A": ""}, ""},
		{"several lines", "A='one\ntwo\n# three'\nB='4'\n", map[string]string{"A": "one\ntwo\n# three", "B": "4"}, ""},
		{"literally", `A='$B \n "q" =#'`, map[string]string{"A": `$B \n "q" =#`}, ""},
		{"twice", "A='1'\nA='2'\n", map[string]string{"A": "2"}, ""},
		{"no quotes", "A='1'\n\nB=2\n", nil, "line 3: the value of B is not in single quotes"},
		{"other quotes", `A="1"`, nil, "not in single quotes"},
		{"not closed", "A='1\nB\n", nil, "line 1: the quote of the value of A is not closed"},
		{"two values", "A='1''2'\n", nil, "something follows the value of A"},
		{"joined", "A='1'$B\n", nil, "something follows"},
		{"after several lines", "A='1\n2'\nB\n", nil, "line 3: want NAME='value'"},
		{"no name", "='1'\n", nil, "want NAME='value'"},
		{"a command", "export A='1'\n", nil, "want NAME='value'"},
	} {
		got, err := EnvFile(c.text)
		if !maps.Equal(got, c.want) || (err == nil) != (c.fails == "") || err != nil && !strings.Contains(err.Error(), c.fails) {
			t.Errorf("%s: %q, %v, want %q, %q", c.name, got, err, c.want, c.fails)
		}
	}
}

func FuzzEnvFile(f *testing.F) {
	f.Add("A='1'\n# x\nB='2\n3'")
	f.Fuzz(func(t *testing.T, text string) {
		values, err := EnvFile(text)
		if err != nil {
			return
		}
		for name, value := range values {
			if name == "" || strings.ContainsAny(name, "='\n") || strings.Contains(value, "'") || !strings.Contains(text, "'"+value+"'") {
				t.Errorf("%q gives %q=%q", text, name, value)
			}
		}
	})
}

func TestEnvFromFiles(t *testing.T) {
	yes := true
	files := map[string]string{"config/app.env": "A='1'\n", "config/bad.env": "A=1\n"}
	facts := Facts{Files: func(volume, path string) ([]byte, error) {
		text, ok := files[volume+"/"+path]
		if !ok {
			return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
		}
		return []byte(text), nil
	}}
	for _, c := range []struct {
		path, key string
		optional  *bool
		want      []string
		missing   string
	}{
		{"app.env", "A", nil, []string{"X=1"}, ""},
		{"app.env", "B", nil, nil, "couldn't find key B in file app.env of volume config"},
		{"app.env", "B", &yes, nil, ""},
		{"no.env", "A", nil, nil, "couldn't find file no.env in volume config"},
		{"no.env", "A", &yes, nil, ""},
		{"bad.env", "A", &yes, nil, "file bad.env in volume config: line 1: the value of A is not in single quotes"},
	} {
		from := &corev1.EnvVarSource{FileKeyRef: &corev1.FileKeySelector{VolumeName: "config", Path: c.path, Key: c.key, Optional: c.optional}}
		got, err := Env(&corev1.Pod{}, &corev1.Container{Env: []corev1.EnvVar{{Name: "X", ValueFrom: from}}}, facts, objects{})
		if !slices.Equal(got, c.want) || (err == nil) != (c.missing == "") || err != nil && (err.Error() != c.missing || !errors.Is(err, ErrMissing)) {
			t.Errorf("%s %s: %q, %v, want %q, %q", c.path, c.key, got, err, c.want, c.missing)
		}
	}
}

func TestExpandAll(t *testing.T) {
	values := map[string]string{"A": "x"}
	for in, want := range map[string]string{"": "", "$(A)/b": "x/b", "$$(A)": "$(A)", "$$(NO)": "$(NO)"} {
		if got, err := ExpandAll(in, values); err != nil || got != want {
			t.Errorf("%q: %q, %v, want %q", in, got, err, want)
		}
	}
	if _, err := ExpandAll("$(NO)/$(A)/$(NEITHER)", values); !errors.Is(err, ErrMissing) || err.Error() != "missing value for NO, NEITHER" {
		t.Errorf("got %v", err)
	}
}

// A container without a limit has the pod's, and without that the node's.
func TestResourceOfPod(t *testing.T) {
	q := resource.MustParse
	pod := &corev1.Pod{Spec: corev1.PodSpec{
		Resources:  &corev1.ResourceRequirements{Limits: corev1.ResourceList{"memory": q("32Mi")}},
		Containers: []corev1.Container{{Name: "a", Resources: corev1.ResourceRequirements{Limits: corev1.ResourceList{"cpu": q("0")}}}},
	}}
	facts := Facts{Allocatable: corev1.ResourceList{"memory": q("1Gi"), "cpu": q("4"), "ephemeral-storage": q("9223372036854775807")}}
	for field, want := range map[string]string{"limits.memory": "33554432", "limits.cpu": "4", "limits.ephemeral-storage": "9223372036854775807"} {
		if got, err := Resource(pod, &pod.Spec.Containers[0], &corev1.ResourceFieldSelector{Resource: field}, facts); err != nil || got != want {
			t.Errorf("%s: %s, %v, want %s", field, got, err, want)
		}
	}
}
