package plugins

import (
	"context"
	"slices"
	"strings"
	"testing"

	certificatesv1 "k8s.io/api/certificates/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"pilothouse.dev/apiserver/admission"
	"pilothouse.dev/apiserver/registry"
	"pilothouse.dev/apiserver/request"
)

// signers is what one user may do with signers, as «verb name»; any other question is a no.
type signers []string

func (s signers) Allow(_ context.Context, u *request.User, i *request.Info) (bool, string) {
	return u.Name == "bob" && i.IsResource && i.Group == "certificates.k8s.io" && i.Resource == "signers" && i.Subresource == "" &&
		slices.Contains(s, i.Verb+" "+i.Name), "no"
}

var (
	podRequestKind = define[*certificatesv1.PodCertificateRequest]("certificates.k8s.io", "PodCertificateRequest", "podcertificaterequests", true)
	bundleKind     = define[*certificatesv1.ClusterTrustBundle]("certificates.k8s.io", "ClusterTrustBundle", "clustertrustbundles", false)
)

// TestSigners asks the three plugins that guard what is done in a signer's name, as bob.
func TestSigners(t *testing.T) {
	const signer = "example.com/a"
	pending := &certificatesv1.CertificateSigningRequest{Spec: certificatesv1.CertificateSigningRequestSpec{SignerName: signer}}
	pending.Name = "r"
	request := func(change func(*certificatesv1.CertificateSigningRequest)) *certificatesv1.CertificateSigningRequest {
		r := pending.DeepCopy()
		change(r)
		return r
	}
	issued := request(func(r *certificatesv1.CertificateSigningRequest) { r.Status.Certificate = []byte("x") })
	failed := request(func(r *certificatesv1.CertificateSigningRequest) {
		r.Status.Conditions = []certificatesv1.CertificateSigningRequestCondition{{Type: "Failed", Status: "True"}}
	})
	lying := request(func(r *certificatesv1.CertificateSigningRequest) {
		r.Spec.SignerName, r.Status.Certificate = "mine.example.com/a", []byte("x")
	})
	labelled := request(func(r *certificatesv1.CertificateSigningRequest) { r.Labels = map[string]string{"a": "b"} })
	podPending := &certificatesv1.PodCertificateRequest{Spec: certificatesv1.PodCertificateRequestSpec{SignerName: signer}}
	podIssued := podPending.DeepCopy()
	podIssued.Status.CertificateChain = "x"
	podDenied := podPending.DeepCopy()
	podDenied.Status.Conditions = []metav1.Condition{{Type: "Denied"}}
	bundle := func(signer, bundle string) *certificatesv1.ClusterTrustBundle {
		return &certificatesv1.ClusterTrustBundle{Spec: certificatesv1.ClusterTrustBundleSpec{SignerName: signer, TrustBundle: bundle}}
	}
	owned := bundle(signer, "x")
	owned.OwnerReferences = []metav1.OwnerReference{{Name: "o"}}

	const (
		noApproval = `user not permitted to approve requests with signerName "example.com/a"`
		noSigning  = `user not permitted to sign requests with signerName "example.com/a"`
		noAttest   = `user not permitted to attest for signerName "example.com/a"`
	)
	for _, c := range []struct {
		name, want string
		may        signers
		op         admission.Operation
		kind       *registry.Resource
		part       string
		obj, old   registry.Object
	}{
		{"approve", "", signers{"approve " + signer}, admission.Update, requestKind, "approval", failed, pending},
		{"approve for the domain", "", signers{"approve example.com/*"}, admission.Update, requestKind, "approval", failed, pending},
		{"approve as a signer", noApproval, signers{"sign " + signer}, admission.Update, requestKind, "approval", failed, pending},
		{"approve for others", noApproval, signers{"approve example.com/b", "approve *", "approve example.org/*"}, admission.Update, requestKind, "approval", failed, pending},
		{"approve for one said", noApproval, signers{"approve mine.example.com/a"}, admission.Update, requestKind, "approval", lying, pending},
		{"approve nothing", noApproval, nil, admission.Update, requestKind, "approval", pending, pending},
		{"sign", "", signers{"sign " + signer}, admission.Update, requestKind, "status", issued, pending},
		{"sign for the domain", "", signers{"sign example.com/*"}, admission.Update, requestKind, "status", issued, pending},
		{"sign as an approver", noSigning, signers{"approve " + signer}, admission.Update, requestKind, "status", issued, pending},
		{"sign for one said", noSigning, signers{"sign mine.example.com/a"}, admission.Update, requestKind, "status", lying, pending},
		{"fail", noSigning, nil, admission.Update, requestKind, "status", failed, pending},
		{"status that changes nothing", "", nil, admission.Update, requestKind, "status", labelled, pending},
		{"not a part", "", nil, admission.Update, requestKind, "", issued, pending},
		{"create", "", nil, admission.Create, requestKind, "", pending, nil},
		{"sign for a pod", "", signers{"sign " + signer}, admission.Update, podRequestKind, "status", podIssued, podPending},
		{"sign for a pod without the right", noSigning, signers{"attest " + signer}, admission.Update, podRequestKind, "status", podIssued, podPending},
		{"deny a pod", noSigning, nil, admission.Update, podRequestKind, "status", podDenied, podPending},
		{"attest", "", signers{"attest " + signer}, admission.Create, bundleKind, "", bundle(signer, "x"), nil},
		{"attest without the right", noAttest, signers{"sign " + signer}, admission.Create, bundleKind, "", bundle(signer, "x"), nil},
		{"attest for nobody", "", nil, admission.Create, bundleKind, "", bundle("", "x"), nil},
		{"attest anew", noAttest, nil, admission.Update, bundleKind, "", bundle(signer, "y"), bundle(signer, "x")},
		{"own what was attested", "", nil, admission.Update, bundleKind, "", owned, bundle(signer, "x")},
		{"delete what was attested", "", nil, admission.Delete, bundleKind, "", nil, bundle(signer, "x")},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := attributes(c.op, c.kind, c.obj, c.old)
			a.Subresource = c.part
			for _, p := range []admission.Validator{&certificateApproval{c.may}, &certificateSigning{c.may}, &clusterTrustBundleAttest{c.may}} {
				a.User = nil
				if c.want != "" {
					if err := admission.New([]admission.Plugin{p}).Validate(t.Context(), a); err == nil && p.Name() == owner(c.want) {
						t.Errorf("%s lets in who is nobody", p.Name())
					}
				}
				a.User = bobUser
				err := p.Validate(t.Context(), a)
				switch {
				case c.want != "" && p.Name() == owner(c.want):
					if err == nil || !strings.Contains(err.Error(), "forbidden: "+c.want) {
						t.Errorf("%s says %v, want %q", p.Name(), err, c.want)
					}
				case err != nil:
					t.Errorf("%s says %v", p.Name(), err)
				}
			}
		})
	}
}

var bobUser = &request.User{Name: "bob"}

// owner is the plugin whose message this is.
func owner(message string) string {
	switch {
	case strings.Contains(message, " approve "):
		return "CertificateApproval"
	case strings.Contains(message, " sign "):
		return "CertificateSigning"
	}
	return "ClusterTrustBundleAttest"
}
