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

func TestCertificateRequest(t *testing.T) {
	kind := define[*certificatesv1.CertificateSigningRequest]("certificates.k8s.io", "CertificateSigningRequest", "certificatesigningrequests", false)
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	of := func(signer string, groups ...string) *certificatesv1.CertificateSigningRequest {
		der, err := x509.CreateCertificateRequest(nil, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "a", Organization: groups}}, key)
		if err != nil {
			t.Fatal(err)
		}
		return &certificatesv1.CertificateSigningRequest{Spec: certificatesv1.CertificateSigningRequestSpec{
			Request: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}), SignerName: signer,
			Username: "somebody else", UID: "0", Groups: []string{"system:masters"}, Extra: map[string]certificatesv1.ExtraValue{"a": {"b"}},
		}}
	}
	bob := &request.User{Name: "bob", UID: "1", Groups: []string{"devs"}, Extra: map[string][]string{"scope": {"x"}}}

	r := of("example.com/a")
	a := attributes(admission.Create, kind, r, nil)
	a.User = bob
	if err := (certificateRequest{}).Mutate(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	want := of("example.com/a").Spec
	want.Request, want.Username, want.UID, want.Groups = r.Spec.Request, "bob", "1", []string{"devs"}
	want.Extra = map[string]certificatesv1.ExtraValue{"scope": {"x"}}
	if !apiequality.Semantic.DeepEqual(r.Spec, want) {
		t.Errorf("got %+v, want %+v", r.Spec, want)
	}

	later := of("example.com/a")
	a = attributes(admission.Update, kind, later, r)
	a.User = bob
	if err := (certificateRequest{}).Mutate(t.Context(), a); err != nil || later.Spec.Username != "somebody else" {
		t.Errorf("an update is not the requester's: %v %q", err, later.Spec.Username)
	}

	for _, c := range []struct {
		name, want string
		obj        *certificatesv1.CertificateSigningRequest
	}{
		{"a client", "", of("kubernetes.io/kube-apiserver-client", "devs")},
		{"a master", "system:masters group is not allowed", of("kubernetes.io/kube-apiserver-client", "devs", "system:masters")},
		{"a master of another signer", "", of("example.com/a", "system:masters")},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := certificateRequest{}.Validate(t.Context(), attributes(admission.Create, kind, c.obj, nil))
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}
