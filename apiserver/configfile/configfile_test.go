package configfile

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/util/validation/field"
)

type config struct {
	Kind       string   `json:"kind"`
	APIVersion string   `json:"apiVersion"`
	Items      []item   `json:"items"`
	Names      []string `json:"names"`
}

type item struct {
	Name string `json:"name"`
	Size int    `json:"size"`
}

func TestErrorsNameTheLine(t *testing.T) {
	const head = "apiVersion: g/v1\nkind: Config\n"
	for _, c := range []struct{ name, text, want string }{
		{"good", head + "items:\n- name: a\n  size: 1\n", ""},
		{"JSON", `{"apiVersion":"g/v1","kind":"Config"}`, ""},
		{"empty", "", "the file is empty"},
		{"no YAML", head + "items: [", "line 3"},
		{"another kind", "apiVersion: g/v1\nkind: Other\n", `line 2: got kind "Other" of apiVersion "g/v1", want "Config" of "g/v1"`},
		{"misspelt", head + "items:\n- name: a\n  sice: 1\n", `line 5: unknown field "items[0].sice"`},
		{"mistyped", head + "items:\n- name: a\n  size: the-secret\n", "line 3: json: cannot unmarshal string"}, // the field's index is not told
		{"twice", head + "kind: Config\n", `"kind" already`},
	} {
		t.Run(c.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "config.yaml")
			if err := os.WriteFile(file, []byte(c.text), 0o600); err != nil {
				t.Fatal(err)
			}
			for _, named := range []bool{true, false} {
				var d Document
				var err error
				if named {
					d, err = Read(file)
				} else {
					d, err = Parse([]byte(c.text))
				}
				var into config
				if err == nil {
					err = d.Versioned(&into, "Config", "g/v1")
				}
				if c.want == "" {
					if err != nil {
						t.Error(err)
					}
					continue
				}
				if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), file) != named || strings.Contains(err.Error(), "the-secret") {
					t.Errorf("got %v, want %q", err, c.want)
				}
			}
		})
	}
}

func TestInvalid(t *testing.T) {
	d, err := Parse([]byte("items:\n- name: a\n- name: b\nnames:\n- x\n"))
	if err != nil {
		t.Fatal(err)
	}
	items := field.NewPath("items")
	one := field.ErrorList{field.Required(items.Index(1).Child("size"), "")}
	if err := d.Invalid(one); err == nil || err.Error() != "line 3: items[1].size: Required value" {
		t.Errorf("got %v", err)
	}
	two := append(one, field.Invalid(field.NewPath("names").Index(0), "x", "no"))
	if err := d.Invalid(two); err == nil || err.Error() != `[line 3: items[1].size: Required value, line 5: names[0]: Invalid value: "x": no]` {
		t.Errorf("got %v", err)
	}
	if err := d.Invalid(nil); err != nil {
		t.Error(err)
	}
}
