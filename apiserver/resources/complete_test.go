package resources

import (
	"regexp"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/runtime/schema"
)

// apart are the types of stable group versions that are no resources of their own.
var apart = map[string]string{
	"/v1 List":                                 "a list of anything; clients make and read it",
	"/v1 SerializedReference":                  "the text of an annotation",
	"/v1 RangeAllocation":                      "how upstream stores its bitmaps; never served",
	"/v1 NodeProxyOptions":                     "the query of nodes/proxy",
	"/v1 PodAttachOptions":                     "the query of pods/attach",
	"/v1 PodExecOptions":                       "the query of pods/exec",
	"/v1 PodLogOptions":                        "the query of pods/log",
	"/v1 PodPortForwardOptions":                "the query of pods/portforward",
	"/v1 PodProxyOptions":                      "the query of pods/proxy",
	"/v1 ServiceProxyOptions":                  "the query of services/proxy",
	"apiextensions.k8s.io/v1 ConversionReview": "what this server sends to webhooks",
	"authentication.k8s.io/v1 TokenRequest":    "the subresource serviceaccounts/token",
	"autoscaling/v1 Scale":                     "the subresource scale",
	"policy/v1 Eviction":                       "the subresource pods/eviction",
}

var stableVersion = regexp.MustCompile(`^v[0-9]+$`)

// Every type that k8s.io/api calls stable is served, or stands in the list above.
func TestEveryStableKindIsServed(t *testing.T) {
	served := map[schema.GroupVersionKind]bool{}
	for _, r := range Table {
		served[r.GVK] = true
	}
	left := map[string]bool{}
	for text := range apart {
		left[text] = true
	}
	for gvk, goType := range everyType(t).AllKnownTypes() {
		text := gvk.GroupVersion().String() + " " + gvk.Kind
		if gvk.Group == "" {
			text = "/" + text
		}
		if !stableVersion.MatchString(gvk.Version) || strings.Contains(goType.PkgPath(), "k8s.io/apimachinery/") {
			continue
		}
		if base, ok := strings.CutSuffix(gvk.Kind, "List"); ok && base != "" {
			continue
		}
		if apart[text] != "" {
			if served[gvk] {
				t.Errorf("%s is served, and said not to be", text)
			}
			delete(left, text)
			continue
		}
		if !served[gvk] {
			t.Errorf("%s is not served", text)
		}
	}
	for text := range left {
		t.Errorf("%s is no type", text)
	}
}
