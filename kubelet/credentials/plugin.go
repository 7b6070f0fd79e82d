package credentials

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	configv1 "k8s.io/kubelet/config/v1"
	providerv1 "k8s.io/kubelet/pkg/apis/credentialprovider/v1"
)

// How long a plugin may take, and how much it may say.
const (
	pluginTime = time.Minute
	pluginSize = 1 << 20
)

// plugin is one credential provider: a program that says on its standard output what opens the image that it reads of on its standard input.
type plugin struct {
	configv1.CredentialProvider // set once, as all in this group
	program                     string
	patterns                    []pattern
	flight                      singleflight.Group

	mu   sync.Mutex
	kept map[string]answer // by what it is for; guarded by mu
}

// answer is what a plugin said, until it is to be asked again.
type answer struct {
	logins []login
	until  time.Time
}

func newPlugin(p configv1.CredentialProvider, dir string) (*plugin, error) {
	made := &plugin{CredentialProvider: p, program: filepath.Join(dir, p.Name), kept: map[string]answer{}}
	st, err := os.Stat(made.program)
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() || st.Mode()&0o111 == 0 {
		return nil, &fs.PathError{Op: "run", Path: made.program, Err: fs.ErrPermission}
	}
	for _, where := range p.MatchImages {
		m, err := parsePattern(where)
		if err != nil {
			return nil, err
		}
		made.patterns = append(made.patterns, m)
	}
	return made, nil
}

func (p *plugin) takes(repository string) bool {
	return slices.ContainsFunc(p.patterns, func(m pattern) bool { return m.matches(repository) })
}

// account is the service account that a plugin is told of; zero: none.
type account struct {
	uid         types.UID
	token       string
	annotations map[string]string
	key         string // keeps what is said for one account apart from what is said for another
}

// ask says what a plugin has for an image: what it said lately, or what it says now.
func (k *Keyring) ask(ctx context.Context, p *plugin, r Request) ([]login, error) {
	who, skip, err := k.account(ctx, p, r.Pod)
	if skip || err != nil {
		return nil, err
	}
	host, _, _ := strings.Cut(r.Repository, "/")
	keys := map[providerv1.PluginCacheKeyType]string{
		providerv1.ImagePluginCacheKeyType: "image " + r.Repository + " " + who.key, providerv1.RegistryPluginCacheKeyType: "registry " + host + " " + who.key,
		providerv1.GlobalPluginCacheKeyType: "global " + who.key,
	}
	if logins, ok := p.remembered(keys); ok {
		return logins, nil
	}
	result := p.flight.DoChan(keys[providerv1.ImagePluginCacheKeyType], func() (any, error) {
		work, cancel := context.WithTimeout(context.WithoutCancel(ctx), pluginTime)
		defer cancel()
		begun := time.Now()
		said, err := p.run(work, r.Repository, who)
		k.took.WithLabelValues(p.Name).Observe(time.Since(begun).Seconds())
		if err != nil {
			return nil, err
		}
		return p.take(said, keys, who)
	})
	select {
	case res := <-result:
		if res.Err != nil {
			return nil, res.Err
		}
		return res.Val.([]login), nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// account gets what the plugin wants to know of the pod's service account. skip: the plugin is not for this pod.
func (k *Keyring) account(ctx context.Context, p *plugin, pod *corev1.Pod) (who account, skip bool, err error) {
	want := p.TokenAttributes
	if want == nil {
		return account{}, false, nil
	}
	if pod == nil || pod.Spec.ServiceAccountName == "" || pod.Annotations[corev1.MirrorPodAnnotationKey] != "" {
		return account{}, *want.RequireServiceAccount, nil
	}
	sa, err := k.accounts.ServiceAccounts(pod.Namespace).Get(ctx, pod.Spec.ServiceAccountName, metav1.GetOptions{})
	if err != nil {
		return account{}, false, fmt.Errorf("getting service account %s/%s: %w", pod.Namespace, pod.Spec.ServiceAccountName, err)
	}
	who = account{uid: sa.UID, annotations: map[string]string{}}
	for _, key := range want.RequiredServiceAccountAnnotationKeys {
		v, ok := sa.Annotations[key]
		if !ok {
			return account{}, false, fmt.Errorf("service account %s/%s: required annotation %s not found", sa.Namespace, sa.Name, key)
		}
		who.annotations[key] = v
	}
	for _, key := range want.OptionalServiceAccountAnnotationKeys {
		if v, ok := sa.Annotations[key]; ok {
			who.annotations[key] = v
		}
	}
	who.token, _, err = k.tokens.Token(ctx, pod, &corev1.ServiceAccountTokenProjection{Audience: want.ServiceAccountTokenAudience})
	if err != nil {
		return account{}, false, fmt.Errorf("getting a token of service account %s/%s: %w", sa.Namespace, sa.Name, err)
	}
	key := fmt.Appendf(nil, "%q %q %q", sa.Namespace, sa.Name, sa.UID)
	for _, name := range slices.Sorted(maps.Keys(who.annotations)) {
		key = fmt.Appendf(key, " %q %q", name, who.annotations[name])
	}
	if want.CacheType == configv1.TokenServiceAccountTokenCacheType {
		key = fmt.Appendf(key, " %q", who.token)
	}
	who.key = fmt.Sprintf("%x", sha256.Sum256(key))
	return who, false, nil
}

// remembered is what the plugin said lately that is for this image.
func (p *plugin) remembered(keys map[providerv1.PluginCacheKeyType]string) ([]login, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, kind := range []providerv1.PluginCacheKeyType{providerv1.ImagePluginCacheKeyType, providerv1.RegistryPluginCacheKeyType, providerv1.GlobalPluginCacheKeyType} {
		if a, ok := p.kept[keys[kind]]; ok && time.Now().Before(a.until) {
			return a.logins, true
		}
	}
	return nil, false
}

// run executes the plugin. What it prints may be secret, so errors tell nothing of it.
func (p *plugin) run(ctx context.Context, repository string, who account) (providerv1.CredentialProviderResponse, error) {
	var said providerv1.CredentialProviderResponse
	request, err := json.Marshal(providerv1.CredentialProviderRequest{
		TypeMeta: metav1.TypeMeta{APIVersion: p.APIVersion, Kind: "CredentialProviderRequest"},
		Image:    repository, ServiceAccountToken: who.token, ServiceAccountAnnotations: who.annotations,
	})
	if err != nil {
		return said, fmt.Errorf("writing the request: %w", err)
	}
	cmd := exec.CommandContext(ctx, p.program, p.Args...)
	cmd.WaitDelay = time.Second // a child of its own may hold the pipe
	cmd.Env = os.Environ()
	for _, e := range p.Env {
		cmd.Env = append(cmd.Env, e.Name+"="+e.Value)
	}
	out := &bounded{most: pluginSize}
	cmd.Stdin, cmd.Stdout = bytes.NewReader(request), out
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return said, fmt.Errorf("it has not answered within %s", pluginTime)
		}
		return said, fmt.Errorf("running it: %w", err)
	}
	if json.Unmarshal(out.text.Bytes(), &said) != nil {
		return said, errors.New("its answer is not a CredentialProviderResponse in JSON")
	}
	if said.APIVersion != p.APIVersion || said.Kind != "CredentialProviderResponse" {
		return said, fmt.Errorf("its answer is a %.60q of %.60q, want a CredentialProviderResponse of %s", said.Kind, said.APIVersion, p.APIVersion)
	}
	return said, nil
}

// take makes logins of an answer, and remembers them as long as it says.
func (p *plugin) take(said providerv1.CredentialProviderResponse, keys map[providerv1.PluginCacheKeyType]string, who account) ([]login, error) {
	key, ok := keys[said.CacheKeyType]
	if !ok {
		return nil, fmt.Errorf("its answer has the cacheKeyType %.60q, want Image, Registry or Global", said.CacheKeyType)
	}
	logins := []login{}
	for _, where := range slices.Sorted(maps.Keys(said.Auth)) {
		m, err := parsePattern(where)
		if err != nil {
			return nil, fmt.Errorf("its answer: %w", err)
		}
		a := said.Auth[where]
		logins = append(logins, login{m, Credential{Username: a.Username, Password: a.Password, Account: who.uid}})
	}
	life := p.DefaultCacheDuration.Duration
	if said.CacheDuration != nil {
		life = said.CacheDuration.Duration
	}
	if life <= 0 {
		return logins, nil
	}
	now := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	maps.DeleteFunc(p.kept, func(_ string, a answer) bool { return !now.Before(a.until) })
	p.kept[key] = answer{logins, now.Add(life)}
	return logins, nil
}

// bounded keeps what is written to it, up to a limit.
type bounded struct {
	text bytes.Buffer
	most int
}

func (b *bounded) Write(p []byte) (int, error) {
	if b.text.Len()+len(p) > b.most {
		return 0, errors.New("it says too much")
	}
	return b.text.Write(p)
}
