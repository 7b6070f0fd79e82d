package configuration

import (
	"encoding/json"
	"strings"
	"testing"
)

// TestConfigzSecret: the headers by which static pods are asked for are not shown.
func TestConfigzSecret(t *testing.T) {
	for _, text := range []string{`{"Authorization":["Bearer hunter2"]}`, "Authorization:Bearer hunter2", ""} {
		raw, err := json.Marshal(Configz(func(name string) (string, bool) { return text, name == "manifest-url-header" }))
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(raw), "hunter2") {
			t.Errorf("the header %q is shown", text)
		}
		if shown := strings.Contains(string(raw), "staticPodURLHeader"); shown != strings.HasPrefix(text, "{") {
			t.Errorf("that there is a header %q is shown: %t", text, shown)
		}
	}
}
