package authn

import "pilothouse.dev/apiserver/request"

// Nobody says what may be asked for without any proof. What he may then do is still authorization's affair.
type Nobody struct {
	Allowed bool
	Paths   map[string]bool // exact; empty: every path
}

// DefaultPaths are what may be asked for anonymously when nothing else is said: health, version, and what a machine must know before
// it can join (https://kubernetes.io/docs/reference/access-authn-authz/authentication/#anonymous-authenticator-configuration).
var DefaultPaths = []string{"/healthz", "/livez", "/readyz", "/version", "/version/", "/api/v1/namespaces/kube-public/configmaps/cluster-info"}

var defaultNobody = NewNobody(true, DefaultPaths)

// NewNobody makes one of a list of paths.
func NewNobody(allowed bool, paths []string) *Nobody {
	n := &Nobody{Allowed: allowed}
	for _, p := range paths {
		if n.Paths == nil {
			n.Paths = map[string]bool{}
		}
		n.Paths[p] = true
	}
	return n
}

func (n *Nobody) may(path string) bool { return n.Allowed && (len(n.Paths) == 0 || n.Paths[path]) }

var anonymous = &request.User{Name: Anonymous, Groups: []string{Unauthenticated}}
