package csrsign

import (
	"crypto/x509"
	"fmt"
	"slices"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"

	"pilothouse.dev/pkg/pki"
)

// Times of a certificate: clocks may be behind by backdate, which counts as life of those that live long; nothing shorter than
// leastLife is issued.
const (
	backdate  = 5 * time.Minute
	short     = 8 * time.Hour
	leastLife = 10 * time.Minute
)

// decide says what certificate a request gets, for the key in it; the error is why its signer refuses.
func decide(r *certificatesv1.CertificateSigningRequest, most time.Duration, now time.Time) (leaf *x509.Certificate, public any, err error) {
	csr, err := pki.ParseRequest(r.Spec.Request)
	if err != nil {
		return nil, nil, fmt.Errorf("unable to parse csr %q: %w", r.Name, err)
	}
	if rule := rules[r.Spec.SignerName]; rule != nil {
		if err := rule(csr, r.Spec.Usages); err != nil {
			return nil, nil, err
		}
	}
	usage, extended, err := usages(r.Spec.Usages)
	if err != nil {
		return nil, nil, err
	}
	life := lifetime(r.Spec.ExpirationSeconds, most)
	end := now.Add(life)
	if life >= short {
		end = end.Add(-backdate)
	}
	return &x509.Certificate{
		Subject: csr.Subject, DNSNames: csr.DNSNames, IPAddresses: csr.IPAddresses, EmailAddresses: csr.EmailAddresses, URIs: csr.URIs,
		NotBefore: now.Add(-backdate), NotAfter: end, KeyUsage: usage, ExtKeyUsage: extended,
	}, csr.PublicKey, nil
}

// lifetime is what was asked for, within bounds.
func lifetime(asked *int32, most time.Duration) time.Duration {
	if asked == nil {
		return most
	}
	return min(max(time.Duration(*asked)*time.Second, leastLife), most)
}

var plainUsages = map[certificatesv1.KeyUsage]x509.KeyUsage{
	certificatesv1.UsageSigning:           x509.KeyUsageDigitalSignature,
	certificatesv1.UsageDigitalSignature:  x509.KeyUsageDigitalSignature,
	certificatesv1.UsageContentCommitment: x509.KeyUsageContentCommitment,
	certificatesv1.UsageKeyEncipherment:   x509.KeyUsageKeyEncipherment,
	certificatesv1.UsageKeyAgreement:      x509.KeyUsageKeyAgreement,
	certificatesv1.UsageDataEncipherment:  x509.KeyUsageDataEncipherment,
	certificatesv1.UsageCertSign:          x509.KeyUsageCertSign,
	certificatesv1.UsageCRLSign:           x509.KeyUsageCRLSign,
	certificatesv1.UsageEncipherOnly:      x509.KeyUsageEncipherOnly,
	certificatesv1.UsageDecipherOnly:      x509.KeyUsageDecipherOnly,
}

var extendedUsages = map[certificatesv1.KeyUsage]x509.ExtKeyUsage{
	certificatesv1.UsageAny:             x509.ExtKeyUsageAny,
	certificatesv1.UsageServerAuth:      x509.ExtKeyUsageServerAuth,
	certificatesv1.UsageClientAuth:      x509.ExtKeyUsageClientAuth,
	certificatesv1.UsageCodeSigning:     x509.ExtKeyUsageCodeSigning,
	certificatesv1.UsageEmailProtection: x509.ExtKeyUsageEmailProtection,
	certificatesv1.UsageSMIME:           x509.ExtKeyUsageEmailProtection,
	certificatesv1.UsageIPsecEndSystem:  x509.ExtKeyUsageIPSECEndSystem,
	certificatesv1.UsageIPsecTunnel:     x509.ExtKeyUsageIPSECTunnel,
	certificatesv1.UsageIPsecUser:       x509.ExtKeyUsageIPSECUser,
	certificatesv1.UsageTimestamping:    x509.ExtKeyUsageTimeStamping,
	certificatesv1.UsageOCSPSigning:     x509.ExtKeyUsageOCSPSigning,
	certificatesv1.UsageMicrosoftSGC:    x509.ExtKeyUsageMicrosoftServerGatedCrypto,
	certificatesv1.UsageNetscapeSGC:     x509.ExtKeyUsageNetscapeServerGatedCrypto,
}

func usages(asked []certificatesv1.KeyUsage) (plain x509.KeyUsage, extended []x509.ExtKeyUsage, err error) {
	for _, u := range asked {
		p, isPlain := plainUsages[u]
		e, isExtended := extendedUsages[u]
		switch {
		case isPlain:
			plain |= p
		case isExtended:
			if !slices.Contains(extended, e) {
				extended = append(extended, e)
			}
		default:
			return 0, nil, fmt.Errorf("unrecognized usage values: [%q]", u)
		}
	}
	slices.Sort(extended)
	return plain, extended, nil
}
