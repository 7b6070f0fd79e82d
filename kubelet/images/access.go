package images

import (
	"context"
	"slices"
	"strings"

	"github.com/containerd/containerd/images"
	"github.com/distribution/reference"

	"pilothouse.dev/kubelet/credentials"
)

// VerifyPolicy says which images that are here a pod may use only if its credentials open them
// (https://kubernetes.io/docs/concepts/containers/images/#ensureimagepullcredentialverification).
type VerifyPolicy string

// The policies. Preloaded is what the kubelet has not pulled itself.
const (
	NeverVerify                       VerifyPolicy = "NeverVerify"
	NeverVerifyPreloaded              VerifyPolicy = "NeverVerifyPreloadedImages"
	NeverVerifyAllowlisted            VerifyPolicy = "NeverVerifyAllowlistedImages"
	AlwaysVerify                      VerifyPolicy = "AlwaysVerify"
	labelPulled                                    = "pilothouse.dev/pulled" // when the kubelet pulled what has this name
	labelAccess                                    = "pilothouse.dev/access" // who may have it: see below
	ofNode                                         = "node"
	secretMark, accountMark, hashMark              = "s.", "a.", "h."
	mostAccess                                     = 3800 // a label with its key has at most 4096 bytes
)

// The access label is «node» if a pull without a pod's credentials succeeded, else a list with commas: s.UID of the secrets and a.UID of the
// service accounts whose credentials opened the image, h.HASH of those credentials. A record that was pulled but has no label is of a kubelet
// that ended in between: nobody may have it until it is pulled again.

// VerifyPolicies are all there are.
func VerifyPolicies() []VerifyPolicy {
	return []VerifyPolicy{NeverVerify, NeverVerifyPreloaded, NeverVerifyAllowlisted, AlwaysVerify}
}

// may says whether the pod may use an image that is here without asking the registry.
func (s *Store) may(ctx context.Context, record images.Image, k *keys) bool {
	policy := s.cfg.Verify
	if policy == "" {
		policy = NeverVerifyPreloaded
	}
	preloaded := record.Labels[labelPulled] == ""
	switch {
	case policy == NeverVerify, preloaded && policy == NeverVerifyPreloaded,
		preloaded && policy == NeverVerifyAllowlisted && allowed(s.cfg.Allowlist, k.named):
		return true
	case record.Labels[labelAccess] == ofNode:
		return true
	}
	who := strings.Split(record.Labels[labelAccess], ",")
	return slices.ContainsFunc(k.list(ctx), func(c credentials.Credential) bool {
		return slices.ContainsFunc(marks(c, record.Target.Digest.String()), func(m string) bool { return slices.Contains(who, m) })
	})
}

// allowed says whether the list names the image's repository, or one above it with a star.
func allowed(list []string, named reference.Named) bool {
	return slices.ContainsFunc(list, func(pattern string) bool {
		if prefix, ok := strings.CutSuffix(pattern, "*"); ok {
			return strings.HasSuffix(prefix, "/") && strings.HasPrefix(named.Name(), prefix)
		}
		return pattern == named.Name()
	})
}

// marks are by what a credential is found in the label of the image with this digest.
func marks(c credentials.Credential, digest string) []string {
	out := []string{hashMark + c.Hash(digest)}
	if c.Secret != "" {
		out = append(out, secretMark+string(c.Secret))
	}
	if c.Account != "" {
		out = append(out, accountMark+string(c.Account))
	}
	return out
}

// open are all the credentials that are proven when one of them has opened an image: those that hold the same.
func open(c credentials.Credential, all []credentials.Credential) []credentials.Credential {
	var same []credentials.Credential
	for _, other := range all {
		if other.Same(c) {
			same = append(same, other)
		}
	}
	return same
}

// access is the new label of an image of this digest that these credentials have opened; none: everybody can.
func access(before, digest string, proven []credentials.Credential) string {
	if before == ofNode || len(proven) == 0 || slices.ContainsFunc(proven, credentials.Credential.OfNode) {
		return ofNode
	}
	var who []string
	if before != "" {
		who = strings.Split(before, ",")
	}
	for _, c := range proven {
		for _, m := range marks(c, digest) {
			if !slices.Contains(who, m) {
				who = append(who, m)
			}
		}
	}
	for len(strings.Join(who, ",")) > mostAccess {
		who = who[1:] // who was first has to show the credential to the registry again
	}
	return strings.Join(who, ",")
}
