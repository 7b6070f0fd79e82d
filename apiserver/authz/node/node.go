// Package node says what a kubelet may do (https://kubernetes.io/docs/reference/access-authn-authz/node/): read what the pods bound to
// its node refer to, and nothing else of the kind; follow the volumes that are folders of its node; read and write its own node, lease
// and CSINode; and the few things that every kubelet needs. Who is a kubelet: a user system:node:NAME in the group system:nodes. What an object that a kubelet writes may look
// like (its own node, pods of its own) is left to the admission plugin NodeRestriction.
//
// What objects have to do with a node is kept in a graph (graph.go), which follows the changes of pods, persistent volumes, volume
// attachments and resource slices. What always holds: an object that the graph does not know is refused; before an answer the graph is
// brought up to what the watch cache has, so a kubelet that was told of a pod by this server is never too early, and what a deleted
// pod referred to is out of reach at once.
package node

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"

	"pilothouse.dev/apiserver/authz"
	"pilothouse.dev/apiserver/authz/rules"
	"pilothouse.dev/apiserver/request"
	"pilothouse.dev/pkg/localvolume"
)

const (
	group  = "system:nodes"
	prefix = "system:node:"
)

// Authorizer is a source of rules. Safe for concurrent use; Run keeps it up to date while nobody asks.
type Authorizer struct {
	graph  *graph
	common *rules.Set
	log    *zap.Logger
}

var _ authz.Source = (*Authorizer)(nil)

// New makes an authorizer; nothing is read yet.
func New(f Feeds, log *zap.Logger) *Authorizer {
	return &Authorizer{newGraph(f), rules.Compile(common), log.Named("node authorizer")}
}

// nodeOf is which node u is the kubelet of; ok says that he is one, of whatever node.
func nodeOf(u *request.User) (name string, ok bool) {
	name, ok = strings.CutPrefix(u.Name, prefix)
	return name, ok && u.InGroup(group)
}

// Rules cannot be told as a list.
func (*Authorizer) Rules(_ context.Context, u *request.User, _ string) (authz.Rules, error) {
	if _, ok := nodeOf(u); ok {
		return authz.Rules{Incomplete: true}, errors.New("node authorizer does not support user rule resolution")
	}
	return authz.Rules{}, nil
}

// Decide allows what a kubelet may do.
func (a *Authorizer) Decide(ctx context.Context, u *request.User, i *request.Info) (authz.Decision, string, error) {
	node, ok := nodeOf(u)
	if !ok {
		return authz.NoOpinion, "", nil
	}
	if node == "" {
		return authz.NoOpinion, fmt.Sprintf("unknown node for user %q", u.Name), nil
	}
	c := call{a, i, node}
	if i.IsResource {
		if decide, ok := kinds[plural{i.Group, i.Resource}]; ok {
			why, err := decide(c, ctx)
			if why == yes && err == nil {
				return authz.Allowed, "", nil
			}
			return authz.NoOpinion, why, err
		}
	}
	if q := rules.Ask(i); a.common.Allow(&q) {
		return authz.Allowed, "", nil
	}
	return authz.NoOpinion, "", nil
}

// yes is the reason of what is allowed.
const yes = "yes"

type call struct {
	a *Authorizer
	*request.Info
	node string
}

func (c call) verb(of ...string) bool {
	for _, v := range of {
		if c.Verb == v {
			return true
		}
	}
	return false
}

type plural struct{ group, resource string }

// kinds are those of which a kubelet may not do the same to all objects; each says why not, or yes.
var kinds = map[plural]func(c call, ctx context.Context) (string, error){
	{"", "secrets"}:                         func(c call, ctx context.Context) (string, error) { return c.readOne(ctx, secret) },
	{"", "configmaps"}:                      func(c call, ctx context.Context) (string, error) { return c.readOne(ctx, configMap) },
	{"", "persistentvolumeclaims"}:          call.claim,
	{"", "persistentvolumes"}:               call.volume,
	{"", "serviceaccounts"}:                 call.account,
	{"", "nodes"}:                           call.nodes,
	{"", "pods"}:                            call.pods,
	{"resource.k8s.io", "resourceclaims"}:   func(c call, ctx context.Context) (string, error) { return c.get(ctx, resourceClaim) },
	{"resource.k8s.io", "resourceslices"}:   call.slice,
	{"storage.k8s.io", "volumeattachments"}: func(c call, ctx context.Context) (string, error) { return c.get(ctx, attachment) },
	{"storage.k8s.io", "csinodes"}:          call.csiNode,
	{"coordination.k8s.io", "leases"}:       call.lease,

	{"certificates.k8s.io", "podcertificaterequests"}: call.podCertificate,
}

// related allows what is about an object that has to do with the node.
func (c call) related(ctx context.Context, k kind) (string, error) {
	if c.Name == "" {
		return "No Object name found", nil
	}
	ok, err := c.a.graph.related(ctx, c.node, ref{k, c.Namespace, c.Name})
	switch {
	case ok:
		return yes, nil
	case errors.Is(err, errNotSynced):
		return fmt.Sprintf("node authorizer has not read the pods yet: whether node '%s' has to do with this object is not known", c.node), nil
	}
	return fmt.Sprintf("no relationship found between node '%s' and this object", c.node), err
}

// readOne allows to get, list or watch a single object by its name.
func (c call) readOne(ctx context.Context, k kind) (string, error) {
	switch {
	case !c.verb("get", "list", "watch"):
		return "can only read resources of this type", nil
	case c.Subresource != "":
		return "cannot read subresource", nil
	case c.Namespace == "":
		return "can only read namespaced object of this type", nil
	}
	return c.related(ctx, k)
}

func (c call) get(ctx context.Context, k kind) (string, error) {
	switch {
	case c.Verb != "get":
		return "can only get individual resources of this type", nil
	case c.Subresource != "":
		return "cannot get subresource", nil
	}
	return c.related(ctx, k)
}

func (c call) claim(ctx context.Context) (string, error) {
	if c.Subresource != "status" {
		return c.get(ctx, claim)
	}
	if !c.verb("update", "patch") {
		return "can only get/update/patch this type", nil
	}
	return c.related(ctx, claim)
}

// volume allows to get the volumes of the node's pods; to follow the volumes that are folders of the node, which a label says, and to
// patch those: NodeRestriction limits that to letting them go.
func (c call) volume(ctx context.Context) (string, error) {
	switch {
	case c.Subresource != "" || !c.verb("list", "watch", "patch"):
		return c.get(ctx, volume)
	case c.Verb == "patch":
		return c.related(ctx, localVolume)
	case !c.Selects.Label(localvolume.NodeLabel, c.node):
		return fmt.Sprintf("can only list/watch persistentvolumes with label selector %s=%s", localvolume.NodeLabel, c.node), nil
	}
	return yes, nil
}

// account allows to get the service accounts of the node's pods, and to ask for their tokens.
func (c call) account(ctx context.Context) (string, error) {
	if c.Verb == "get" && c.Subresource == "" {
		return c.related(ctx, account)
	}
	switch {
	case c.Verb != "create" || c.Name == "":
		return "can only create tokens for individual service accounts", nil
	case c.Subresource != "token":
		return "can only create token subresource of serviceaccount", nil
	}
	return c.related(ctx, account)
}

// nodes allows to make and change nodes, which NodeRestriction limits to the own one, and to read the own one.
func (c call) nodes(context.Context) (string, error) {
	switch {
	case c.Subresource == "status" && c.verb("update", "patch"):
		return yes, nil
	case c.Subresource != "":
		return "", nil
	case c.verb("create", "update", "patch"):
		return yes, nil
	case !c.verb("get", "list", "watch"):
		return "", nil
	}
	switch c.Name {
	case c.node:
		return yes, nil
	case "":
		return fmt.Sprintf("node '%s' cannot read all nodes, only its own Node object", c.node), nil
	}
	return fmt.Sprintf("node '%s' cannot read '%s', only its own Node object", c.node, c.Name), nil
}

// pods allows to read the node's pods; to make and delete mirror pods, to write status and to evict, which NodeRestriction limits to
// the node's own.
func (c call) pods(ctx context.Context) (string, error) {
	switch c.Subresource {
	case "":
	case "status":
		if c.verb("update", "patch") {
			return yes, nil
		}
		return "", nil
	case "eviction":
		if c.Verb == "create" {
			return yes, nil
		}
		return "", nil
	default:
		return "", nil
	}
	switch {
	case c.verb("create", "delete"):
		return yes, nil
	case c.Verb == "get":
		return c.related(ctx, pod)
	case !c.verb("list", "watch"):
		return "", nil
	case c.Selects.Field("spec.nodeName", c.node):
		return yes, nil
	case c.Name != "":
		return c.related(ctx, pod)
	}
	return "can only list/watch pods with spec.nodeName field selector", nil
}

// lease allows the node's own lease; the name of one that is made is NodeRestriction's.
func (c call) lease(context.Context) (string, error) {
	switch {
	case !c.verb("get", "create", "update", "patch", "delete"):
		return "can only get, create, update, patch, or delete a node lease", nil
	case c.Namespace != corev1.NamespaceNodeLease:
		return fmt.Sprintf("can only access leases in the %q system namespace", corev1.NamespaceNodeLease), nil
	case c.Verb != "create" && c.Name != c.node:
		return "can only access node lease with the same name as the requesting node", nil
	}
	return yes, nil
}

// podCertificate allows to ask for certificates of pods, which NodeRestriction limits to the node's own, and to follow those requests.
func (c call) podCertificate(context.Context) (string, error) {
	switch {
	case c.Subresource != "":
		return "cannot authorize PodCertificateRequest subresources", nil
	case c.Verb == "create":
		return yes, nil
	case !c.verb("list", "watch"):
		return "can only create, list or watch a PodCertificateRequest", nil
	case c.Selects.Field("spec.nodeName", c.node):
		return yes, nil
	}
	return "can only list/watch podcertificaterequests with spec.nodeName field selector", nil
}

func (c call) csiNode(context.Context) (string, error) {
	switch {
	case !c.verb("get", "create", "update", "patch", "delete"):
		return "can only get, create, update, patch, or delete a CSINode", nil
	case c.Subresource != "":
		return "cannot authorize CSINode subresources", nil
	case c.Verb != "create" && c.Name != c.node:
		return "can only access CSINode with the same name as the requesting node", nil
	}
	return yes, nil
}

// slice allows the slices of the node; those that are made are NodeRestriction's.
func (c call) slice(ctx context.Context) (string, error) {
	switch {
	case c.Subresource != "":
		return "cannot authorize ResourceSlice subresources", nil
	case c.Verb == "create":
		return yes, nil
	case c.verb("get", "update", "patch", "delete"):
		return c.related(ctx, slice)
	case !c.verb("list", "watch", "deletecollection"):
		return "only the following verbs are allowed for a ResourceSlice: get, watch, list, create, update, patch, delete, deletecollection", nil
	case c.Selects.Field("nodeName", c.node):
		return yes, nil
	}
	return "can only list/watch/deletecollection resourceslices with nodeName field selector", nil
}
