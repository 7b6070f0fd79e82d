// Package bootstraptokens keeps what nodes join by (https://kubernetes.io/docs/reference/access-authn-authz/bootstrap-tokens/):
// Signer signs the ConfigMap kube-public/cluster-info with every token that may sign, so that who knows only a token can tell
// whether the authority he reads there is the cluster's; Cleaner deletes tokens that have ended. A token is never part of a log
// line or an error.
package bootstraptokens

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"regexp"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/tools/cache"

	"pilothouse.dev/controller-manager/loop"
	"pilothouse.dev/pkg/client"
)

const (
	secretType = corev1.SecretTypeBootstrapToken
	namePrefix = "bootstrap-token-"
)

var (
	goodID     = regexp.MustCompile(`^[a-z0-9]{6}$`)
	goodSecret = regexp.MustCompile(`^[a-z0-9]{16}$`)
)

// secrets is an informer of the tokens alone.
func secrets(t loop.Tools) cache.SharedIndexInformer {
	f := client.Informers(t.Watching.Kube, informers.WithNamespace(metav1.NamespaceSystem), informers.WithTweakListOptions(func(o *metav1.ListOptions) {
		o.FieldSelector = fields.OneTermEqualSelector("type", string(secretType)).String()
	}))
	return f.Core().V1().Secrets().Informer()
}

// ends is when a token ends, if it does; one whose time cannot be read has ended.
func ends(s *corev1.Secret) (at time.Time, does bool) {
	text, ok := s.Data["expiration"]
	if !ok || len(text) == 0 {
		return time.Time{}, false
	}
	at, err := time.Parse(time.RFC3339, string(text))
	if err != nil {
		return time.Time{}, true
	}
	return at, true
}

// signs says with which token a secret signs, if it does now.
func signs(s *corev1.Secret, now time.Time) (id string, key []byte, ok bool) {
	id, key = string(s.Data["token-id"]), s.Data["token-secret"]
	at, does := ends(s)
	ok = s.Type == secretType && s.DeletionTimestamp == nil && string(s.Data["usage-bootstrap-signing"]) == "true" &&
		goodID.MatchString(id) && s.Name == namePrefix+id && goodSecret.Match(key) && !(does && !now.Before(at))
	return id, key, ok
}

// sign is the detached signature (RFC 7515, appendix F) of a text by a token: header and signature, and nothing between the dots.
func sign(text, id string, key []byte) (string, error) {
	header, err := json.Marshal(struct {
		Alg string `json:"alg"`
		Kid string `json:"kid"`
	}{"HS256", id})
	if err != nil {
		return "", fmt.Errorf("writing a signature's header: %w", err)
	}
	encode := base64.RawURLEncoding.EncodeToString
	head := encode(header)
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(head + "." + encode([]byte(text))))
	return head + ".." + encode(mac.Sum(nil)), nil
}
