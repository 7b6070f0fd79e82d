package csi

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// tokensKey is where a driver finds the tokens of the pod's account (https://kubernetes-csi.github.io/docs/token-requests.html).
const tokensKey = "csi.storage.k8s.io/serviceAccount.tokens"

// secrets reads what a driver is to be given with a call, by the field that names it.
func (d *Drivers) secrets(ctx context.Context, field string, ref *corev1.SecretReference) (map[string]string, error) {
	if ref == nil {
		return nil, nil
	}
	s, err := d.parts.Kube.CoreV1().Secrets(ref.Namespace).Get(ctx, ref.Name, metav1.GetOptions{})
	if err != nil {
		return nil, fmt.Errorf("fetching %s %s/%s failed: kubernetes.io/csi: failed to find the secret %s in the namespace %s with error: %w",
			field, ref.Namespace, ref.Name, ref.Name, ref.Namespace, err)
	}
	out := map[string]string{}
	for k, v := range s.Data {
		out[k] = string(v)
	}
	return out, nil
}

// context is what a driver is told when it publishes a volume: what the volume says, who the pod is and its tokens, as the driver's object asks.
// The tokens are among the secrets if that says so.
func (d *Drivers) context(ctx context.Context, o *storagev1.CSIDriver, v *Volume, secrets map[string]string) (said, withTokens map[string]string, err error) {
	said = maps.Clone(v.attributes)
	if o == nil {
		return said, secrets, nil
	}
	if said == nil {
		said = map[string]string{}
	}
	if o.Spec.PodInfoOnMount != nil && *o.Spec.PodInfoOnMount {
		v.podInfo(said)
	}
	if len(o.Spec.TokenRequests) == 0 {
		return said, secrets, nil
	}
	tokens := map[string]authenticationv1.TokenRequestStatus{}
	for _, want := range o.Spec.TokenRequests {
		token, _, err := d.parts.Tokens.Token(ctx, v.Pod, &corev1.ServiceAccountTokenProjection{Audience: want.Audience, ExpirationSeconds: want.ExpirationSeconds})
		if err != nil {
			return nil, nil, err
		}
		ends, err := expiry(token)
		if err != nil {
			return nil, nil, fmt.Errorf("reading when a token ends: %w", err)
		}
		tokens[want.Audience] = authenticationv1.TokenRequestStatus{Token: token, ExpirationTimestamp: metav1.NewTime(ends)}
	}
	text, err := json.Marshal(tokens)
	if err != nil {
		return nil, nil, fmt.Errorf("encoding tokens: %w", err)
	}
	if in := o.Spec.ServiceAccountTokenInSecrets; in != nil && *in {
		if secrets == nil {
			secrets = map[string]string{}
		}
		secrets[tokensKey] = string(text)
	} else {
		said[tokensKey] = string(text)
	}
	return said, secrets, nil
}

// expiry is when a token says that it ends. Its content is never part of an error.
func expiry(token string) (time.Time, error) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return time.Time{}, errors.New("it has not three parts")
	}
	text, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return time.Time{}, errors.New("its claims are not base64")
	}
	var claims struct {
		Ends int64 `json:"exp"`
	}
	if json.Unmarshal(text, &claims) != nil || claims.Ends == 0 {
		return time.Time{}, errors.New("it does not say")
	}
	return time.Unix(claims.Ends, 0).UTC(), nil
}
