package volumes

import (
	"errors"
	"os"
	"testing"
)

// TestGiveToGroup gives away whatever names a container has chosen; a name need not be text.
func TestGiveToGroup(t *testing.T) {
	dir := t.TempDir()
	const odd = "/caf\xe9"
	if err := errors.Join(os.MkdirAll(dir+odd+"/in", 0o755), os.WriteFile(dir+odd+"/in/f\xff", nil, 0o600), os.Symlink(".", dir+odd+"/self")); err != nil {
		t.Fatal(err)
	}
	if err := giveToGroup(dir, 2000, false); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"", odd, odd + "/in", odd + "/in/f\xff", odd + "/self"} {
		info, err := os.Lstat(dir + name)
		if err != nil {
			t.Fatal(err)
		}
		if group(info) != 2000 || info.Mode()&os.ModeSymlink == 0 && info.Mode()&groupFile != groupFile {
			t.Errorf("%q: group %d, mode %v", name, group(info), info.Mode())
		}
	}
}
