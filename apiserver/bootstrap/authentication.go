package bootstrap

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"pilothouse.dev/pkg/pki"
)

// authenticationMap tells servers behind this one how callers prove who they are.
const authenticationMap = "extension-apiserver-authentication"

// authentication publishes it. Several API servers may have different authorities for a while, so those that are there already stay
// until they expire; of everything else the last who speaks is right.
func (b *Bootstrap) authentication(ctx context.Context) error {
	if b.cfg.Authentication == nil {
		return nil
	}
	want, err := b.cfg.Authentication()
	if err != nil {
		return err
	}
	client := b.core.ConfigMaps(metav1.NamespaceSystem)
	have, err := client.Get(ctx, authenticationMap, metav1.GetOptions{ResourceVersion: "0"})
	switch {
	case apierrors.IsNotFound(err):
		_, err = client.Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: authenticationMap}, Data: want}, metav1.CreateOptions{})
	case err == nil:
		if merged := mergeAuthentication(have.Data, want, time.Now()); merged != nil {
			have.Data = merged
			_, err = client.Update(ctx, have, metav1.UpdateOptions{})
		}
	}
	if err != nil && !apierrors.IsAlreadyExists(err) && !apierrors.IsConflict(err) { // another server was quicker; the next round looks again
		return fmt.Errorf("publishing how callers are told: %w", err)
	}
	return nil
}

// mergeAuthentication is have with want put in; nil when that changes nothing.
func mergeAuthentication(have, want map[string]string, now time.Time) map[string]string {
	next := maps.Clone(have)
	if next == nil {
		next = map[string]string{}
	}
	for key, value := range want {
		if strings.HasSuffix(key, "client-ca-file") {
			value = mergeAuthorities(have[key], value, now)
		}
		next[key] = value
	}
	if maps.Equal(have, next) {
		return nil
	}
	return next
}

// mergeAuthorities are those of want, then those of have that are others and not expired.
func mergeAuthorities(have, want string, now time.Time) string {
	ours, err := pki.ParseCertificates([]byte(want))
	if err != nil {
		return want
	}
	theirs, err := pki.ParseCertificates([]byte(have))
	if err != nil {
		return want // there is nothing, or nothing that is of use
	}
	kept := ours
	for _, c := range theirs {
		if now.Before(c.NotAfter) && !contains(kept, c.Raw) {
			kept = append(kept, c)
		}
	}
	if len(kept) == len(theirs) { // the same set: who stands first must not make two servers write in turn
		same := true
		for _, c := range kept {
			same = same && contains(theirs, c.Raw)
		}
		if same {
			return have
		}
	}
	var out bytes.Buffer
	for _, c := range kept {
		out.Write(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}))
	}
	return out.String()
}

func contains(all []*x509.Certificate, der []byte) bool {
	return slices.ContainsFunc(all, func(c *x509.Certificate) bool { return bytes.Equal(c.Raw, der) })
}

const lastUsedLabel = "kubernetes.io/legacy-token-last-used"

// MarkUsed labels a secret of a service account's token with the day on which it was last used. It writes as this very server.
func (b *Bootstrap) MarkUsed(ctx context.Context, secret *corev1.Secret, day string) error {
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"uid": secret.UID, "labels": map[string]string{lastUsedLabel: day}}})
	if err != nil {
		return err
	}
	_, err = b.core.Secrets(secret.Namespace).Patch(ctx, secret.Name, types.MergePatchType, patch, metav1.PatchOptions{})
	return err
}
