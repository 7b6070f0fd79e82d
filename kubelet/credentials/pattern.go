package credentials

import (
	"cmp"
	"fmt"
	"net/url"
	"path"
	"slices"
	"strings"
)

// pattern is the part of the world that a login is for: a host, which may hold «*» within its labels, a port, and what the path begins with
// (https://kubernetes.io/docs/concepts/containers/images/#config-json).
type pattern struct {
	host, port, path string
}

// parsePattern reads what docker configurations and plugins name their logins by: reg.test:5000/team, *.reg.test, https://reg.test/v1/.
func parsePattern(where string) (pattern, error) {
	if !strings.Contains(where, "://") {
		where = "https://" + where
	}
	u, err := url.Parse(where)
	if err != nil || u.Hostname() == "" {
		return pattern{}, fmt.Errorf("%q is no registry", strings.TrimPrefix(where, "https://"))
	}
	p := pattern{host: u.Hostname(), port: u.Port(), path: strings.TrimPrefix(u.Path, "/")}
	if first, rest, _ := strings.Cut(p.path, "/"); first == "v1" || first == "v2" {
		p.path = rest // docker login writes the registry's API version as a path; it is none of the image's
	}
	switch p.host {
	case "index.docker.io", "registry-1.docker.io":
		p.host = "docker.io"
	}
	return p, nil
}

// matches compares with host/path of an image, without tag. A host is compared label by label, so that *.example.com is not a.b.example.com.
func (p pattern) matches(repository string) bool {
	host, rest, _ := strings.Cut(repository, "/")
	u, err := url.Parse("https://" + host)
	if err != nil || u.Port() != p.port || !strings.HasPrefix(rest, p.path) {
		return false
	}
	want, have := strings.Split(p.host, "."), strings.Split(u.Hostname(), ".")
	if len(want) != len(have) {
		return false
	}
	for i := range want {
		if ok, err := path.Match(want[i], have[i]); err != nil || !ok {
			return false
		}
	}
	return true
}

// login is a credential and what it is for.
type login struct {
	pattern
	cred Credential
}

// matching picks what may open a repository, the most precise first; what is equally precise stays in order.
func matching(logins []login, repository string) []Credential {
	var found []login
	for _, l := range logins {
		if l.matches(repository) {
			found = append(found, l)
		}
	}
	slices.SortStableFunc(found, func(a, b login) int {
		return cmp.Or(cmp.Compare(len(b.path), len(a.path)), cmp.Compare(strings.Count(a.host, "*"), strings.Count(b.host, "*")),
			cmp.Compare(b.host, a.host))
	})
	creds := make([]Credential, 0, len(found))
	for _, l := range found {
		creds = append(creds, l.cred)
	}
	return creds
}
