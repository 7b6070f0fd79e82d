package containers

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestReadProfile: a file that is no profile never becomes a process without one.
func TestReadProfile(t *testing.T) {
	dir := t.TempDir()
	for name, tc := range map[string]struct{ content, want string }{
		"good":      {`{"defaultAction": "SCMP_ACT_ALLOW"}`, ""},
		"null":      {`null`, "names no defaultAction"},
		"empty":     {`{}`, "names no defaultAction"},
		"no object": {`[]`, "decoding"},
		"no text":   {``, "decoding"},
	} {
		path := filepath.Join(dir, "profile")
		if err := os.WriteFile(path, []byte(tc.content), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := readProfile(path)
		if (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) || err == nil && got.DefaultAction == "" {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	if _, err := readProfile(filepath.Join(dir, "nothing")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file that is not there: %v", err)
	}
}
