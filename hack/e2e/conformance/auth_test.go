package conformance

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"slices"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// papers are a request for a certificate (DER) and a certificate (PEM) for the same new key.
func (r *row) papers(subject string) (request []byte, certificate string, from time.Time) {
	r.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	r.must(err, "making a key")
	asked := &x509.CertificateRequest{}
	if subject != "" {
		asked.Subject.CommonName = subject
	}
	request, err = x509.CreateCertificateRequest(rand.Reader, asked, key)
	r.must(err, "making a request")
	from = time.Now().Add(-time.Minute).Truncate(time.Second)
	given := &x509.Certificate{
		SerialNumber: big.NewInt(from.Unix()), Subject: pkix.Name{CommonName: "conformance.example.com"}, NotBefore: from, NotAfter: from.Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, given, given, key.Public(), key)
	r.must(err, "making a certificate")
	return request, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), from
}

// AUTH-001: requests to a signer that nobody is; approved, and given a certificate, by hand.
func signingRequests(r *row) {
	der, certificate, _ := r.papers("conformance.example.com")
	request := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
	r.operate(operations{
		gvr: certificatesv1.SchemeGroupVersion.WithResource("certificatesigningrequests"), kind: "CertificateSigningRequest",
		manifest: fmt.Sprintf(`{spec: {signerName: example.com/%s, expirationSeconds: 3600, usages: [client auth], request: %s}}`,
			r.unique(), base64.StdEncoding.EncodeToString(request)),
		edit:   `{metadata: {labels: {edited: "yes"}}}`, // the spec never changes
		status: fmt.Sprintf(`{status: {certificate: %s}}`, base64.StdEncoding.EncodeToString([]byte(certificate))),
		update: `{status: {conditions: [{type: StatusUpdate, status: "True", reason: E2E, message: set by a test}]}}`,
		also:   r.approve,
	})
}

// approve uses the subresource approval of a request whose status has a condition already.
func (r *row) approve(client dynamic.ResourceInterface, w *events, name string) {
	r.Helper()
	var resources metav1.APIResourceList
	r.document("/apis/certificates.k8s.io/v1", "", &resources)
	r.hasResource("/apis/certificates.k8s.io/v1", resources, "certificatesigningrequests/approval", "CertificateSigningRequest", false, []string{"get", "patch", "update"})
	got, err := client.Get(r.ctx, name, metav1.GetOptions{}, "approval")
	r.must(err, "getting approval")
	r.equal("kind of what approval gives", got.GetKind(), "CertificateSigningRequest")
	if user, _, _ := unstructured.NestedString(got.Object, "spec", "username"); user == "" {
		r.Error("the server did not write who asks")
	}
	patched, err := client.Patch(r.ctx, name, types.MergePatchType, []byte(`{"metadata":{"annotations":{"patchedapproval":"true"}},
  "status":{"conditions":[{"type":"StatusUpdate","status":"True","reason":"E2E","message":"set by a test"},{"type":"ApprovalPatch","status":"True","reason":"E2E"}]}}`),
		metav1.PatchOptions{}, "approval")
	r.must(err, "patching approval")
	r.has("patching approval", patched, r.tree(`{metadata: {annotations: {patchedapproval: "true"}},
  status: {conditions: [{type: StatusUpdate}, {type: ApprovalPatch, status: "True"}]}}`))
	w.next(watch.Modified, name, annotated(name, "patchedapproval", "true"))
	requests := r.kube.CertificatesV1().CertificateSigningRequests()
	var approved *certificatesv1.CertificateSigningRequest
	r.again("approving", func() error {
		c, err := requests.Get(r.ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		c.Status.Conditions = append(c.Status.Conditions, certificatesv1.CertificateSigningRequestCondition{
			Type: certificatesv1.CertificateApproved, Status: corev1.ConditionTrue, Reason: "E2E",
		})
		approved, err = requests.UpdateApproval(r.ctx, name, c, metav1.UpdateOptions{})
		return err
	})
	if !slices.ContainsFunc(approved.Status.Conditions, func(c certificatesv1.CertificateSigningRequestCondition) bool {
		return c.Type == certificatesv1.CertificateApproved && c.Status == corev1.ConditionTrue && !c.LastUpdateTime.IsZero()
	}) {
		r.Errorf("approved, and has conditions %s", asJSON(approved.Status.Conditions))
	}
}

// AUTH-002
func podCertificateRequests(r *row) {
	der, certificate, from := r.papers("")
	status := map[string]any{"status": map[string]any{
		"certificateChain": certificate, "notBefore": from.UTC().Format(time.RFC3339), "notAfter": from.Add(time.Hour).UTC().Format(time.RFC3339),
		"beginRefreshAt": from.Add(15 * time.Minute).UTC().Format(time.RFC3339),
		"conditions": []any{map[string]any{
			"type": "Issued", "status": "True", "reason": "E2E", "message": "by a test", "lastTransitionTime": from.UTC().Format(time.RFC3339),
		}},
	}}
	var steps []map[string]any
	for field, value := range status["status"].(map[string]any) {
		steps = append(steps, map[string]any{"op": "add", "path": "/status/" + field, "value": value})
	}
	c := crud{row: r, operations: operations{
		gvr: certificatesv1.SchemeGroupVersion.WithResource("podcertificaterequests"), kind: "PodCertificateRequest", namespaced: true,
		manifest: fmt.Sprintf(`
spec:
  signerName: example.com/%s
  podName: test-pod
  podUID: 12345678-1234-1234-1234-123456789012
  serviceAccountName: default
  serviceAccountUID: 12345678-1234-1234-1234-123456789013
  nodeName: test-node
  nodeUID: 12345678-1234-1234-1234-123456789014
  maxExpirationSeconds: 86400
  stubPKCS10Request: %s`, r.unique(), base64.StdEncoding.EncodeToString(der)),
		edit:   `{metadata: {labels: {test.podcertificaterequest.example.com: test}}}`, // the spec never changes
		status: asJSON(status),
	}}
	c.jsonEdit = `[{"op": "add", "path": "/metadata/labels/test.podcertificaterequest.example.com", "value": "test"}]`
	c.jsonStatus = asJSON(steps)
	c.run()
}

// AUTH-005: a token made for a service account is reviewed as that account's.
func tokenReview(r *row) {
	ns := r.namespace()
	made, err := r.kube.CoreV1().ServiceAccounts(ns).Create(r.ctx, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "speaker"}}, metav1.CreateOptions{})
	r.must(err, "creating a service account")
	life := int64(3600)
	token, err := r.kube.CoreV1().ServiceAccounts(ns).CreateToken(r.ctx, "speaker",
		&authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: &life}}, metav1.CreateOptions{})
	r.must(err, "making a token")
	if left := time.Until(token.Status.ExpirationTimestamp.Time); left < 50*time.Minute || left > 70*time.Minute {
		r.Errorf("the token lives %v, want an hour", left)
	}
	review := func(token string) authenticationv1.TokenReviewStatus {
		got, err := r.kube.AuthenticationV1().TokenReviews().Create(r.ctx,
			&authenticationv1.TokenReview{Spec: authenticationv1.TokenReviewSpec{Token: token}}, metav1.CreateOptions{})
		r.must(err, "reviewing")
		return got.Status
	}
	got := review(token.Status.Token)
	r.equal("error of a good token", got.Error, "")
	r.equal("authenticated", got.Authenticated, true)
	r.equal("user", got.User.Username, "system:serviceaccount:"+ns+":speaker")
	r.equal("uid", got.User.UID, string(made.UID))
	for _, group := range []string{"system:serviceaccounts", "system:serviceaccounts:" + ns, "system:authenticated"} {
		if !slices.Contains(got.User.Groups, group) {
			r.Errorf("groups are %v, want also %s", got.User.Groups, group)
		}
	}
	if len(got.Audiences) == 0 {
		r.Error("the review names no audience")
	}
	bad := review(token.Status.Token + "x")
	r.equal("authenticated with a spoiled token", bad.Authenticated, false)
}

// AUTH-009: service accounts are made, watched, patched, listed and deleted by collection.
func serviceAccountLife(r *row) {
	ns := r.namespace()
	client := r.kube.CoreV1().ServiceAccounts(ns)
	label := r.unique()
	w := r.follow(client.Watch(r.ctx, labelled(label)))
	_, err := client.Create(r.ctx, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "one", Labels: map[string]string{rowLabel: label}}}, metav1.CreateOptions{})
	r.must(err, "creating")
	w.next(watch.Added, "one", named("one"))
	_, err = client.Patch(r.ctx, "one", types.StrategicMergePatchType, []byte(`{"automountServiceAccountToken":false}`), metav1.PatchOptions{})
	r.must(err, "patching")
	w.next(watch.Modified, "one without tokens in its pods", func(o metav1.Object) bool {
		mount := o.(*corev1.ServiceAccount).AutomountServiceAccountToken
		return mount != nil && !*mount
	})
	list, err := r.kube.CoreV1().ServiceAccounts(metav1.NamespaceAll).List(r.ctx, labelled(label))
	r.must(err, "listing in all namespaces")
	r.equal("accounts in all namespaces", len(list.Items), 1)
	r.equal("name of it", list.Items[0].Namespace+"/"+list.Items[0].Name, ns+"/one")
	r.must(client.DeleteCollection(r.ctx, metav1.DeleteOptions{}, labelled(label)), "deleting the collection")
	w.next(watch.Deleted, "one", named("one"))
	_, err = client.Get(r.ctx, "one", metav1.GetOptions{})
	r.refused(err, metav1.StatusReasonNotFound, "getting what was deleted")
}

// AUTH-010
func serviceAccountUpdate(r *row) {
	client := r.kube.CoreV1().ServiceAccounts(r.namespace())
	no, yes := false, true
	made, err := client.Create(r.ctx, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "one"}, AutomountServiceAccountToken: &no}, metav1.CreateOptions{})
	r.must(err, "creating")
	r.equal("mount at first", made.AutomountServiceAccountToken, &no)
	var updated *corev1.ServiceAccount
	r.again("updating", func() error {
		a, err := client.Get(r.ctx, "one", metav1.GetOptions{})
		if err != nil {
			return err
		}
		a.AutomountServiceAccountToken = &yes
		updated, err = client.Update(r.ctx, a, metav1.UpdateOptions{})
		return err
	})
	r.equal("mount after the update", updated.AutomountServiceAccountToken, &yes)
	r.newer("updating", made.ResourceVersion, updated.ResourceVersion)
	got, err := client.Get(r.ctx, "one", metav1.GetOptions{})
	r.must(err, "getting")
	r.equal("mount got", got.AutomountServiceAccountToken, &yes)
}

// AUTH-011: what the reviews say somebody may do is what he finds when he does it, in a namespace and in the whole cluster: a
// service account, and an administrator.
func accessReviews(r *row) {
	ns := r.namespace()
	_, err := r.kube.CoreV1().ServiceAccounts(ns).Create(r.ctx, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "asker"}}, metav1.CreateOptions{})
	r.must(err, "creating a service account")
	r.reviewsAgree(ns, "system:serviceaccount:"+ns+":asker", "system:authenticated", "system:serviceaccounts", "system:serviceaccounts:"+ns)
	if !r.reviewsAgree(ns, "conformance-admin", "system:authenticated", "system:masters") {
		r.Error("a member of system:masters may not list")
	}
}

// reviewsAgree compares the reviews about a user with what happens to him, and tells whether he may list in the namespace.
func (r *row) reviewsAgree(ns, user string, groups ...string) (may bool) {
	r.Helper()
	config := rest.CopyConfig(r.config)
	config.Impersonate = rest.ImpersonationConfig{UserName: user, Groups: groups}
	asker, err := kubernetes.NewForConfig(config)
	r.must(err, "making a client of "+user)
	for _, in := range []string{metav1.NamespaceAll, ns} {
		_, err := asker.CoreV1().ConfigMaps(in).List(r.ctx, metav1.ListOptions{Limit: 1})
		if err != nil && !apierrors.IsForbidden(err) {
			r.Fatalf("listing as %s: %v", user, err)
		}
		may = err == nil
		what := &authorizationv1.ResourceAttributes{Verb: "list", Resource: "configmaps", Namespace: in, Version: "v1"}
		spec := authorizationv1.SubjectAccessReviewSpec{ResourceAttributes: what, User: user, Groups: groups}
		global, err := r.kube.AuthorizationV1().SubjectAccessReviews().Create(r.ctx, &authorizationv1.SubjectAccessReview{Spec: spec}, metav1.CreateOptions{})
		r.must(err, "reviewing")
		r.equal("the review about "+user+" in "+in, global.Status.Allowed, may)
		r.equal("what was asked comes back", global.Spec.User, user)
		self, err := asker.AuthorizationV1().SelfSubjectAccessReviews().Create(r.ctx, &authorizationv1.SelfSubjectAccessReview{
			Spec: authorizationv1.SelfSubjectAccessReviewSpec{ResourceAttributes: what},
		}, metav1.CreateOptions{})
		r.must(err, "reviewing itself as "+user)
		r.equal("the review of "+user+" by itself in "+in, self.Status.Allowed, may)
		if in == metav1.NamespaceAll {
			continue
		}
		local, err := r.kube.AuthorizationV1().LocalSubjectAccessReviews(ns).Create(r.ctx,
			&authorizationv1.LocalSubjectAccessReview{ObjectMeta: metav1.ObjectMeta{Namespace: ns}, Spec: spec}, metav1.CreateOptions{})
		r.must(err, "reviewing in the namespace")
		r.equal("the local review about "+user, local.Status.Allowed, may)
	}
	return may
}
