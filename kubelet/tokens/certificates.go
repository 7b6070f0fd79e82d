package tokens

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"
	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
)

// failedPause is how long no new request is made after a signer has failed.
const failedPause = time.Minute

// Certificates gets the certificates that pods mount: the key is made here and kept in memory only, a signer of the cluster is asked by a
// PodCertificateRequest (https://kubernetes.io/docs/reference/access-authn-authz/certificate-signing-requests/#pod-certificate-requests). Safe for
// concurrent use. A kubelet that starts again asks for new ones.
type Certificates struct {
	kube kubernetes.Interface // set once, as all in this group
	node func() *corev1.Node
	log  *zap.Logger
	now  func() time.Time

	mu   sync.Mutex
	kept map[types.UID]map[string]*certificate // by what the pod asks for; guarded by mu
}

// certificate is one that a pod mounts.
type certificate struct {
	mu sync.Mutex // held while it is asked for; guards the rest

	key, chain   []byte // PEM, what the pod has
	renew, until time.Time

	pending    string // the name of the request that is under way
	pendingKey []byte
	refused    error // it will never be issued
	notBefore  time.Time
}

// NewCertificates stores what it is given. node is this node as the API has it, nil while that is not known.
func NewCertificates(kube kubernetes.Interface, node func() *corev1.Node, log *zap.Logger) *Certificates {
	return &Certificates{kube: kube, node: node, log: log.Named("certificates"), now: time.Now, kept: map[types.UID]map[string]*certificate{}}
}

// Certificate returns the key and the chain that the pod wants, in PEM, and when to ask for the next. While no new one can be had, the one at
// hand is returned for as long as it lives. It waits for the signer, but not for long: called again, it goes on waiting for the same request.
func (c *Certificates) Certificate(ctx context.Context, pod *corev1.Pod, p *corev1.PodCertificateProjection) (key, chain []byte, renew time.Time, err error) {
	id, err := json.Marshal(p)
	if err != nil {
		return nil, nil, time.Time{}, err
	}
	c.mu.Lock()
	if c.kept[pod.UID] == nil {
		c.kept[pod.UID] = map[string]*certificate{}
	}
	e := c.kept[pod.UID][string(id)]
	if e == nil {
		e = &certificate{}
		c.kept[pod.UID][string(id)] = e
	}
	c.mu.Unlock()

	e.mu.Lock()
	defer e.mu.Unlock()
	now := c.now()
	if now.Before(e.renew) {
		return e.key, e.chain, e.renew, nil
	}
	err = c.request(ctx, pod, p, e, now)
	switch {
	case err == nil:
		return e.key, e.chain, e.renew, nil
	case now.Before(e.until):
		c.log.Warn("a certificate could not be renewed: the old one stays until it ends", zap.String("pod", pod.Namespace+"/"+pod.Name),
			zap.Time("ends", e.until), zap.Error(err))
		return e.key, e.chain, now.Add(again), nil
	}
	return nil, nil, time.Time{}, fmt.Errorf("getting a certificate from signer %s: %w", p.SignerName, err)
}

// Forget drops the certificates of a pod that is gone.
func (c *Certificates) Forget(uid types.UID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.kept, uid)
}

// request asks, unless that was done, and waits for the answer.
func (c *Certificates) request(ctx context.Context, pod *corev1.Pod, p *corev1.PodCertificateProjection, e *certificate, now time.Time) error {
	if e.refused != nil {
		return e.refused
	}
	if now.Before(e.notBefore) {
		return errors.New("the signer has failed; asking again soon")
	}
	ctx, cancel := context.WithTimeout(ctx, answer)
	defer cancel()
	if e.pending == "" {
		if err := c.create(ctx, pod, p, e); err != nil {
			return err
		}
	}
	r, err := c.answered(ctx, pod.Namespace, e.pending)
	if err != nil {
		return err
	}
	if r == nil { // deleted: by its age, or by a user
		e.pending = ""
		return errors.New("the request was deleted before it was answered")
	}
	for _, condition := range r.Status.Conditions {
		told := fmt.Errorf("PodCertificateRequest %s %s: %s: %s", r.Name, condition.Type, condition.Reason, condition.Message)
		switch condition.Type {
		case certificatesv1.PodCertificateRequestConditionTypeDenied:
			e.pending, e.refused = "", told
			return told
		case certificatesv1.PodCertificateRequestConditionTypeFailed:
			e.pending, e.notBefore = "", now.Add(failedPause)
			return told
		}
	}
	e.key, e.chain, e.pending, e.pendingKey = e.pendingKey, []byte(r.Status.CertificateChain), "", nil
	e.renew, e.until = now.Add(again), now.Add(again)
	if t := r.Status.BeginRefreshAt; t != nil && t.After(e.renew) { // never at once, whatever the signer says and this clock
		e.renew = t.Time
	}
	if t := r.Status.NotAfter; t != nil {
		e.until = t.Time
	}
	return nil
}

// create makes a key and the request for it.
func (c *Certificates) create(ctx context.Context, pod *corev1.Pod, p *corev1.PodCertificateProjection, e *certificate) error {
	node := c.node()
	if node == nil {
		return errors.New("this node has not been read yet")
	}
	account, err := c.kube.CoreV1().ServiceAccounts(pod.Namespace).Get(ctx, pod.Spec.ServiceAccountName, metav1.GetOptions{})
	if err != nil {
		return err
	}
	key, err := newKey(p.KeyType)
	if err != nil {
		return err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return fmt.Errorf("encoding the key: %w", err)
	}
	stub, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		return fmt.Errorf("proving to have the key: %w", err)
	}
	r, err := c.kube.CertificatesV1().PodCertificateRequests(pod.Namespace).Create(ctx, &certificatesv1.PodCertificateRequest{
		ObjectMeta: metav1.ObjectMeta{
			GenerateName:    "req-" + pod.Name + "-",
			OwnerReferences: []metav1.OwnerReference{{APIVersion: "v1", Kind: "Pod", Name: pod.Name, UID: pod.UID}},
		},
		Spec: certificatesv1.PodCertificateRequestSpec{
			SignerName: p.SignerName, PodName: pod.Name, PodUID: pod.UID, ServiceAccountName: account.Name, ServiceAccountUID: account.UID,
			NodeName: types.NodeName(node.Name), NodeUID: node.UID, MaxExpirationSeconds: p.MaxExpirationSeconds,
			StubPKCS10Request: stub, UnverifiedUserAnnotations: p.UserAnnotations,
		},
	}, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	e.pending, e.pendingKey = r.Name, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	return nil
}

// answered waits until a request has been issued, denied or failed; nil when it is gone.
func (c *Certificates) answered(ctx context.Context, namespace, name string) (*certificatesv1.PodCertificateRequest, error) {
	client := c.kube.CertificatesV1().PodCertificateRequests(namespace)
	node := c.node()
	if node == nil {
		return nil, errors.New("this node has not been read yet")
	}
	only := metav1.ListOptions{FieldSelector: fields.SelectorFromSet(fields.Set{"metadata.name": name, "spec.nodeName": node.Name}).String()}
	list, err := client.List(ctx, only)
	if err != nil {
		return nil, err
	}
	if len(list.Items) == 0 {
		return nil, nil
	}
	if over(&list.Items[0]) {
		return &list.Items[0], nil
	}
	only.ResourceVersion = list.ResourceVersion
	w, err := client.Watch(ctx, only)
	if err != nil {
		return nil, err
	}
	defer w.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("the signer has not answered PodCertificateRequest %s yet", name)
		case event, open := <-w.ResultChan():
			if !open {
				return nil, fmt.Errorf("the signer has not answered PodCertificateRequest %s yet", name)
			}
			if r, ok := event.Object.(*certificatesv1.PodCertificateRequest); ok && over(r) {
				return r, nil
			}
		}
	}
}

// over: the signer has said what becomes of the request.
func over(r *certificatesv1.PodCertificateRequest) bool {
	for _, c := range r.Status.Conditions {
		switch c.Type {
		case certificatesv1.PodCertificateRequestConditionTypeDenied, certificatesv1.PodCertificateRequestConditionTypeFailed,
			certificatesv1.PodCertificateRequestConditionTypeIssued:
			return true
		}
	}
	return false
}

// newKey makes a key of a type that the API knows.
func newKey(kind string) (crypto.Signer, error) {
	switch kind {
	case "RSA3072":
		return rsa.GenerateKey(rand.Reader, 3072)
	case "RSA4096":
		return rsa.GenerateKey(rand.Reader, 4096)
	case "ECDSAP256":
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "ECDSAP384":
		return ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case "ECDSAP521":
		return ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	case "ED25519":
		_, key, err := ed25519.GenerateKey(rand.Reader)
		return key, err
	}
	return nil, fmt.Errorf("key type %q is not known", kind)
}
