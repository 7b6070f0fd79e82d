// Package csrsign signs approved requests for certificates, as the signers that come with Kubernetes
// (https://kubernetes.io/docs/reference/access-authn-authz/certificate-signing-requests/#kubernetes-signers), each with the
// authority that its flags name. It never approves: who may have a certificate was decided before, and only what the certificate
// may say is checked here. A request that breaks its signer's rules gets the condition Failed and is not looked at again.
//
// An authority is read again when its files change; one that cannot be read leaves the former in force, and is logged.
package csrsign

import (
	"context"
	"fmt"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	certificateslisters "k8s.io/client-go/listers/certificates/v1"

	"pilothouse.dev/controller-manager/loop"
)

// failedReason is why a request that breaks its signer's rules failed.
const failedReason = "SignerValidationFailure"

type controller struct {
	t        loop.Tools
	requests certificateslisters.CertificateSigningRequestLister
	keys     map[string]*authority // by signer
	life     time.Duration
}

// New returns the constructor for signers that have authorities; see Config.Check.
func New(cfg Config) func(loop.Tools) loop.Controller {
	return func(t loop.Tools) loop.Controller {
		c := &controller{
			t: t, requests: t.Informers.Certificates().V1().CertificateSigningRequests().Lister(),
			keys: map[string]*authority{}, life: cfg.Duration,
		}
		shared := map[Files]*authority{}
		for signer, files := range cfg.signers() {
			if shared[files] == nil {
				shared[files] = &authority{files: files, log: t.Log}
			}
			c.keys[signer] = shared[files]
		}
		return loop.Controller{
			Watches:   []loop.Watch{{Resource: "certificatesigningrequests.certificates.k8s.io", Wakes: loop.Self}},
			Reconcile: c.reconcile,
		}
	}
}

func (c *controller) reconcile(ctx context.Context, key loop.Key) (time.Duration, error) {
	r, err := c.requests.Get(key.Name)
	if apierrors.IsNotFound(err) {
		return 0, nil
	}
	if err != nil || !waits(r) {
		return 0, err
	}
	ca, ours := c.keys[r.Spec.SignerName]
	if !ours {
		return 0, nil
	}
	want := r.DeepCopy()
	now := time.Now()
	leaf, public, err := decide(r, c.life, now)
	if err != nil {
		want.Status.Conditions = append(want.Status.Conditions, certificatesv1.CertificateSigningRequestCondition{
			Type: certificatesv1.CertificateFailed, Status: corev1.ConditionTrue, Reason: failedReason, Message: err.Error(),
			LastUpdateTime: metav1.NewTime(now), LastTransitionTime: metav1.NewTime(now),
		})
		_, err = loop.Commit(ctx, c.t.Clients.Kube.CertificatesV1().CertificateSigningRequests(), r, want)
		return 0, err
	}
	signer, err := ca.current()
	if err != nil {
		return 0, err
	}
	if want.Status.Certificate, err = signer.Sign(leaf, public, now); err != nil {
		return 0, fmt.Errorf("signing %s: %w", r.Name, err)
	}
	_, err = loop.Commit(ctx, c.t.Clients.Kube.CertificatesV1().CertificateSigningRequests(), r, want)
	return 0, err
}

// waits says whether a request is approved and has no answer yet.
func waits(r *certificatesv1.CertificateSigningRequest) bool {
	approved := false
	for _, c := range r.Status.Conditions {
		switch c.Type {
		case certificatesv1.CertificateApproved:
			approved = true
		case certificatesv1.CertificateDenied, certificatesv1.CertificateFailed:
			return false
		}
	}
	return approved && len(r.Status.Certificate) == 0
}
