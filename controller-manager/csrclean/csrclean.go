// Package csrclean deletes requests for certificates that nobody needs any more
// (https://kubernetes.io/docs/reference/access-authn-authz/certificate-signing-requests/#request-signing-process): an hour after
// they were answered, denied or failed, a day after they were made when nobody has looked at them, and once the certificate has
// ended. Requests of pods live half an hour, since the kubelet that made one has long taken its answer. Each is looked at when its
// time has come.
package csrclean

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"pilothouse.dev/controller-manager/loop"
)

// How long requests are kept.
const (
	decided = time.Hour
	pending = 24 * time.Hour
	ofPods  = 30 * time.Minute
)

// Requests is the constructor for CertificateSigningRequests.
func Requests(t loop.Tools) loop.Controller {
	lister := t.Informers.Certificates().V1().CertificateSigningRequests().Lister()
	return loop.Controller{
		Watches: []loop.Watch{{Resource: "certificatesigningrequests.certificates.k8s.io", Wakes: loop.Self}},
		Reconcile: func(ctx context.Context, key loop.Key) (time.Duration, error) {
			r, err := lister.Get(key.Name)
			if err != nil {
				return 0, ignoreGone(err)
			}
			end, ends := until(r)
			if !ends {
				return 0, nil
			}
			return when(end, func() error {
				return t.Clients.Kube.CertificatesV1().CertificateSigningRequests().Delete(ctx, r.Name, *metav1.NewPreconditionDeleteOptions(string(r.UID)))
			})
		},
	}
}

// PodRequests is the constructor for PodCertificateRequests.
func PodRequests(t loop.Tools) loop.Controller {
	lister := t.Informers.Certificates().V1().PodCertificateRequests().Lister()
	return loop.Controller{
		Watches: []loop.Watch{{Resource: "podcertificaterequests.certificates.k8s.io", Wakes: loop.Self}},
		Reconcile: func(ctx context.Context, key loop.Key) (time.Duration, error) {
			r, err := lister.PodCertificateRequests(key.Namespace).Get(key.Name)
			if err != nil {
				return 0, ignoreGone(err)
			}
			return when(r.CreationTimestamp.Add(ofPods), func() error {
				return t.Clients.Kube.CertificatesV1().PodCertificateRequests(r.Namespace).Delete(ctx, r.Name, *metav1.NewPreconditionDeleteOptions(string(r.UID)))
			})
		},
	}
}

// when deletes at a time, or says how long that is yet.
func when(end time.Time, remove func() error) (time.Duration, error) {
	if wait := time.Until(end); wait > 0 {
		return wait, nil
	}
	if err := ignoreGone(remove()); err != nil {
		return 0, fmt.Errorf("deleting what nobody needs: %w", err)
	}
	return 0, nil
}

func ignoreGone(err error) error {
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// until is when a request goes, if it does.
func until(r *certificatesv1.CertificateSigningRequest) (end time.Time, ends bool) {
	at := func(t time.Time) {
		if !ends || t.Before(end) {
			end, ends = t, true
		}
	}
	issued := len(r.Status.Certificate) > 0
	for _, c := range r.Status.Conditions {
		switch {
		case c.Type == certificatesv1.CertificateApproved && issued, c.Type == certificatesv1.CertificateDenied, c.Type == certificatesv1.CertificateFailed:
			at(c.LastUpdateTime.Add(decided))
		}
	}
	if len(r.Status.Conditions) == 0 {
		at(r.CreationTimestamp.Add(pending))
	}
	if block, _ := pem.Decode(r.Status.Certificate); block != nil {
		if cert, err := x509.ParseCertificate(block.Bytes); err == nil {
			at(cert.NotAfter)
		}
	}
	return end, ends
}
