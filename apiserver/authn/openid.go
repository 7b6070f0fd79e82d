package authn

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	jose "github.com/go-jose/go-jose/v4"
)

// Documents are what others need to check our tokens by themselves, by path: the provider's description and its keys
// (https://kubernetes.io/docs/tasks/configure-pod-container/configure-service-account/#service-account-issuer-discovery). There
// are none when the issuer is no https URL: then nobody could ask for them.
func (t *Tokens) Documents() (map[string]http.HandlerFunc, error) {
	if len(t.cfg.Issuers) == 0 || !strings.HasPrefix(t.cfg.Issuers[0], "https://") || len(t.keys) == 0 {
		return nil, nil
	}
	methods := make([]string, 0, len(t.methods))
	for _, m := range t.methods {
		methods = append(methods, string(m))
	}
	about, err := json.Marshal(struct {
		Issuer    string   `json:"issuer"`
		Keys      string   `json:"jwks_uri"`
		Responses []string `json:"response_types_supported"`
		Subjects  []string `json:"subject_types_supported"`
		Methods   []string `json:"id_token_signing_alg_values_supported"`
	}{t.cfg.Issuers[0], t.cfg.KeysURL, []string{"id_token"}, []string{"public"}, methods})
	if err != nil {
		return nil, fmt.Errorf("describing the issuer of tokens: %w", err)
	}
	set := jose.JSONWebKeySet{Keys: []jose.JSONWebKey{}}
	for _, k := range t.keys {
		set.Keys = append(set.Keys, jose.JSONWebKey{Key: k.key, KeyID: k.id, Algorithm: string(k.method), Use: "sig"})
	}
	keys, err := json.Marshal(set)
	if err != nil {
		return nil, fmt.Errorf("listing the keys of tokens: %w", err)
	}
	return map[string]http.HandlerFunc{
		"/.well-known/openid-configuration": document("application/json", about),
		KeysPath:                            document("application/jwk-set+json", keys),
	}, nil
}

// KeysPath is where this server shows its keys.
const KeysPath = "/openid/v1/jwks"

func document(media string, body []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", media)
		w.Header().Set("Cache-Control", "public, max-age=3600")
		_, _ = w.Write(body) // who went away does not want to know
	}
}
