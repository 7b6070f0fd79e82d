package csrclean

import (
	"testing"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"pilothouse.dev/pkg/pki"
)

func TestUntil(t *testing.T) {
	born := time.Now().Truncate(time.Second)
	later := born.Add(10 * time.Minute)
	ca, err := pki.NewAuthority("ca")
	if err != nil {
		t.Fatal(err)
	}
	short, err := ca.Issue(pki.Identity{Name: "a"}, 30*time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	long, err := ca.Issue(pki.Identity{Name: "a"}, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name       string
		conditions []certificatesv1.RequestConditionType
		cert       []byte
		want       time.Duration // from birth; 0: never
	}{
		{"nobody looked", nil, nil, pending},
		{"approved and not signed", []certificatesv1.RequestConditionType{"Approved"}, nil, 0},
		{"denied", []certificatesv1.RequestConditionType{"Denied"}, nil, 70 * time.Minute},
		{"failed", []certificatesv1.RequestConditionType{"Approved", "Failed"}, nil, 70 * time.Minute},
		{"issued", []certificatesv1.RequestConditionType{"Approved"}, long.Cert, 70 * time.Minute},
		{"ended", []certificatesv1.RequestConditionType{"Approved"}, short.Cert, 30 * time.Minute},
		{"something else", []certificatesv1.RequestConditionType{"Noted"}, nil, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := &certificatesv1.CertificateSigningRequest{}
			r.CreationTimestamp = metav1.NewTime(born)
			r.Status.Certificate = c.cert
			for _, kind := range c.conditions {
				r.Status.Conditions = append(r.Status.Conditions, certificatesv1.CertificateSigningRequestCondition{Type: kind, LastUpdateTime: metav1.NewTime(later)})
			}
			end, ends := until(r)
			if got := end.Sub(born).Round(10 * time.Second); ends != (c.want != 0) || ends && got != c.want {
				t.Errorf("goes after %v (%v), want %v", got, ends, c.want)
			}
		})
	}
}
