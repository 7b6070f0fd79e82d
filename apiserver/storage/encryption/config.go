package encryption

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"pilothouse.dev/apiserver/configfile"
)

// The file, as https://kubernetes.io/docs/reference/config-api/apiserver-config.v1/#apiserver-config-k8s-io-v1-EncryptionConfiguration
// has it.
type (
	file struct {
		metav1.TypeMeta `json:",inline"`
		Resources       []fileResources `json:"resources"`
	}
	fileResources struct {
		Resources []string       `json:"resources"`
		Providers []fileProvider `json:"providers"`
	}
	fileProvider struct {
		AESGCM    *fileKeys `json:"aesgcm,omitempty"`
		AESCBC    *fileKeys `json:"aescbc,omitempty"`
		Secretbox *fileKeys `json:"secretbox,omitempty"`
		Identity  *struct{} `json:"identity,omitempty"`
		KMS       *fileKMS  `json:"kms,omitempty"`
	}
	fileKeys struct {
		Keys []fileKey `json:"keys"`
	}
	fileKey struct {
		Name   string `json:"name"`
		Secret string `json:"secret"`
	}
	fileKMS struct {
		APIVersion string           `json:"apiVersion"`
		Name       string           `json:"name"`
		CacheSize  *int32           `json:"cachesize,omitempty"` // of v1
		Endpoint   string           `json:"endpoint"`
		Timeout    *metav1.Duration `json:"timeout,omitempty"`
	}
)

// rules are one configuration, ready for use. Immutable.
type rules struct {
	data  []byte // the file
	hash  string // of data
	lines []line
	kms   []*kms // all that the lines name, each once
}

// line says how some kinds are kept: sealed by the first of its providers, opened by whichever knows the seal.
type line struct {
	patterns  []pattern
	providers []provider
}

// pattern is one entry of resources: PLURAL (core), PLURAL.GROUP, *.GROUP, "*." (all of core) or *.* (everything).
type pattern struct{ plural, group string }

func (p pattern) matches(group, plural string) bool {
	return (p.group == "*" || p.group == group) && (p.plural == "*" || p.plural == plural)
}

// covers says whether whatever o matches is matched by p.
func (p pattern) covers(o pattern) bool {
	return (p.group == "*" || p.group == o.group) && (p.plural == "*" || p.plural == o.plural)
}

// of returns the providers for a kind; none: it is kept as it is.
func (r *rules) of(group, plural string) []provider {
	for _, l := range r.lines {
		for _, p := range l.patterns {
			if p.matches(group, plural) {
				return l.providers
			}
		}
	}
	return nil
}

const kmsTimeout = 3 * time.Second // of a call, where the file does not say

// parse reads a configuration. Errors name the field, and never a key.
func parse(data []byte) (*rules, error) {
	var f file
	d, err := configfile.Parse(data)
	if err != nil {
		return nil, err
	}
	if err := d.Versioned(&f, "EncryptionConfiguration", "apiserver.config.k8s.io/v1"); err != nil {
		return nil, err
	}
	if len(f.Resources) == 0 {
		return nil, errors.New("resources: Required value: at least one list of resources with their providers")
	}
	sum := sha256.Sum256(data)
	r := &rules{data: data, hash: "sha256:" + hex.EncodeToString(sum[:])}
	plugins := map[string]*kms{}
	for i, part := range f.Resources {
		at := fmt.Sprintf("resources[%d]", i)
		var l line
		for j, text := range part.Resources {
			p, err := parsePattern(text)
			if err == nil {
				err = r.masked(p)
			}
			if err == nil && slices.Contains(l.patterns, p) {
				err = errors.New("is named twice")
			}
			if err != nil {
				return nil, fmt.Errorf("%s.resources[%d]: Invalid value: %q: %w", at, j, text, err)
			}
			l.patterns = append(l.patterns, p)
		}
		if len(l.patterns) == 0 {
			return nil, fmt.Errorf("%s.resources: Required value: name at least one resource", at)
		}
		if len(part.Providers) == 0 {
			return nil, fmt.Errorf("%s.providers: Required value: name at least one provider", at)
		}
		for j, p := range part.Providers {
			made, err := p.make(plugins)
			if err != nil {
				return nil, fmt.Errorf("%s.providers[%d]%w", at, j, err)
			}
			l.providers = append(l.providers, made...)
		}
		r.lines = append(r.lines, l)
	}
	for _, k := range plugins {
		r.kms = append(r.kms, k)
	}
	return r, nil
}

func parsePattern(text string) (pattern, error) {
	plural, group, _ := strings.Cut(text, ".")
	switch {
	case text == "" || plural == "":
		return pattern{}, errors.New("want PLURAL, PLURAL.GROUP, *.GROUP, *. or *.*")
	case text == "*":
		return pattern{}, errors.New("use *.* for everything, *. for the core group")
	case strings.Contains(plural, "/"):
		return pattern{}, errors.New("a subresource is not stored: name the resource")
	case plural != strings.ToLower(plural) || group != strings.ToLower(group):
		return pattern{}, errors.New("want lower case letters")
	case group == "*" && plural != "*", strings.Contains(group, "*") && group != "*", strings.Contains(plural, "*") && plural != "*":
		return pattern{}, errors.New("a wildcard stands for a whole group (*.GROUP) or for everything (*.*)")
	}
	return pattern{plural, group}, nil
}

// masked says no to what an earlier line has taken already: it would never be used.
func (r *rules) masked(p pattern) error {
	for _, l := range r.lines {
		for _, earlier := range l.patterns {
			if earlier.covers(p) {
				return errors.New("an earlier list covers it already")
			}
		}
	}
	return nil
}

// make makes a provider a key, since each seals with a mark of its own.
func (p fileProvider) make(plugins map[string]*kms) ([]provider, error) {
	given := 0
	for _, ok := range []bool{p.AESGCM != nil, p.AESCBC != nil, p.Secretbox != nil, p.Identity != nil, p.KMS != nil} {
		if ok {
			given++
		}
	}
	if given != 1 {
		return nil, errors.New(": want exactly one of aesgcm, aescbc, secretbox, kms and identity")
	}
	switch {
	case p.AESGCM != nil:
		return p.AESGCM.make("aesgcm", []int{16, 24, 32}, newGCM)
	case p.AESCBC != nil:
		return p.AESCBC.make("aescbc", []int{16, 24, 32}, newCBC)
	case p.Secretbox != nil:
		return p.Secretbox.make("secretbox", []int{32}, newSecretbox)
	case p.Identity != nil:
		return []provider{identity{}}, nil
	}
	return p.KMS.make(plugins)
}

func (k *fileKeys) make(name string, sizes []int, make func(key []byte) (cipher, error)) ([]provider, error) {
	if len(k.Keys) == 0 {
		return nil, fmt.Errorf(".%s.keys: Required value: at least one key", name)
	}
	var all []provider
	seen := map[string]bool{}
	for i, key := range k.Keys {
		at := fmt.Sprintf(".%s.keys[%d]", name, i)
		secret, err := base64.StdEncoding.DecodeString(key.Secret)
		switch {
		case key.Name == "":
			return nil, fmt.Errorf("%s.name: Required value", at)
		case strings.Contains(key.Name, ":"):
			return nil, fmt.Errorf("%s.name: Invalid value: %q: no colon, it parts the marks of stored values", at, key.Name)
		case seen[key.Name]:
			return nil, fmt.Errorf("%s.name: Invalid value: %q: two keys must not share a name", at, key.Name)
		case key.Secret == "":
			return nil, fmt.Errorf("%s.secret: Required value", at)
		case err != nil:
			return nil, fmt.Errorf("%s.secret: Invalid value: not base64", at)
		case !slices.Contains(sizes, len(secret)):
			return nil, fmt.Errorf("%s.secret: Invalid value: %d bytes, want one of %d", at, len(secret), sizes)
		}
		c, err := make(secret)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", at, err)
		}
		seen[key.Name] = true
		all = append(all, &keyed{mark: []byte(prefix + name + ":v1:" + key.Name + ":"), cipher: c})
	}
	return all, nil
}

func (k *fileKMS) make(plugins map[string]*kms) ([]provider, error) {
	socket, err := url.Parse(k.Endpoint)
	timeout := kmsTimeout
	if k.Timeout != nil {
		timeout = k.Timeout.Duration
	}
	switch {
	case k.APIVersion != "v2":
		return nil, fmt.Errorf(".kms.apiVersion: Unsupported value: %q: supported values: \"v2\"", k.APIVersion)
	case k.Name == "" || strings.Contains(k.Name, ":"):
		return nil, fmt.Errorf(".kms.name: Invalid value: %q: want a name without a colon", k.Name)
	case plugins[k.Name] != nil && plugins[k.Name].endpoint != k.Endpoint:
		return nil, fmt.Errorf(".kms.name: Invalid value: %q: two plugins must not share a name", k.Name)
	case k.CacheSize != nil:
		return nil, errors.New(".kms.cachesize: Forbidden: it is of v1, v2 has none")
	case err != nil || socket.Scheme != "unix" || socket.Path == "":
		return nil, fmt.Errorf(".kms.endpoint: Invalid value: %q: want unix:///PATH/OF/SOCKET", k.Endpoint)
	case timeout <= 0:
		return nil, fmt.Errorf(".kms.timeout: Invalid value: %q: want a positive duration", timeout)
	}
	if plugins[k.Name] == nil {
		plugins[k.Name] = newKMS(k.Name, k.Endpoint, timeout)
	}
	return []provider{plugins[k.Name]}, nil
}

// sealed says whether a stored value carries the mark of any provider.
func sealed(stored []byte) bool { return bytes.HasPrefix(stored, []byte(prefix)) }
