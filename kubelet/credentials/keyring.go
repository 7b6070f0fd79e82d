package credentials

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
)

// Credential is one login, and whose it is: a pull secret's, a service account's (a plugin made it of the account's token), or, with neither, the
// node's. An identity token is a password without a user.
type Credential struct {
	Username, Password string
	Secret, Account    types.UID
}

// OfNode says that every pod of the node may use it.
func (c Credential) OfNode() bool { return c.Secret == "" && c.Account == "" }

// Same says that two credentials open the same doors, whoever they are from.
func (c Credential) Same(other Credential) bool {
	return c.Username == other.Username && c.Password == other.Password
}

// Hash tells two credentials apart without holding them; salt keeps it from being compared with that of another use.
func (c Credential) Hash(salt string) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%q %q %q", salt, c.Username, c.Password))
	return fmt.Sprintf("%x", sum[:16])
}

// Format prints the origin alone, whatever the verb.
func (c Credential) Format(f fmt.State, _ rune) {
	switch {
	case c.Secret != "":
		_, _ = io.WriteString(f, "a credential of secret "+string(c.Secret)) // Format has no way to tell of an error
	case c.Account != "":
		_, _ = io.WriteString(f, "a credential of service account "+string(c.Account)) // as above
	default:
		_, _ = io.WriteString(f, "a credential of the node") // as above
	}
}

// Config says where the node's own credentials are.
type Config struct {
	// Files are docker configurations; the first that is there counts. One that is named .dockercfg has the old form.
	Files []string
	// PluginConfig is a CredentialProviderConfig of kubelet.config.k8s.io/v1, or a folder of such; PluginDir the folder of the plugins' programs.
	// Both or neither.
	PluginConfig, PluginDir string
}

// NodeFiles are the places where Kubernetes looks for the node's docker configuration, in order
// (https://kubernetes.io/docs/concepts/containers/images/#config-json): root is the kubelet's folder.
func NodeFiles(root string) []string {
	home, err := os.UserHomeDir()
	if err != nil {
		home = "/"
	}
	var files []string
	for _, dir := range []string{root, ".", filepath.Join(home, ".docker"), "/.docker"} {
		files = append(files, filepath.Join(dir, "config.json"))
	}
	for _, dir := range []string{root, ".", home, "/"} {
		files = append(files, filepath.Join(dir, oldName))
	}
	return files
}

const oldName = ".dockercfg"

// Tokens gets the tokens of pods' service accounts.
type Tokens interface {
	Token(ctx context.Context, pod *corev1.Pod, p *corev1.ServiceAccountTokenProjection) (token string, renew time.Time, err error)
}

// Keyring holds the node's credentials and finds those of pods. Safe for concurrent use.
type Keyring struct {
	cfg      Config // set once, as all in this group
	accounts corev1client.ServiceAccountsGetter
	tokens   Tokens
	log      *zap.Logger
	plugins  []*plugin
	took     *prometheus.HistogramVec
	failed   *prometheus.CounterVec

	mu   sync.Mutex
	node nodeFile // guarded by mu
}

// nodeFile is the docker configuration that was read last.
type nodeFile struct {
	path    string
	changed time.Time
	size    int64
	logins  []login
	err     error
}

// New stores what it is given. accounts and tokens are only used by plugins that ask for service account tokens.
func New(cfg Config, accounts corev1client.ServiceAccountsGetter, tokens Tokens, log *zap.Logger) *Keyring {
	return &Keyring{cfg: cfg, accounts: accounts, tokens: tokens, log: log.Named("credentials"),
		took: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "kubelet_credential_provider_plugin_duration",
			Help: "Duration of execution in seconds for credential provider plugin", Buckets: prometheus.DefBuckets}, []string{"plugin_name"}),
		failed: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "kubelet_credential_provider_plugin_errors",
			Help: "Number of errors from credential provider plugin"}, []string{"plugin_name"}),
	}
}

// Collectors are the numbers about plugins.
func (k *Keyring) Collectors() []prometheus.Collector {
	return []prometheus.Collector{k.took, k.failed}
}

// Open reads the configuration of the plugins. The error says what is wrong with it.
func (k *Keyring) Open() error {
	if k.cfg.PluginConfig == "" && k.cfg.PluginDir == "" {
		return nil
	}
	if k.cfg.PluginConfig == "" || k.cfg.PluginDir == "" {
		return errors.New("credential providers need both a configuration and a folder of programs")
	}
	providers, err := readProviders(k.cfg.PluginConfig)
	if err != nil {
		return fmt.Errorf("reading the configuration of credential providers: %w", err)
	}
	for _, p := range providers {
		made, err := newPlugin(p, k.cfg.PluginDir)
		if err != nil {
			return fmt.Errorf("credential provider %s: %w", p.Name, err)
		}
		k.plugins = append(k.plugins, made)
	}
	return nil
}

// Request is what credentials are asked for.
type Request struct {
	// Repository is the image's host and path, spelled out, without tag and digest.
	Repository string
	// Pod that wants the image; nil: the node itself.
	Pod *corev1.Pod
	// Secrets are the pod's pull secrets, of the types kubernetes.io/dockerconfigjson and kubernetes.io/dockercfg; others are ignored.
	Secrets []corev1.Secret
}

// Lookup finds what may open a repository, in the order in which to try: of the pod's secrets, of the node's file, of the plugins, each of these
// with the most precise first. Problems say which of them could not be asked; the others still count. They tell no secret.
func (k *Keyring) Lookup(ctx context.Context, r Request) (found []Credential, problems []error) {
	logins, problems := loginsOf(r.Secrets)
	found = matching(logins, r.Repository)
	logins, err := k.ofNode()
	if err != nil {
		problems = append(problems, err)
	}
	found = append(found, matching(logins, r.Repository)...)
	for _, p := range k.plugins {
		if !p.takes(r.Repository) {
			continue
		}
		logins, err := k.ask(ctx, p, r)
		if err != nil {
			k.failed.WithLabelValues(p.Name).Inc()
			problems = append(problems, fmt.Errorf("credential provider %s: %w", p.Name, err))
		}
		found = append(found, matching(logins, r.Repository)...)
	}
	return found, problems
}

// ofNode reads the node's docker configuration, again when it changed.
func (k *Keyring) ofNode() ([]login, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, path := range k.cfg.Files {
		st, err := os.Stat(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil && st.IsDir() {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("looking for the node's docker configuration: %w", err)
		}
		if n := k.node; n.path == path && n.changed.Equal(st.ModTime()) && n.size == st.Size() {
			return n.logins, n.err
		}
		n := nodeFile{path: path, changed: st.ModTime(), size: st.Size()}
		raw, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("reading the node's docker configuration: %w", err)
		}
		if n.logins, n.err = readConfig(raw, filepath.Base(path) != oldName, Credential{}); n.err != nil {
			n.err = fmt.Errorf("reading the node's docker configuration %s: %w", path, n.err)
		}
		k.node = n
		return n.logins, n.err
	}
	return nil, nil
}
