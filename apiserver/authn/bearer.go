package authn

import (
	"encoding/base64"
	"errors"
	"net/http"
	"strings"
	"unicode/utf8"
)

// Where credentials are in a request.
const (
	authorization = "Authorization"
	protocols     = "Sec-Websocket-Protocol"
	// A browser cannot set a header of a WebSocket, so it names a protocol that ends in the token
	// (https://kubernetes.io/docs/reference/access-authn-authz/authentication/#putting-a-bearer-token-in-a-websocket-subprotocol).
	protocolPrefix = "base64url.bearer.authorization.k8s.io."
)

// bearerOf is the token of the Authorization header (RFC 6750 section 2.1), empty without one.
func bearerOf(h http.Header) (string, error) {
	header := h.Get(authorization)
	if header == "" {
		return "", nil
	}
	scheme, token, _ := strings.Cut(header, " ")
	token = strings.TrimSpace(token)
	if !strings.EqualFold(scheme, "bearer") || token == "" {
		return "", errCredentials
	}
	return token, nil
}

// protocolOf is the token among the protocols of a WebSocket, empty without one.
func protocolOf(h http.Header) (string, error) {
	if len(h[protocols]) == 0 || !isWebSocket(h) {
		return "", nil
	}
	token, others := "", false
	for _, line := range h[protocols] {
		for p := range strings.SplitSeq(line, ",") {
			encoded, ok := strings.CutPrefix(strings.TrimSpace(p), protocolPrefix)
			if !ok {
				others = true
				continue
			}
			if token != "" {
				return "", errors.New("multiple base64.bearer.authorization tokens specified")
			}
			b, err := base64.RawURLEncoding.DecodeString(encoded)
			if err != nil {
				return "", errors.New("invalid base64.bearer.authorization token encoding")
			}
			if len(b) == 0 || !utf8.Valid(b) {
				return "", errors.New("invalid base64.bearer.authorization token")
			}
			token = string(b)
		}
	}
	if token != "" && !others {
		return "", errors.New("missing additional subprotocol") // the answer must name one, and not that with the token
	}
	return token, nil
}

func isWebSocket(h http.Header) bool {
	if !strings.EqualFold(h.Get("Upgrade"), "websocket") {
		return false
	}
	for _, line := range h["Connection"] {
		for word := range strings.SplitSeq(line, ",") {
			if strings.EqualFold(strings.TrimSpace(word), "upgrade") {
				return true
			}
		}
	}
	return false
}

// The headers by which a front proxy usually tells a caller. They are taken out of every request, also where no proxy is believed:
// who gets the request from us must be able to believe them.
const remotePrefix = "X-Remote-"

var remoteHeaders = []string{remotePrefix + "User", remotePrefix + "Uid", remotePrefix + "Group"}

// clean takes out of a request all that tells a caller, so that nobody behind us sees it or believes it.
func (a *Authenticator) clean(h http.Header) {
	delete(h, authorization)
	cleanProtocols(h)
	for name := range h {
		if len(name) <= len(remotePrefix) || !strings.EqualFold(name[:len(remotePrefix)], remotePrefix) {
			continue
		}
		if hasPrefixFold(name, remotePrefix+"Extra-") || containsFold(remoteHeaders, name) {
			delete(h, name)
		}
	}
	if a.front != nil {
		a.front.clean(h)
	}
}

func cleanProtocols(h http.Header) {
	lines := h[protocols]
	if len(lines) == 0 || !strings.Contains(strings.Join(lines, ","), protocolPrefix) {
		return
	}
	var kept []string
	for p := range strings.SplitSeq(strings.Join(lines, ","), ",") {
		if p = strings.TrimSpace(p); !strings.HasPrefix(p, protocolPrefix) {
			kept = append(kept, p)
		}
	}
	h.Set(protocols, strings.Join(kept, ","))
}

func hasPrefixFold(s, prefix string) bool {
	return len(s) >= len(prefix) && strings.EqualFold(s[:len(prefix)], prefix)
}

func containsFold(all []string, s string) bool {
	for _, a := range all {
		if strings.EqualFold(a, s) {
			return true
		}
	}
	return false
}
