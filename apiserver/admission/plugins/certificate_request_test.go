package plugins

import (
	"crypto/ed25519"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"strings"
	"testing"

	certificatesv1 "k8s.io/api/certificates/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"

	"pilothouse.dev/apiserver/admission"
	"pilothouse.dev/apiserver/request"
)

var requestKind = define[*certificatesv1.CertificateSigningRequest]("certificates.k8s.io", "CertificateSigningRequest", "certificatesigningrequests", false)

// forgedRequest is a request to a signer that claims to be somebody else's.
func forgedRequest(t *testing.T, signer string, groups ...string) *certificatesv1.CertificateSigningRequest {
	t.Helper()
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(nil, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "a", Organization: groups}}, key)
	if err != nil {
		t.Fatal(err)
	}
	return &certificatesv1.CertificateSigningRequest{Spec: certificatesv1.CertificateSigningRequestSpec{
		Request: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}), SignerName: signer,
		Username: "somebody else", UID: "0", Groups: []string{"system:masters"}, Extra: map[string]certificatesv1.ExtraValue{"a": {"b"}},
	}}
}

func TestCertificateRequest(t *testing.T) {
	bob := &request.User{Name: "bob", UID: "1", Groups: []string{"devs"}, Extra: map[string][]string{"scope": {"x"}}}
	r := forgedRequest(t, "example.com/a")
	a := attributes(admission.Create, requestKind, r, nil)
	a.User = bob
	if err := (certificateRequest{}).Mutate(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	want := forgedRequest(t, "example.com/a").Spec
	want.Request, want.Username, want.UID, want.Groups = r.Spec.Request, "bob", "1", []string{"devs"}
	want.Extra = map[string]certificatesv1.ExtraValue{"scope": {"x"}}
	if !apiequality.Semantic.DeepEqual(r.Spec, want) {
		t.Errorf("got %+v, want %+v", r.Spec, want)
	}

	later := forgedRequest(t, "example.com/a")
	a = attributes(admission.Update, requestKind, later, r)
	a.User = bob
	if err := (certificateRequest{}).Mutate(t.Context(), a); err != nil || later.Spec.Username != "somebody else" {
		t.Errorf("an update is not the requester's: %v %q", err, later.Spec.Username)
	}
}

func TestCertificateSubject(t *testing.T) {
	for _, c := range []struct {
		name, want string
		obj        *certificatesv1.CertificateSigningRequest
	}{
		{"a client", "", forgedRequest(t, "kubernetes.io/kube-apiserver-client", "devs")},
		{"a master", "use of kubernetes.io/kube-apiserver-client signer with system:masters group is not allowed",
			forgedRequest(t, "kubernetes.io/kube-apiserver-client", "devs", "system:masters")},
		{"a master of another signer", "", forgedRequest(t, "example.com/a", "system:masters")},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := certificateSubject{}.Validate(t.Context(), attributes(admission.Create, requestKind, c.obj, nil))
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}
