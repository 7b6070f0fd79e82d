package main

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"pilothouse.dev/apiserver/admission/plugins"
	"pilothouse.dev/apiserver/allocator"
	"pilothouse.dev/apiserver/audit"
	"pilothouse.dev/apiserver/authn"
	"pilothouse.dev/apiserver/authn/oidc"
	"pilothouse.dev/apiserver/authz/modes"
	"pilothouse.dev/apiserver/bootstrap"
	"pilothouse.dev/apiserver/flowcontrol"
	"pilothouse.dev/apiserver/nodeproxy"
	"pilothouse.dev/apiserver/server"
	"pilothouse.dev/apiserver/storage/encryption"
	"pilothouse.dev/apiserver/storage/etcd"
)

// Config is everything the API server can be told.
type Config struct {
	Etcd       etcd.Config
	EventTTL   time.Duration
	Encryption encryption.Config
	Serving    server.Config
	Kubelets   nodeproxy.Config
	Services   string // CIDR
	NodePorts  string // from-to
	Advertise  string
	Tokens     authn.TokenConfig
	Authn      authn.Config
	OIDC       oidc.Config
	Authz      modes.Config
	Admission  plugins.Choice
	Tolerate   time.Duration // how long a pod stays on a node in trouble when it does not say so itself
	// The same in seconds for either trouble; nil: as Tolerate says.
	NotReady, Unreachable *int64
	Flow                  flowcontrol.Config
	Audit                 audit.Config
}

func flags(c *Config) []cli.Flag {
	return slices.Concat(identityFlags(c), flowFlags(c), auditFlags(c), []cli.Flag{
		&cli.StringSliceFlag{Name: "etcd-servers", Value: cli.NewStringSlice("https://127.0.0.1:2379"), Usage: "where etcd listens",
			Action: func(_ *cli.Context, v []string) error { c.Etcd.Endpoints = v; return nil }},
		&cli.StringFlag{Name: "etcd-cafile", Usage: "who signs etcd's certificate", Destination: &c.Etcd.CAFile},
		&cli.StringFlag{Name: "etcd-certfile", Usage: "our client certificate for etcd", Destination: &c.Etcd.CertFile},
		&cli.StringFlag{Name: "etcd-keyfile", Usage: "its key", Destination: &c.Etcd.KeyFile},
		&cli.DurationFlag{Name: "event-ttl", Value: time.Hour, Usage: "how long an event is kept after its last change", Destination: &c.EventTTL},
		&cli.StringFlag{Name: "etcd-prefix", Value: "/registry", Usage: "of all keys in etcd", Destination: &c.Etcd.Prefix},
		&cli.DurationFlag{Name: "etcd-compaction-interval", Value: 5 * time.Minute, Usage: "how old history may get", Destination: &c.Etcd.Compaction},
		&cli.StringFlag{Name: "encryption-provider-config", Usage: "an EncryptionConfiguration: which kinds are unreadable in etcd, and with which keys", Destination: &c.Encryption.File},
		&cli.BoolFlag{Name: "encryption-provider-config-automatic-reload", Value: true, Usage: "read it again when it changes", Destination: &c.Encryption.Reload},
		&cli.StringFlag{Name: "bind-address", Value: "0.0.0.0", Usage: "address to listen on", Destination: &c.Serving.Address},
		&cli.IntFlag{Name: "secure-port", Value: 6443, Usage: "port to listen on", Destination: &c.Serving.Port},
		&cli.StringFlag{Name: "tls-cert-file", Usage: "serving certificate", Required: true, Destination: &c.Serving.CertFile},
		&cli.StringFlag{Name: "tls-private-key-file", Usage: "its key", Required: true, Destination: &c.Serving.KeyFile},
		&cli.StringFlag{Name: "client-ca-file", Usage: "who signs client certificates", Required: true, Destination: &c.Authn.ClientCAFile},
		&cli.DurationFlag{Name: "request-timeout", Value: time.Minute, Usage: "most time for a request that is no watch or stream", Destination: &c.Serving.RequestTimeout},
		&cli.DurationFlag{Name: "shutdown-grace-period", Value: 10 * time.Second, Usage: "time for running requests once told to stop", Destination: &c.Serving.DrainTimeout},
		&cli.StringFlag{Name: "advertise-address", Usage: "address at which pods reach this server", Destination: &c.Advertise},
		&cli.StringFlag{Name: "service-cluster-ip-range", Value: "10.96.0.0/16", Usage: "the `RANGE` of services' addresses, or two with a comma between: IPv4 and IPv6, of which the first is the usual", Destination: &c.Services},
		&cli.StringFlag{Name: "service-node-port-range", Value: "30000-32767", Usage: "node ports of services", Destination: &c.NodePorts},
		&cli.StringFlag{Name: "kubelet-client-certificate", Usage: "our client certificate for kubelets", Destination: &c.Kubelets.CertFile},
		&cli.StringFlag{Name: "kubelet-client-key", Usage: "its key", Destination: &c.Kubelets.KeyFile},
		&cli.StringFlag{Name: "kubelet-certificate-authority", Usage: "who signs kubelets' serving certificates", Destination: &c.Kubelets.CAFile},
		&cli.StringFlag{Name: "service-account-signing-key-file", Usage: "signs service account tokens", Destination: &c.Tokens.SigningKey},
		&cli.StringSliceFlag{Name: "service-account-key-file", Usage: "checks service account tokens (default: the signing key)",
			Action: func(_ *cli.Context, v []string) error { c.Tokens.Keys = v; return nil }},
		&cli.StringSliceFlag{Name: "service-account-issuer", Usage: "issuer of service account tokens; the first issues, all are accepted (default: " + defaultIssuer + ")",
			Action: func(_ *cli.Context, v []string) error { c.Tokens.Issuers = v; return nil }},
		&cli.StringFlag{Name: "service-account-jwks-uri", Usage: "where others find the keys that check tokens (default: this server)", Destination: &c.Tokens.KeysURL},
		&cli.StringSliceFlag{Name: "authorization-mode", Usage: "who says what is allowed, in this order: Node, RBAC, Webhook, AlwaysAllow, AlwaysDeny (default: Node,RBAC)",
			Action: func(_ *cli.Context, v []string) error { c.Authz.Modes = v; return nil }},
		&cli.StringFlag{Name: "authorization-config", Usage: "an AuthorizationConfiguration in place of --authorization-mode and the flags of its webhook; read again when it changes", Destination: &c.Authz.File},
		&cli.StringFlag{Name: "authorization-webhook-config-file", Usage: "a kubeconfig that names the service that mode Webhook asks", Destination: &c.Authz.WebhookFile},
		&cli.StringFlag{Name: "authorization-webhook-version", Value: "v1beta1", Usage: "version of the SubjectAccessReview that it gets: v1 or v1beta1", Destination: &c.Authz.Version},
		&cli.DurationFlag{Name: "authorization-webhook-cache-authorized-ttl", Value: 5 * time.Minute, Usage: "how long its answer is kept when it allows", Destination: &c.Authz.Authorized},
		&cli.DurationFlag{Name: "authorization-webhook-cache-unauthorized-ttl", Value: 30 * time.Second, Usage: "how long its answer is kept when it does not", Destination: &c.Authz.Unauthorized},
		&cli.StringSliceFlag{Name: "authorization-always-allow-paths", Usage: "paths that anybody may use; a trailing * stands for all below (default: /healthz,/readyz,/livez)",
			Action: func(_ *cli.Context, v []string) error { c.Authz.Paths = v; return nil }},
		&cli.StringSliceFlag{Name: "api-audiences", Usage: "whom tokens are for that name nobody, and what this server answers to (default: the issuer)",
			Action: func(_ *cli.Context, v []string) error { c.Tokens.Audiences = v; return nil }},
		&cli.StringSliceFlag{Name: "enable-admission-plugins", Usage: "admission plugins beside those that are on by default: " + strings.Join(plugins.Defaults(), ", "),
			Action: func(_ *cli.Context, v []string) error { c.Admission.Enable = v; return nil }},
		&cli.StringSliceFlag{Name: "disable-admission-plugins", Usage: "admission plugins that are not to run",
			Action: func(_ *cli.Context, v []string) error { c.Admission.Disable = v; return nil }},
		&cli.StringFlag{Name: "admission-control-config-file", Usage: "configuration of admission plugins", Destination: &c.Admission.File},
		&cli.DurationFlag{Name: "default-toleration", Value: 30 * time.Second, Usage: "how long a pod that does not say stays on a node that is not ready or unreachable", Destination: &c.Tolerate},
		&cli.Int64Flag{Name: "default-not-ready-toleration-seconds", Usage: "the same in seconds, on a node that is not ready",
			Action: func(_ *cli.Context, v int64) error { c.NotReady = &v; return nil }},
		&cli.Int64Flag{Name: "default-unreachable-toleration-seconds", Usage: "the same in seconds, on a node that is unreachable",
			Action: func(_ *cli.Context, v int64) error { c.Unreachable = &v; return nil }},
	})
}

// identityFlags are those that say how callers are told.
func identityFlags(c *Config) []cli.Flag {
	list := func(name string, to *[]string, usage string) cli.Flag {
		return &cli.StringSliceFlag{Name: name, Usage: usage, Action: func(_ *cli.Context, v []string) error { *to = v; return nil }}
	}
	return []cli.Flag{
		&cli.BoolFlag{Name: "anonymous-auth", Usage: "who gives no credential is system:anonymous everywhere, or nowhere (default: for health, version and the discovery of joining machines alone)",
			Action: func(_ *cli.Context, v bool) error { c.Authn.Anonymous = &v; return nil }},
		&cli.StringFlag{Name: "token-auth-file", Usage: "a CSV file of tokens", Destination: &c.Authn.TokenFile},
		&cli.BoolFlag{Name: "enable-bootstrap-token-auth", Usage: "secrets of the type bootstrap.kubernetes.io/token in kube-system are tokens for joining", Destination: &c.Authn.Bootstrap},
		&cli.StringFlag{Name: "authentication-token-webhook-config-file", Usage: "a kubeconfig of the service that knows tokens", Destination: &c.Authn.Webhook.File},
		&cli.DurationFlag{Name: "authentication-token-webhook-cache-ttl", Value: 2 * time.Minute, Usage: "how long its answers are believed", Destination: &c.Authn.Webhook.TTL},
		&cli.StringFlag{Name: "authentication-token-webhook-version", Value: "v1", Usage: "of the API group authentication.k8s.io that it speaks: v1 or v1beta1", Destination: &c.Authn.Webhook.Version},
		&cli.StringFlag{Name: "authentication-config", Usage: "a file of the kind AuthenticationConfiguration: trusted issuers of tokens, and what is anonymous", Destination: &c.OIDC.File},
		&cli.StringFlag{Name: "oidc-issuer-url", Usage: "the OpenID issuer whose tokens are accepted", Destination: &c.OIDC.Flags.IssuerURL},
		&cli.StringFlag{Name: "oidc-client-id", Usage: "whom its tokens must be for", Destination: &c.OIDC.Flags.ClientID},
		&cli.StringFlag{Name: "oidc-ca-file", Usage: "who signs its certificate (default: whom the system trusts)", Destination: &c.OIDC.Flags.CAFile},
		&cli.StringFlag{Name: "oidc-username-claim", Usage: "the claim that is the user (default: sub)", Destination: &c.OIDC.Flags.UsernameClaim},
		&cli.StringFlag{Name: "oidc-username-prefix", Usage: "before the user's name; - for none (default: the issuer and #, but for the claim email)", Destination: &c.OIDC.Flags.UsernamePrefix},
		&cli.StringFlag{Name: "oidc-groups-claim", Usage: "the claim that holds the user's groups", Destination: &c.OIDC.Flags.GroupsClaim},
		&cli.StringFlag{Name: "oidc-groups-prefix", Usage: "before each of them", Destination: &c.OIDC.Flags.GroupsPrefix},
		list("oidc-required-claim", &c.OIDC.Flags.Required, "a claim that must be there, and its value: key=value"),
		list("oidc-signing-algs", &c.OIDC.Flags.Methods, "ways of signing that are accepted (default: RS256)"),
		&cli.StringFlag{Name: "requestheader-client-ca-file", Usage: "who signs the client certificates of front proxies", Destination: &c.Authn.FrontProxy.CAFile},
		list("requestheader-allowed-names", &c.Authn.FrontProxy.Names, "CommonNames of front proxies (default: any)"),
		list("requestheader-username-headers", &c.Authn.FrontProxy.Users, "headers in which they tell the user"),
		list("requestheader-uid-headers", &c.Authn.FrontProxy.UIDs, "headers in which they tell his UID"),
		list("requestheader-group-headers", &c.Authn.FrontProxy.Groups, "headers in which they tell his groups"),
		list("requestheader-extra-headers-prefix", &c.Authn.FrontProxy.Extras, "prefixes of headers in which they tell more"),
		&cli.DurationFlag{Name: "service-account-max-token-expiration", Usage: "no token that is asked for lives longer (default: as long as the API allows)", Destination: &c.Tokens.LongestLife},
		&cli.BoolFlag{Name: "service-account-extend-token-expiration", Value: true, Usage: "tokens that kubelets mount live for a year and tell when they are stale", Destination: &c.Tokens.Extend},
		&cli.BoolFlag{Name: "service-account-lookup", Value: true, Usage: "a token kept in a secret counts only as long as the secret and its account are there",
			Action: func(_ *cli.Context, v bool) error { c.Tokens.Unchecked = !v; return nil }},
	}
}

// auditFlags are those that say what is recorded of requests, and where.
func auditFlags(c *Config) []cli.Flag {
	log, hook := &c.Audit.Log, &c.Audit.Webhook
	return slices.Concat([]cli.Flag{
		&cli.StringFlag{Name: "audit-policy-file", Usage: "what is recorded of requests (audit.k8s.io/v1 Policy); followed without a restart", Destination: &c.Audit.PolicyFile},
		&cli.StringFlag{Name: "audit-log-path", Usage: "log of audit events; - is standard output", Destination: &log.Path},
		&cli.IntFlag{Name: "audit-log-maxage", Usage: "days to keep old audit logs; 0: for ever", Destination: &log.MaxAge},
		&cli.IntFlag{Name: "audit-log-maxbackup", Usage: "old audit logs to keep; 0: all", Destination: &log.MaxBackup},
		&cli.IntFlag{Name: "audit-log-maxsize", Usage: "megabytes after which an audit log is old; 0: 100", Destination: &log.MaxSize},
		&cli.BoolFlag{Name: "audit-log-compress", Usage: "compress old audit logs", Destination: &log.Compress},
		&cli.StringFlag{Name: "audit-log-format", Value: audit.JSON, Usage: "json or legacy", Destination: &log.Format},
		&cli.StringFlag{Name: "audit-webhook-config-file", Usage: "kubeconfig of the service that audit events are sent to", Destination: &hook.File},
		&cli.DurationFlag{Name: "audit-webhook-initial-backoff", Value: 10 * time.Second, Usage: "time before a post is tried again", Destination: &hook.Backoff},
	}, sinkFlags("audit-log", &log.Buffering, audit.Buffering{Mode: audit.Blocking, Size: 10000, Max: 1}, &log.Truncation),
		sinkFlags("audit-webhook", &hook.Buffering, audit.Buffering{
			Mode: audit.Batch, Size: 10000, Max: 400, Wait: 30 * time.Second, Throttle: true, QPS: 10, Burst: 15,
		}, &hook.Truncation))
}

// sinkFlags are those that every sink of audit events has; is are the defaults.
func sinkFlags(sink string, b *audit.Buffering, is audit.Buffering, t *audit.Truncation) []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: sink + "-version", Value: audit.Version, Usage: "of the events", Destination: &b.Version},
		&cli.StringFlag{Name: sink + "-mode", Value: is.Mode, Usage: "how requests wait for their event: " + strings.Join(audit.Modes, ", "), Destination: &b.Mode},
		&cli.IntFlag{Name: sink + "-batch-buffer-size", Value: is.Size, Usage: "events that wait at most; further ones are dropped", Destination: &b.Size},
		&cli.IntFlag{Name: sink + "-batch-max-size", Value: is.Max, Usage: "events in a batch, in batch mode", Destination: &b.Max},
		&cli.DurationFlag{Name: sink + "-batch-max-wait", Value: is.Wait, Usage: "time to wait for a batch to be full, in batch mode", Destination: &b.Wait},
		&cli.BoolFlag{Name: sink + "-batch-throttle-enable", Value: is.Throttle, Usage: "bound how often a batch is written, in batch mode", Destination: &b.Throttle},
		&cli.Float64Flag{Name: sink + "-batch-throttle-qps", Value: is.QPS, Usage: "batches a second", Destination: &b.QPS},
		&cli.IntFlag{Name: sink + "-batch-throttle-burst", Value: is.Burst, Usage: "batches at once when none were for a while", Destination: &b.Burst},
		&cli.BoolFlag{Name: sink + "-truncate-enabled", Usage: "leave out the objects of large events", Destination: &t.Enabled},
		&cli.IntFlag{Name: sink + "-truncate-max-event-size", Value: 100 << 10, Usage: "bytes of an event before it is truncated", Destination: &t.MaxEvent},
		&cli.IntFlag{Name: sink + "-truncate-max-batch-size", Value: 10 << 20, Usage: "bytes of a batch", Destination: &t.MaxBatch},
	}
}

func flowFlags(c *Config) []cli.Flag {
	return []cli.Flag{
		&cli.BoolFlag{Name: "enable-priority-and-fairness", Value: true, Usage: "requests have seats by priority level and flow; if not, they are bounded by the next two flags alone", Destination: &c.Flow.Fair},
		&cli.IntFlag{Name: "max-requests-inflight", Value: 400, Usage: "reading requests that run at a time; 0: no bound. With priority and fairness, the sum of this and the next is all levels' seats", Destination: &c.Flow.Reading},
		&cli.IntFlag{Name: "max-mutating-requests-inflight", Value: 200, Usage: "changing requests that run at a time; 0: no bound", Destination: &c.Flow.Changing},
		&cli.IntFlag{Name: "http2-max-streams-per-connection", Value: 1000, Usage: "requests of one HTTP/2 connection at a time; 0: Go's default", Destination: &c.Serving.Streams},
		&cli.IntFlag{Name: "max-connections", Usage: "connections at a time; further ones are closed at once (default: three quarters of the files that may be open)", Destination: &c.Serving.Connections},
		&cli.Float64Flag{Name: "goaway-chance", Usage: "how likely a request makes its HTTP/2 client open a new connection, so that clients spread over servers: 0 to 0.02", Destination: &c.Serving.Goaway},
	}
}

const defaultIssuer = "https://kubernetes.default.svc.cluster.local"

// tolerate is how many seconds a pod stays on a node in some trouble.
func (c Config) tolerate(own *int64) int64 {
	if own != nil {
		return *own
	}
	return int64(c.Tolerate.Seconds())
}

// tokens says how tokens are issued and checked.
func (c Config) tokens() authn.TokenConfig {
	t := c.Tokens
	if len(t.Issuers) == 0 {
		t.Issuers = []string{defaultIssuer}
	}
	if t.KeysURL == "" {
		if host := c.Advertise; host != "" {
			t.KeysURL = "https://" + net.JoinHostPort(host, strconv.Itoa(c.Serving.Port)) + authn.KeysPath
		} else {
			t.KeysURL = strings.TrimSuffix(t.Issuers[0], "/") + authn.KeysPath
		}
	}
	return t
}

// tokenCacheTTL is how long what a token proved is believed.
const tokenCacheTTL = 10 * time.Second

// authn says how callers are told.
func (c Config) authn() authn.Config {
	a := c.Authn
	a.CacheTTL = tokenCacheTTL
	if a.Audiences = c.Tokens.Audiences; len(a.Audiences) == 0 {
		a.Audiences = c.tokens().Issuers[:1]
	}
	return a
}

// oidc says which OpenID issuers are trusted.
func (c Config) oidc() oidc.Config {
	o := c.OIDC
	o.Disallowed, o.AnonymousSet = c.tokens().Issuers, c.Authn.Anonymous != nil
	return o
}

// addresses says what there is to give to services.
func (c Config) addresses() (allocator.Config, error) {
	ranges, err := c.serviceRanges()
	if err != nil {
		return allocator.Config{}, err
	}
	a := allocator.Config{CIDRs: ranges}
	if _, err := fmt.Sscanf(c.NodePorts, "%d-%d", &a.Ports.First, &a.Ports.Last); err != nil {
		return a, fmt.Errorf("--service-node-port-range %q: want two ports such as 30000-32767: %w", c.NodePorts, err)
	}
	return a, nil
}

// serviceRanges are one range, or one of each family.
func (c Config) serviceRanges() ([]netip.Prefix, error) {
	var all []netip.Prefix
	for text := range strings.SplitSeq(c.Services, ",") {
		p, err := netip.ParsePrefix(strings.TrimSpace(text))
		if err != nil {
			return nil, fmt.Errorf("--service-cluster-ip-range %q: want a CIDR such as 10.96.0.0/16: %w", c.Services, err)
		}
		all = append(all, p.Masked())
	}
	if len(all) > 2 || len(all) == 2 && all[0].Addr().Is4() == all[1].Addr().Is4() {
		return nil, fmt.Errorf("--service-cluster-ip-range %q: want one range, or one IPv4 and one IPv6", c.Services)
	}
	return all, nil
}

// bootstrap says what this server is called inside the cluster.
func (c Config) bootstrap() (bootstrap.Config, error) {
	ranges, err := c.serviceRanges()
	if err != nil {
		return bootstrap.Config{}, err
	}
	b := bootstrap.Config{ServiceIP: net.IP(ranges[0].Addr().Next().AsSlice()), Port: c.Serving.Port}
	for _, r := range ranges {
		b.ServiceCIDRs = append(b.ServiceCIDRs, r.String())
	}
	if c.Advertise != "" {
		if b.Advertise = net.ParseIP(c.Advertise); b.Advertise == nil {
			return b, fmt.Errorf("--advertise-address %q: want an IP address", c.Advertise)
		}
		if four := b.Advertise.To4() != nil; four != ranges[0].Addr().Is4() { // both stand behind one service, which has one family
			return b, fmt.Errorf("service IP family %q must match public address family %q", ranges[0], c.Advertise)
		}
	}
	return b, nil
}
