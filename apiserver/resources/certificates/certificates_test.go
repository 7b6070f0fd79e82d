package certificates

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"
)

// brief is errors as «path: type», sorted.
func brief(errs field.ErrorList) []string {
	out := make([]string, 0, len(errs))
	for _, e := range errs {
		out = append(out, e.Field+": "+e.Type.String())
	}
	slices.Sort(out)
	return out
}

func expect(t *testing.T, errs field.ErrorList, want ...string) {
	t.Helper()
	if got := brief(errs); !slices.Equal(got, want) && len(got)+len(want) > 0 {
		t.Errorf("got %q, want %q", got, want)
	}
}

type pair struct {
	public  any
	private any
}

func key(t *testing.T) pair {
	t.Helper()
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	return pair{public, private}
}

func request(t *testing.T, k pair) []byte {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "a"}}, k.private)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func certificate(t *testing.T, k pair, ca bool, from time.Time, lasts time.Duration) []byte {
	t.Helper()
	c := &x509.Certificate{SerialNumber: big.NewInt(from.UnixNano()), NotBefore: from, NotAfter: from.Add(lasts), IsCA: ca, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, c, c, k.public, k.private)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func armour(kind string, blocks ...[]byte) string {
	var out strings.Builder
	for _, b := range blocks {
		out.Write(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: b}))
	}
	return out.String()
}

func signing(t *testing.T, with func(*certificatesv1.CertificateSigningRequest)) *certificatesv1.CertificateSigningRequest {
	t.Helper()
	r := &certificatesv1.CertificateSigningRequest{
		ObjectMeta: metav1.ObjectMeta{Name: "a"},
		Spec: certificatesv1.CertificateSigningRequestSpec{
			Request: []byte(armour("CERTIFICATE REQUEST", request(t, key(t)))), SignerName: "example.com/a",
			Usages: []certificatesv1.KeyUsage{"client auth"},
		},
	}
	if with != nil {
		with(r)
	}
	return r
}

func TestValidateSigningRequest(t *testing.T) {
	for _, c := range []struct {
		name string
		with func(*certificatesv1.CertificateSigningRequest)
		want []string
	}{
		{"good", nil, nil},
		{"empty", func(r *certificatesv1.CertificateSigningRequest) {
			r.Spec = certificatesv1.CertificateSigningRequestSpec{}
		},
			[]string{"spec.request: Invalid value", "spec.signerName: Required value", "spec.usages: Required value"}},
		{"not a request", func(r *certificatesv1.CertificateSigningRequest) {
			r.Spec.Request = []byte(armour("CERTIFICATE", []byte("x")))
		},
			[]string{"spec.request: Invalid value"}},
		{"usages", func(r *certificatesv1.CertificateSigningRequest) {
			r.Spec.Usages = []certificatesv1.KeyUsage{"any", "no such", "any"}
		}, []string{"spec.usages[1]: Unsupported value", "spec.usages[2]: Duplicate value"}},
		{"old signer", func(r *certificatesv1.CertificateSigningRequest) { r.Spec.SignerName = "kubernetes.io/legacy-unknown" },
			[]string{"spec.signerName: Invalid value"}},
		{"short", func(r *certificatesv1.CertificateSigningRequest) { r.Spec.ExpirationSeconds = ptr.To[int32](599) },
			[]string{"spec.expirationSeconds: Invalid value"}},
		{"no domain", func(r *certificatesv1.CertificateSigningRequest) { r.Spec.SignerName = "a/b" }, []string{"spec.signerName: Invalid value"}},
		{"no path", func(r *certificatesv1.CertificateSigningRequest) { r.Spec.SignerName = "a.b" }, []string{"spec.signerName: Invalid value"}},
		{"capitals", func(r *certificatesv1.CertificateSigningRequest) { r.Spec.SignerName = "a.b/C.D" },
			[]string{"spec.signerName: Invalid value", "spec.signerName: Invalid value"}},
		{"long", func(r *certificatesv1.CertificateSigningRequest) {
			r.Spec.SignerName = strings.Repeat("a.", 300) + "b/c"
		},
			[]string{"spec.signerName: Too long", "spec.signerName: Too long"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			expect(t, CertificateSigningRequests.Validate(signing(t, c.with)), c.want...)
		})
	}
}

func condition(kind, status string) certificatesv1.CertificateSigningRequestCondition {
	c := certificatesv1.CertificateSigningRequestCondition{}
	c.Type, c.Status = certificatesv1.RequestConditionType(kind), "True"
	if status != "True" {
		c.Status = ""
		if status != "" {
			c.Status = "False"
		}
	}
	return c
}

// A request goes its way through approval and status; each may add its own and take nothing away.
func TestApprovalAndStatus(t *testing.T) {
	cert := []byte(armour("CERTIFICATE", certificate(t, key(t), false, time.Now(), time.Hour)))
	type conditions = []certificatesv1.CertificateSigningRequestCondition
	approved, denied, failed := condition("Approved", "True"), condition("Denied", "True"), condition("Failed", "True")
	for _, c := range []struct {
		name           string
		old, is        conditions
		oldCert, cert  []byte
		approval, stat []string
	}{
		{"nothing", nil, nil, nil, nil, nil, nil},
		{"approve", nil, conditions{approved}, nil, nil, nil, []string{"status.conditions: Forbidden"}},
		{"deny too", conditions{approved}, conditions{approved, denied}, nil, nil,
			[]string{"status.conditions[1].type: Invalid value"}, []string{"status.conditions: Forbidden", "status.conditions[1].type: Invalid value"}},
		{"take back", conditions{approved}, conditions{}, nil, nil, []string{"status.conditions: Forbidden"}, nil},
		{"not quite", nil, conditions{condition("Approved", "False")}, nil, nil,
			[]string{"status.conditions[0].status: Unsupported value"}, []string{"status.conditions: Forbidden", "status.conditions[0].status: Unsupported value"}},
		{"nameless", nil, conditions{condition("", ""), condition("Other", "False"), condition("Other", "True")}, nil, nil,
			[]string{"status.conditions[0].status: Required value", "status.conditions[0].type: Required value", "status.conditions[2].type: Duplicate value"},
			[]string{"status.conditions[0].status: Required value", "status.conditions[0].type: Required value", "status.conditions[2].type: Duplicate value"}},
		{"fail", conditions{approved}, conditions{approved, failed}, nil, nil, nil, nil},
		{"unfail", conditions{failed}, conditions{}, nil, nil, []string{"status.conditions: Forbidden"}, []string{"status.conditions: Forbidden"}},
		{"issue", conditions{approved}, conditions{approved}, nil, cert, nil, nil},
		{"issue nonsense", conditions{approved}, conditions{approved}, nil, []byte("x"), nil, []string{"status.certificate: Invalid value"}},
		{"issue again", conditions{approved}, conditions{approved}, cert, append(cert[:len(cert):len(cert)], cert...), nil, []string{"status.certificate: Forbidden"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			of := func(c conditions, cert []byte) *certificatesv1.CertificateSigningRequest {
				return signing(t, func(r *certificatesv1.CertificateSigningRequest) {
					r.Status.Conditions, r.Status.Certificate = slices.Clone(c), cert
				})
			}
			old, part := of(c.old, c.oldCert), CertificateSigningRequests.Part("approval")
			r := of(c.is, c.cert)
			part.Keep(r, old)
			if string(r.Spec.Request) != string(old.Spec.Request) || string(r.Status.Certificate) != string(old.Status.Certificate) {
				t.Error("approval changes more than conditions")
			}
			expect(t, part.Validate(r, old), c.approval...)

			r = of(c.is, c.cert)
			r.Spec = old.Spec
			CertificateSigningRequests.BeforeStatus(r, old)
			for _, one := range r.Status.Conditions {
				if one.LastUpdateTime.IsZero() && one.Type != "Approved" && one.Type != "Denied" {
					t.Errorf("%s has no time", one.Type)
				}
			}
			expect(t, CertificateSigningRequests.ValidateStatus(r, old), c.stat...)
		})
	}
}

func TestTimesOfConditions(t *testing.T) {
	long := metav1.Unix(1000, 0)
	was := condition("Ready", "True")
	was.LastTransitionTime = long
	old := &certificatesv1.CertificateSigningRequest{}
	old.Status.Conditions = []certificatesv1.CertificateSigningRequestCondition{was}
	r := &certificatesv1.CertificateSigningRequest{}
	r.Status.Conditions = []certificatesv1.CertificateSigningRequestCondition{condition("Ready", "True"), condition("New", "True")}
	stamp(r, old)
	if got := r.Status.Conditions[0].LastTransitionTime; !got.Equal(&long) {
		t.Errorf("the same status began at %v, want %v", got, long)
	}
	if got := r.Status.Conditions[1].LastTransitionTime; time.Since(got.Time) > time.Hour {
		t.Errorf("a new condition began at %v", got)
	}
}

func TestStates(t *testing.T) {
	cert := []byte("x")
	for want, r := range map[string]*certificatesv1.CertificateSigningRequest{
		"Pending": {},
		"Denied,Failed": {Status: certificatesv1.CertificateSigningRequestStatus{Conditions: []certificatesv1.CertificateSigningRequestCondition{
			condition("Denied", "True"), condition("Failed", "True")}}},
		"Approved,Issued": {Status: certificatesv1.CertificateSigningRequestStatus{Certificate: cert, Conditions: []certificatesv1.CertificateSigningRequestCondition{
			condition("Approved", "True")}}},
	} {
		r.Spec = certificatesv1.CertificateSigningRequestSpec{Username: "bob", ExpirationSeconds: ptr.To[int32](3600)}
		r.CreationTimestamp = metav1.Now()
		cells := CertificateSigningRequests.Cells(r)
		if got := fmt.Sprint(cells[2:]); got != fmt.Sprintf("[<none> bob 60m %s]", want) {
			t.Errorf("%s: %s", want, got)
		}
	}
}

func TestValidateBundle(t *testing.T) {
	ca := certificate(t, key(t), true, time.Now(), time.Hour)
	leaf := certificate(t, key(t), false, time.Now(), time.Hour)
	headed := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca, Headers: map[string]string{"a": "b"}}))
	for _, c := range []struct {
		object, name, signer, bundle string
		want                         []string
	}{
		{"plain", "a", "", armour("CERTIFICATE", ca), nil},
		{"of a signer", "example.com:a:v1", "example.com/a", armour("CERTIFICATE", ca), nil},
		{"not named like its signer", "a", "example.com/a", armour("CERTIFICATE", ca), []string{"metadata.name: Invalid value"}},
		{"named like a signer's", "example.com:a:v1", "", armour("CERTIFICATE", ca), []string{"metadata.name: Invalid value"}},
		{"bad signer", "a:b", "a", armour("CERTIFICATE", ca), []string{"spec.signerName: Invalid value"}},
		{"nothing", "a", "", "", []string{"spec.trustBundle: Invalid value"}},
		{"no root", "a", "", armour("CERTIFICATE", leaf), []string{"spec.trustBundle: Invalid value"}},
		{"a key", "a", "", armour("PRIVATE KEY", ca), []string{"spec.trustBundle: Invalid value"}},
		{"headers", "a", "", headed, []string{"spec.trustBundle: Invalid value"}},
		{"nonsense", "a", "", armour("CERTIFICATE", []byte("x")), []string{"spec.trustBundle: Invalid value"}},
		{"twice", "a", "", armour("CERTIFICATE", ca, ca), []string{"spec.trustBundle: Invalid value"}},
		{"too long", "a", "", strings.Repeat("x", 1<<20+1), []string{"spec.trustBundle: Too long"}},
	} {
		t.Run(c.object, func(t *testing.T) {
			b := &certificatesv1.ClusterTrustBundle{ObjectMeta: metav1.ObjectMeta{Name: c.name}}
			b.Spec.SignerName, b.Spec.TrustBundle = c.signer, c.bundle
			expect(t, ClusterTrustBundles.Validate(b), c.want...)
			other := b.DeepCopy()
			other.Spec.SignerName += "x"
			expect(t, ClusterTrustBundles.ValidateUpdate(b, other), "spec.signerName: Invalid value")
		})
	}
}

func podRequest(t *testing.T, k pair) *certificatesv1.PodCertificateRequest {
	t.Helper()
	r := &certificatesv1.PodCertificateRequest{ObjectMeta: metav1.ObjectMeta{Name: "a", Namespace: "b"}}
	r.Spec = certificatesv1.PodCertificateRequestSpec{
		SignerName: "example.com/a", PodName: "p", PodUID: "1", ServiceAccountName: "s", ServiceAccountUID: "2", NodeName: "n", NodeUID: "3",
		StubPKCS10Request: request(t, k),
	}
	PodCertificateRequests.Default(r)
	return r
}

func TestValidatePodRequest(t *testing.T) {
	curve, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		with func(*certificatesv1.PodCertificateRequest)
		want []string
	}{
		{"good", func(*certificatesv1.PodCertificateRequest) {}, nil},
		{"empty", func(r *certificatesv1.PodCertificateRequest) { r.Spec = certificatesv1.PodCertificateRequestSpec{} }, []string{
			"spec.maxExpirationSeconds: Required value",
			"spec.nodeName: Invalid value", "spec.nodeUID: Invalid value", "spec.podName: Invalid value", "spec.podUID: Invalid value",
			"spec.serviceAccountName: Invalid value", "spec.serviceAccountUID: Invalid value", "spec.signerName: Required value",
			"spec.stubPKCS10Request: Required value",
		}},
		{"long for Kubernetes", func(r *certificatesv1.PodCertificateRequest) {
			r.Spec.SignerName, r.Spec.MaxExpirationSeconds = "kubernetes.io/a", ptr.To[int32](86401)
		}, []string{"spec.maxExpirationSeconds: Invalid value"}},
		{"long", func(r *certificatesv1.PodCertificateRequest) { r.Spec.MaxExpirationSeconds = ptr.To[int32](86401) }, nil},
		{"short", func(r *certificatesv1.PodCertificateRequest) { r.Spec.MaxExpirationSeconds = ptr.To[int32](3599) }, []string{"spec.maxExpirationSeconds: Invalid value"}},
		{"annotations", func(r *certificatesv1.PodCertificateRequest) {
			r.Spec.UnverifiedUserAnnotations = map[string]string{"a": "b", "example.com/a": "b"}
		}, []string{"spec.unverifiedUserAnnotations: Invalid value"}},
		{"weak", func(r *certificatesv1.PodCertificateRequest) {
			r.Spec.StubPKCS10Request = request(t, pair{curve.Public(), curve})
		},
			[]string{"spec.stubPKCS10Request: Invalid value"}},
		{"forged", func(r *certificatesv1.PodCertificateRequest) {
			r.Spec.StubPKCS10Request[len(r.Spec.StubPKCS10Request)-1] ^= 1
		},
			[]string{"spec.stubPKCS10Request: Invalid value"}},
		{"no request", func(r *certificatesv1.PodCertificateRequest) { r.Spec.StubPKCS10Request = []byte("x") }, []string{"spec.stubPKCS10Request: Invalid value"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := podRequest(t, key(t))
			c.with(r)
			expect(t, PodCertificateRequests.Validate(r), c.want...)
		})
	}
	a, b := podRequest(t, key(t)), podRequest(t, key(t))
	expect(t, PodCertificateRequests.ValidateUpdate(a, b), "spec: Invalid value")
}

func TestPodRequestStatus(t *testing.T) {
	k := key(t)
	now := time.Now().Truncate(time.Second)
	old := podRequest(t, k)
	done := func(kinds ...string) certificatesv1.PodCertificateRequestStatus {
		var s certificatesv1.PodCertificateRequestStatus
		for _, kind := range kinds {
			s.Conditions = append(s.Conditions, metav1.Condition{Type: kind, Status: "True", Reason: "Because", LastTransitionTime: metav1.Now()})
		}
		return s
	}
	issued := done("Issued")
	issued.CertificateChain = armour("CERTIFICATE", certificate(t, k, false, now, 2*time.Hour))
	issued.NotBefore, issued.NotAfter = ptr.To(metav1.NewTime(now)), ptr.To(metav1.NewTime(now.Add(2*time.Hour)))
	issued.BeginRefreshAt = ptr.To(metav1.NewTime(now.Add(time.Hour)))
	but := func(change func(*certificatesv1.PodCertificateRequestStatus)) certificatesv1.PodCertificateRequestStatus {
		s := *issued.DeepCopy()
		change(&s)
		return s
	}
	ended := old.DeepCopy()
	ended.Status = done("Denied")
	for _, c := range []struct {
		name string
		old  *certificatesv1.PodCertificateRequest
		is   certificatesv1.PodCertificateRequestStatus
		want []string
	}{
		{"nothing", old, certificatesv1.PodCertificateRequestStatus{}, nil},
		{"denied", old, done("Denied"), nil},
		{"failed", old, done("Failed"), nil},
		{"issued", old, issued, nil},
		{"two at once", old, done("Denied", "Failed"), []string{"status.conditions[1].type: Invalid value"}},
		{"another", old, done("Ready"), []string{"status.conditions[0].type: Unsupported value"}},
		{"after the end", ended, issued, []string{"status: Invalid value"}},
		{"a chain without saying so", old, certificatesv1.PodCertificateRequestStatus{CertificateChain: "x"}, []string{"status: Invalid value"}},
		{"a chain and denied", old, but(func(s *certificatesv1.PodCertificateRequestStatus) { s.Conditions = done("Denied").Conditions }), []string{"status: Invalid value"}},
		{"without times", old, but(func(s *certificatesv1.PodCertificateRequestStatus) {
			s.NotBefore, s.NotAfter, s.BeginRefreshAt = nil, nil, nil
		}),
			[]string{"status.beginRefreshAt: Required value", "status.notAfter: Required value", "status.notBefore: Required value"}},
		{"wrong end", old, but(func(s *certificatesv1.PodCertificateRequestStatus) { s.NotAfter = ptr.To(metav1.NewTime(now)) }), []string{"status.notAfter: Invalid value"}},
		{"late refresh", old, but(func(s *certificatesv1.PodCertificateRequestStatus) { s.BeginRefreshAt = s.NotAfter }), []string{"status.beginRefreshAt: Invalid value"}},
		{"early refresh", old, but(func(s *certificatesv1.PodCertificateRequestStatus) { s.BeginRefreshAt = s.NotBefore }), []string{"status.beginRefreshAt: Invalid value"}},
		{"another's key", old, but(func(s *certificatesv1.PodCertificateRequestStatus) {
			s.CertificateChain = armour("CERTIFICATE", certificate(t, key(t), false, now, 2*time.Hour))
		}), []string{"status.certificateChain: Invalid value"}},
		{"short", old, but(func(s *certificatesv1.PodCertificateRequestStatus) {
			s.CertificateChain, s.NotAfter = armour("CERTIFICATE", certificate(t, k, false, now, time.Minute)), ptr.To(metav1.NewTime(now.Add(time.Minute)))
		}), []string{"status.certificateChain: Invalid value"}},
		{"a broken rest", old, but(func(s *certificatesv1.PodCertificateRequestStatus) {
			s.CertificateChain += armour("CERTIFICATE", []byte("x"))
		}),
			[]string{"status.certificateChain: Invalid value"}},
		{"a key in the chain", old, but(func(s *certificatesv1.PodCertificateRequestStatus) { s.CertificateChain += armour("KEY", []byte("x")) }),
			[]string{"status.certificateChain: Invalid value"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := c.old.DeepCopy()
			r.Status = c.is
			expect(t, PodCertificateRequests.ValidateStatus(r, c.old), c.want...)
		})
	}
}
