package cgroups

import (
	"os"
	"path/filepath"
	"testing"
)

// TestGlass: of a file that is too long only whole lines are read.
func TestGlass(t *testing.T) {
	dir := t.TempDir()
	for name, tc := range map[string]struct {
		size          int
		content, want string
	}{
		"fits":          {16, "123\n4567\n", "123\n4567\n"},
		"fits exactly":  {9, "123\n4567\n", "123\n4567\n"},
		"half a number": {6, "123\n4567\n", "123\n"},
		"one long line": {3, "4567\n", ""},
		"no last break": {16, "4567", "4567"},
	} {
		if err := os.WriteFile(filepath.Join(dir, "f"), []byte(tc.content), 0o600); err != nil {
			t.Fatal(err)
		}
		g := &glass{buf: make([]byte, tc.size)}
		if got, err := g.file(dir, "f"); err != nil || string(got) != tc.want {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}
