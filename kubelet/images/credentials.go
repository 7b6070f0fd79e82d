package images

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/url"
	"path"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// credential is one login. An identity token goes in place of a password, without a user.
type credential struct {
	user, password string
}

// login is a credential and the part of the world it is for: a host, which may hold «*» within its labels, and a path before the image.
type login struct {
	host, path string
	cred       credential
}

// dockerAuth is an entry of a docker config file.
type dockerAuth struct {
	Username      string `json:"username"`
	Password      string `json:"password"`
	Auth          string `json:"auth"` // base64 of user:password
	IdentityToken string `json:"identitytoken"`
}

// loginsOf reads pull secrets. A secret that cannot be read is an error of its own, so that the others still serve.
func loginsOf(secrets []corev1.Secret) (logins []login, errs []error) {
	for _, s := range secrets {
		entries, err := entriesOf(s)
		if err != nil {
			errs = append(errs, fmt.Errorf("reading pull secret %s: %w", s.Name, err))
			continue
		}
		for where, auth := range entries {
			l, err := loginOf(where, auth)
			if err != nil {
				errs = append(errs, fmt.Errorf("reading pull secret %s, entry %s: %w", s.Name, where, err))
				continue
			}
			logins = append(logins, l)
		}
	}
	// The most precise first; the rest of the order only has to be the same every time.
	slices.SortFunc(logins, func(a, b login) int {
		return cmp.Or(len(b.path)-len(a.path), strings.Count(a.host, "*")-strings.Count(b.host, "*"), cmp.Compare(a.host, b.host), cmp.Compare(a.cred.user, b.cred.user))
	})
	return logins, errs
}

func entriesOf(s corev1.Secret) (map[string]dockerAuth, error) {
	var entries map[string]dockerAuth
	switch s.Type {
	case corev1.SecretTypeDockerConfigJson:
		var file struct {
			Auths map[string]dockerAuth `json:"auths"`
		}
		if err := json.Unmarshal(s.Data[corev1.DockerConfigJsonKey], &file); err != nil {
			return nil, err
		}
		entries = file.Auths
	case corev1.SecretTypeDockercfg:
		if err := json.Unmarshal(s.Data[corev1.DockerConfigKey], &entries); err != nil {
			return nil, err
		}
	}
	return entries, nil
}

func loginOf(where string, auth dockerAuth) (login, error) {
	if !strings.Contains(where, "://") {
		where = "https://" + where
	}
	u, err := url.Parse(where)
	if err != nil {
		return login{}, err
	}
	l := login{host: u.Host, path: strings.Trim(u.Path, "/"), cred: credential{user: auth.Username, password: auth.Password}}
	// docker login writes the registry's API version as a path; it is none of the image's.
	l.path = strings.Trim(strings.TrimPrefix(strings.TrimPrefix(l.path, "v1"), "v2"), "/")
	if l.host == "index.docker.io" || l.host == "registry-1.docker.io" {
		l.host = "docker.io"
	}
	switch {
	case auth.IdentityToken != "":
		l.cred = credential{password: auth.IdentityToken}
	case auth.Auth != "" && auth.Username == "":
		raw, err := base64.StdEncoding.DecodeString(auth.Auth)
		if err != nil {
			return login{}, fmt.Errorf("decoding auth: %w", err)
		}
		user, password, ok := strings.Cut(strings.TrimRight(string(raw), "\x00"), ":")
		if !ok {
			return login{}, fmt.Errorf("auth holds no user and password")
		}
		l.cred = credential{user: user, password: password}
	}
	return l, nil
}

// credentialsFor picks what may open an image's registry, in order. repository is host/path, without tag.
func credentialsFor(logins []login, repository string) []credential {
	host, rest, _ := strings.Cut(repository, "/")
	var found []credential
	for _, l := range logins {
		inPath := l.path == "" || rest == l.path || strings.HasPrefix(rest, l.path+"/")
		if inPath && hostMatches(l.host, host) && !slices.Contains(found, l.cred) {
			found = append(found, l.cred)
		}
	}
	return found
}

// hostMatches compares label by label, so that *.example.com is not a.b.example.com.
func hostMatches(pattern, host string) bool {
	want, have := strings.Split(pattern, "."), strings.Split(host, ".")
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
