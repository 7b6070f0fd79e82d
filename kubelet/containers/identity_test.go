package containers

import (
	"errors"
	"reflect"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func imageOf(user string) imageFacts {
	return imageFacts{
		config: ocispec.ImageConfig{User: user},
		passwd: []byte("root:x:0:0::/:/bin/sh\napp:x:1000:50::/:/bin/sh\n7:x:0:0:root by another name:/:/bin/sh\n"),
		group:  []byte("root:x:0:\nstaff:x:50:\nextra:x:60:app\n"),
	}
}

func TestWhoRuns(t *testing.T) {
	for name, c := range map[string]struct {
		user string
		sec  Security
		want identityOf
	}{
		"nobody named":       {"", Security{}, identityOf{0, 0, []uint32{0}}},
		"by name":            {"app", Security{}, identityOf{1000, 50, []uint32{50, 60}}},
		"by name of both":    {"app:extra", Security{}, identityOf{1000, 60, []uint32{60}}},
		"by number":          {"7:8", Security{}, identityOf{7, 8, []uint32{8}}},
		"pod's user":         {"app", Security{RunAsUser: new(int64(1))}, identityOf{1, 0, []uint32{0}}},
		"pod's group":        {"app", Security{RunAsGroup: new(int64(1))}, identityOf{1000, 1, []uint32{1, 60}}},
		"more groups":        {"app", Security{SupplementalGroups: []int64{60, 70}}, identityOf{1000, 50, []uint32{50, 60, 70}}},
		"only the pod's":     {"app", Security{SupplementalGroups: []int64{70}, StrictGroups: true}, identityOf{1000, 50, []uint32{50, 70}}},
		"non-root by number": {"1000", Security{RunAsNonRoot: true}, identityOf{1000, 50, []uint32{50, 60}}},
		"non-root by wish":   {"root", Security{RunAsNonRoot: true, RunAsUser: new(int64(7))}, identityOf{7, 0, []uint32{0}}},
	} {
		got, err := whoRuns(imageOf(c.user), c.sec)
		if err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: got %+v, %v", name, got, err)
		}
		if back := identityFrom(got.text()); back == nil || back.UID != got.uid || back.GID != got.gid || !reflect.DeepEqual(back.Groups, got.groups) {
			t.Errorf("%s: %q reads as %+v", name, got.text(), back)
		}
	}
	if _, err := whoRuns(imageOf("stranger"), Security{}); err == nil {
		t.Error("a user that the image doesn't know was found")
	}
	for _, spoiled := range []string{"", "1", "1:2", "1:2:", "a:b:c", "1:2:3,x", "-1:2:3"} {
		if id := identityFrom(spoiled); id != nil {
			t.Errorf("%q reads as %+v", spoiled, id)
		}
	}
}

// TestMapped: a user namespace has 65536 users and groups, and no other can be had in it.
func TestMapped(t *testing.T) {
	for name, c := range map[string]struct {
		id   identityOf
		want string
	}{
		"root":           {identityOf{0, 0, []uint32{0}}, ""},
		"the last":       {identityOf{65535, 65535, []uint32{65535}}, ""},
		"beyond":         {identityOf{65536, 0, []uint32{0}}, "user 65536"},
		"group beyond":   {identityOf{0, 70000, []uint32{0}}, "group 70000"},
		"another beyond": {identityOf{0, 0, []uint32{0, 80000}}, "group 80000"},
	} {
		err := c.id.mapped()
		if (err != nil) != (c.want != "") || err != nil && (!errors.Is(err, ErrUnsupported) || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestNonRoot(t *testing.T) {
	s := Sandbox{PodName: "web", PodNamespace: "shop", PodUID: "u1"}
	const asRoot = `container has runAsNonRoot and image will run as root (pod: "web_shop(u1)", container: c)`
	for name, tc := range map[string]struct {
		image string
		user  *int64
		want  string
	}{
		"nobody named": {"", nil, asRoot},
		"root":         {"0:5", nil, asRoot},
		"a word":       {"app:staff", nil, `container has runAsNonRoot and image has non-numeric user (app), cannot verify user is non-root (pod: "web_shop(u1)", container: c)`},
		"the pod's":    {"1000", new(int64(0)), `container's runAsUser breaks non-root policy (pod: "web_shop(u1)", container: c)`},
	} {
		_, err := whoRuns(imageOf(tc.image), Security{RunAsNonRoot: true, RunAsUser: tc.user})
		if err = inPod(err, s, "c"); !errors.Is(err, ErrRunsAsRoot) || err.Error() != tc.want {
			t.Errorf("%s: %v", name, err)
		}
	}
	if other := errors.New("other"); inPod(other, s, "c") != other {
		t.Error("another error was changed")
	}
}
