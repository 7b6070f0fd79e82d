package volumes

import (
	"context"
	"encoding/pem"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"pilothouse.dev/pkg/pod"
)

// setupProjected joins several sources; where two write the same path the later one wins. In memory, since secrets may be among them.
func setupProjected(ctx context.Context, g Ground) (Volume, error) {
	files, def := map[string]file{}, mode(g.Volume.Projected.DefaultMode)
	var renew time.Time
	for _, src := range g.Volume.Projected.Sources {
		var part map[string]file
		var err error
		switch {
		case src.ConfigMap != nil:
			part, err = g.configMap(src.ConfigMap.Name, src.ConfigMap.Items, src.ConfigMap.Optional, def)
		case src.Secret != nil:
			part, err = g.secret(src.Secret.Name, src.Secret.Items, src.Secret.Optional, def)
		case src.DownwardAPI != nil:
			part, err = g.downward(src.DownwardAPI.Items, def)
		case src.ServiceAccountToken != nil:
			var due time.Time
			part, due, err = g.token(ctx, src.ServiceAccountToken, def)
			renew = sooner(renew, due)
		case src.ClusterTrustBundle != nil:
			part, err = g.trustBundle(src.ClusterTrustBundle, def)
		case src.PodCertificate != nil:
			var due time.Time
			part, due, err = g.certificate(ctx, src.PodCertificate, def)
			renew = sooner(renew, due)
		default:
			err = fmt.Errorf("source of a projected volume: %w", ErrUnsupported)
		}
		if err != nil {
			return Volume{}, err
		}
		for name, f := range part {
			files[name] = f
		}
	}
	if err := mountTmpfs(g.Dir, "mode=0755"); err != nil {
		return Volume{}, err
	}
	v, err := g.content(files)
	v.Renew = renew
	return v, err
}

// token is the file of a service account token. Only who the pod's containers run as may read it, where that can be told
// (https://kubernetes.io/docs/concepts/storage/projected-volumes/#securitycontext-interactions).
func (g Ground) token(ctx context.Context, p *corev1.ServiceAccountTokenProjection, def int32) (map[string]file, time.Time, error) {
	name, err := inside(p.Path)
	if err != nil {
		return nil, time.Time{}, err
	}
	text, renew, err := g.Tokens.Token(ctx, g.Pod, p)
	if err != nil {
		return nil, time.Time{}, err
	}
	return map[string]file{name: g.private([]byte(text), def)}, renew, nil
}

// certificate is the files of a certificate of the pod and its key: both in one, which a reader never sees half, or each in its own
// (https://kubernetes.io/docs/concepts/storage/projected-volumes/#podcertificate).
func (g Ground) certificate(ctx context.Context, p *corev1.PodCertificateProjection, def int32) (map[string]file, time.Time, error) {
	if g.Certificates == nil {
		return nil, time.Time{}, fmt.Errorf("pod certificate: %w", ErrUnsupported)
	}
	key, chain, renew, err := g.Certificates.Certificate(ctx, g.Pod, p)
	if err != nil {
		return nil, time.Time{}, err
	}
	files := map[string]file{}
	for to, data := range map[string][]byte{p.CredentialBundlePath: slices.Concat(key, chain), p.KeyPath: key, p.CertificateChainPath: chain} {
		if to == "" {
			continue
		}
		name, err := inside(to)
		if err != nil {
			return nil, time.Time{}, err
		}
		files[name] = g.private(data, def)
	}
	return files, renew, nil
}

// private is a file for whom the pod's containers run as, and for the pod's group.
func (g Ground) private(data []byte, def int32) file {
	f := file{data: data, mode: def, uid: onlyUser(g.Pod)}
	if f.uid != nil || fsGroup(g.Pod) != nil {
		f.mode = 0o600
	}
	return f
}

// onlyUser is the user whom all containers of a pod run as, nil when they differ or it is left to the image.
func onlyUser(p *corev1.Pod) *int64 {
	var whole, only *int64
	if s := p.Spec.SecurityContext; s != nil {
		whole = s.RunAsUser
	}
	for _, c := range pod.Containers(p) {
		user := whole
		if c.SecurityContext != nil && c.SecurityContext.RunAsUser != nil {
			user = c.SecurityContext.RunAsUser
		}
		if user == nil || only != nil && *user != *only {
			return nil
		}
		only = user
	}
	return only
}

// sooner is the earlier of two times, of which the zero time is none.
func sooner(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// trustBundle is the file with the certificates of one bundle, or of those of a signer that the selector chooses: each certificate once, in
// an order that only depends on what they are (https://kubernetes.io/docs/concepts/storage/projected-volumes/#clustertrustbundle).
func (g Ground) trustBundle(p *corev1.ClusterTrustBundleProjection, def int32) (map[string]file, error) {
	name, err := inside(p.Path)
	if err != nil {
		return nil, err
	}
	texts, err := g.bundles(p)
	if err != nil {
		return nil, err
	}
	if len(texts) == 0 && !isTrue(p.Optional) {
		return nil, fmt.Errorf("combination of signerName %q and labelSelector matched zero ClusterTrustBundles", *p.SignerName)
	}
	data, err := certificates(texts)
	if err != nil {
		return nil, err
	}
	return map[string]file{name: {data: data, mode: def}}, nil
}

// bundles are the texts of the bundles that a source wants.
func (g Ground) bundles(p *corev1.ClusterTrustBundleProjection) ([]string, error) {
	switch {
	case p.Name != nil:
		b, err := g.Look.TrustBundle(*p.Name)
		if apierrors.IsNotFound(err) && isTrue(p.Optional) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		return []string{b.Spec.TrustBundle}, nil
	case p.SignerName != nil:
		selector, err := metav1.LabelSelectorAsSelector(p.LabelSelector) // none chooses nothing, an empty one everything
		if err != nil {
			return nil, fmt.Errorf("reading the label selector: %w", err)
		}
		all, err := g.Look.TrustBundles(*p.SignerName)
		if err != nil {
			return nil, err
		}
		var texts []string
		for _, b := range all {
			if selector.Matches(labels.Set(b.Labels)) {
				texts = append(texts, b.Spec.TrustBundle)
			}
		}
		return texts, nil
	}
	return nil, fmt.Errorf("a trust bundle without name and signerName: %w", ErrUnsupported)
}

// certificates joins bundles: bare certificates, each once, sorted.
func certificates(texts []string) ([]byte, error) {
	var blocks []string
	for _, text := range texts {
		for rest := []byte(text); ; {
			var block *pem.Block
			if block, rest = pem.Decode(rest); block == nil {
				break
			}
			if block.Type != "CERTIFICATE" {
				return nil, fmt.Errorf("a trust bundle holds a %s", strings.ToLower(block.Type))
			}
			blocks = append(blocks, string(pem.EncodeToMemory(&pem.Block{Type: block.Type, Bytes: block.Bytes})))
		}
	}
	slices.Sort(blocks)
	return []byte(strings.Join(slices.Compact(blocks), "")), nil
}

func isTrue(b *bool) bool { return b != nil && *b }
