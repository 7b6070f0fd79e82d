package credentials

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// dockerAuth is an entry of a docker configuration.
type dockerAuth struct {
	Username      string `json:"username"`
	Password      string `json:"password"`
	Auth          string `json:"auth"` // base64 of user:password; counts more than the two above
	IdentityToken string `json:"identitytoken"`
}

// loginsOf reads pull secrets. A secret that cannot be read is an error of its own, so that the others still serve.
func loginsOf(secrets []corev1.Secret) (logins []login, errs []error) {
	for _, s := range secrets {
		origin := Credential{Secret: s.UID}
		var found []login
		var err error
		switch s.Type {
		case corev1.SecretTypeDockerConfigJson:
			found, err = readConfig(s.Data[corev1.DockerConfigJsonKey], true, origin)
		case corev1.SecretTypeDockercfg:
			found, err = readConfig(s.Data[corev1.DockerConfigKey], false, origin)
		default:
			continue
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("reading pull secret %s: %w", s.Name, err))
		}
		logins = append(logins, found...)
	}
	return logins, errs
}

// readConfig reads a docker configuration: that of today, with its entries below auths, or the old one without. Entries that can be read are returned
// beside the error about those that cannot; no error tells what is in one.
func readConfig(raw []byte, auths bool, origin Credential) ([]login, error) {
	var entries map[string]dockerAuth
	var err error
	if auths {
		var file struct {
			Auths map[string]dockerAuth `json:"auths"`
		}
		err = json.Unmarshal(raw, &file)
		entries = file.Auths
	} else {
		err = json.Unmarshal(raw, &entries)
	}
	if err != nil {
		return nil, errors.New("it is no docker configuration in JSON")
	}
	var logins []login
	var errs []error
	for _, where := range slices.Sorted(maps.Keys(entries)) {
		l, err := loginOf(where, entries[where], origin)
		if err != nil {
			errs = append(errs, fmt.Errorf("entry %s: %w", where, err))
			continue
		}
		logins = append(logins, l)
	}
	return logins, errors.Join(errs...)
}

func loginOf(where string, auth dockerAuth, origin Credential) (login, error) {
	p, err := parsePattern(where)
	if err != nil {
		return login{}, err
	}
	l := login{pattern: p, cred: origin}
	l.cred.Username, l.cred.Password = auth.Username, auth.Password
	switch {
	case auth.IdentityToken != "":
		l.cred.Username, l.cred.Password = "", auth.IdentityToken
	case auth.Auth != "":
		raw, err := base64.StdEncoding.DecodeString(auth.Auth)
		if err != nil {
			if raw, err = base64.RawStdEncoding.DecodeString(auth.Auth); err != nil {
				return login{}, errors.New("auth is not base64")
			}
		}
		user, password, ok := strings.Cut(strings.TrimRight(string(raw), "\x00"), ":")
		if !ok {
			return login{}, errors.New("auth holds no user and password")
		}
		l.cred.Username, l.cred.Password = user, password
	}
	return l, nil
}
