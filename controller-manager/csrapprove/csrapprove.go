// Package csrapprove approves requests for certificates of kubelets, so that a node joins by a bootstrap token and renews by
// itself (https://kubernetes.io/docs/reference/access-authn-authz/kubelet-tls-bootstrapping/). It approves and never denies: what
// it does not understand waits for a person.
//
// A client certificate is approved when the API server says, by a SubjectAccessReview, that the requester may create
// certificatesigningrequests/nodeclient or, for his own name, /selfnodeclient. A serving certificate is approved when the
// requester is the node that it names and it names nothing but that node: see serving.go.
package csrapprove

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	certificateslisters "k8s.io/client-go/listers/certificates/v1"
	corelisters "k8s.io/client-go/listers/core/v1"
	discoverylisters "k8s.io/client-go/listers/discovery/v1"

	"pilothouse.dev/controller-manager/loop"
	"pilothouse.dev/pkg/pki"
)

const approvedReason = "AutoApproved"

// Config says what is approved.
type Config struct {
	// Serving says whether serving certificates of kubelets are.
	Serving bool
	// Reserved are the addresses that no node has: those of services.
	Reserved []netip.Prefix
}

type controller struct {
	t        loop.Tools
	cfg      Config
	requests certificateslisters.CertificateSigningRequestLister
	nodes    corelisters.NodeLister
	slices   discoverylisters.EndpointSliceLister
}

// New returns the constructor for what is approved.
func New(cfg Config) func(loop.Tools) loop.Controller {
	return func(t loop.Tools) loop.Controller {
		c := &controller{
			t: t, cfg: cfg,
			requests: t.Informers.Certificates().V1().CertificateSigningRequests().Lister(),
		}
		out := loop.Controller{
			Watches:   []loop.Watch{{Resource: "certificatesigningrequests.certificates.k8s.io", Wakes: loop.Self}},
			Reconcile: c.reconcile,
		}
		if cfg.Serving {
			c.nodes = t.Informers.Core().V1().Nodes().Lister()
			c.slices = t.Informers.Discovery().V1().EndpointSlices().Lister()
			out.Watches = append(out.Watches, loop.Watch{Resource: "nodes", Wakes: loop.Func("its requests, when its addresses change", c.ofNode)})
			out.Reads = []string{"endpointslices.discovery.k8s.io"}
		}
		return out
	}
}

// ofNode are the requests that wait for a node to have its addresses.
func (c *controller) ofNode(e loop.Event) []loop.Key {
	now, ok := e.New.(*corev1.Node)
	if !ok {
		return nil
	}
	if was, ok := e.Old.(*corev1.Node); ok && slices.Equal(was.Status.Addresses, now.Status.Addresses) {
		return nil
	}
	all, err := c.requests.List(labels.Everything())
	if err != nil {
		return nil // a cache's list cannot fail
	}
	var keys []loop.Key
	for _, r := range all {
		if r.Spec.Username == pki.NodeUserPrefix+now.Name && r.Spec.SignerName == certificatesv1.KubeletServingSignerName && undecided(r) {
			keys = append(keys, loop.KeyOf(r))
		}
	}
	return keys
}

// undecided says whether nobody has approved, denied or answered a request.
func undecided(r *certificatesv1.CertificateSigningRequest) bool {
	return len(r.Status.Certificate) == 0 && !slices.ContainsFunc(r.Status.Conditions, func(c certificatesv1.CertificateSigningRequestCondition) bool {
		return c.Type == certificatesv1.CertificateApproved || c.Type == certificatesv1.CertificateDenied || c.Type == certificatesv1.CertificateFailed
	})
}

// Who was not allowed may be later, when a person has written the role that was missed: asked again after as long as it has
// waited, within bounds.
const (
	soonest = 5 * time.Second
	latest  = 5 * time.Minute
)

func (c *controller) reconcile(ctx context.Context, key loop.Key) (time.Duration, error) {
	r, err := c.requests.Get(key.Name)
	if apierrors.IsNotFound(err) {
		return 0, nil
	}
	if err != nil || !undecided(r) {
		return 0, err
	}
	var why string
	switch r.Spec.SignerName {
	case certificatesv1.KubeAPIServerClientKubeletSignerName:
		why, err = c.client(ctx, r)
	case certificatesv1.KubeletServingSignerName:
		if !c.cfg.Serving {
			return 0, nil
		}
		why, err = c.serving(r)
	default:
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	if why == "" {
		return min(max(time.Since(r.CreationTimestamp.Time), soonest), latest), nil
	}
	want := r.DeepCopy()
	want.Status.Conditions = append(want.Status.Conditions, certificatesv1.CertificateSigningRequestCondition{
		Type: certificatesv1.CertificateApproved, Status: corev1.ConditionTrue, Reason: approvedReason, Message: why,
	})
	if _, err := c.t.Clients.Kube.CertificatesV1().CertificateSigningRequests().UpdateApproval(ctx, r.Name, want, metav1.UpdateOptions{}); err != nil {
		return 0, fmt.Errorf("approving %s: %w", r.Name, err)
	}
	return 0, nil
}

// client says why a kubelet's client certificate is approved; empty: it is not, or not yet.
func (c *controller) client(ctx context.Context, r *certificatesv1.CertificateSigningRequest) (why string, err error) {
	csr, err := pki.ParseRequest(r.Spec.Request)
	if err != nil || pki.CheckKubeletClient(csr, r.Spec.Usages) != nil {
		return "", nil
	}
	self := csr.Subject.CommonName == r.Spec.Username
	if self {
		ok, err := c.allowed(ctx, r, "selfnodeclient")
		if err != nil {
			return "", err
		}
		if ok {
			return "Auto approving self kubelet client certificate after SubjectAccessReview.", nil
		}
	} else if strings.HasPrefix(r.Spec.Username, pki.NodeUserPrefix) {
		return "", nil // a node that asks to be another, whatever roles say
	}
	ok, err := c.allowed(ctx, r, "nodeclient")
	if err != nil || !ok {
		return "", err
	}
	return "Auto approving kubelet client certificate after SubjectAccessReview.", nil
}

// allowed asks whether the requester may create certificatesigningrequests/part.
func (c *controller) allowed(ctx context.Context, r *certificatesv1.CertificateSigningRequest, part string) (bool, error) {
	extra := make(map[string]authorizationv1.ExtraValue, len(r.Spec.Extra))
	for k, v := range r.Spec.Extra {
		extra[k] = authorizationv1.ExtraValue(v)
	}
	review, err := c.t.Clients.Kube.AuthorizationV1().SubjectAccessReviews().Create(ctx, &authorizationv1.SubjectAccessReview{
		Spec: authorizationv1.SubjectAccessReviewSpec{
			User: r.Spec.Username, UID: r.Spec.UID, Groups: r.Spec.Groups, Extra: extra,
			ResourceAttributes: &authorizationv1.ResourceAttributes{
				Group: certificatesv1.GroupName, Version: "*", Resource: "certificatesigningrequests", Subresource: part, Verb: "create",
			},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		return false, fmt.Errorf("asking whether %s may create %s: %w", r.Spec.Username, part, err)
	}
	return review.Status.Allowed, nil
}
