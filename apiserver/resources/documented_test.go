package resources

import (
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// What is served is what Kubernetes 1.37 documents: name, short names, group version, scope, kind, verbs and categories.
func TestKindsAreAsDocumented(t *testing.T) {
	text, err := os.ReadFile("testdata/api-resources.txt")
	if err != nil {
		t.Fatal(err)
	}
	documented := map[string][]string{} // by group version and name
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); !strings.HasPrefix(line, "#") {
			documented[f[2]+" "+f[0]] = f
		}
	}
	list := func(values []string) string {
		if len(values) == 0 {
			return "-"
		}
		return strings.Join(slices.Sorted(slices.Values(values)), ",")
	}
	for _, r := range Table {
		gv := r.GVK.GroupVersion().String()
		got := []string{
			r.Plural, list(r.Short), gv, strconv.FormatBool(r.Namespaced), r.GVK.Kind, list(r.Verbs), list(r.Categories),
		}
		want, ok := documented[gv+" "+r.Plural]
		switch {
		case !ok:
			t.Errorf("served, not documented: %s", strings.Join(got, " "))
		case !slices.Equal(got, want):
			t.Errorf("served\n\t%s\nand documented\n\t%s", strings.Join(got, " "), strings.Join(want, " "))
		}
		delete(documented, gv+" "+r.Plural)
	}
	for _, want := range documented {
		t.Errorf("documented, not served: %s", strings.Join(want, " "))
	}
}
