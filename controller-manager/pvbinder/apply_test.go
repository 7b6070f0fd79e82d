package pvbinder

import (
	"errors"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"

	"pilothouse.dev/controller-manager/loop"
)

// TestChooseBesideAnother is a claim that finds a volume which another claim is getting at this moment. That may fail, and nothing need
// tell of it: the claim is looked at again.
func TestChooseBesideAnother(t *testing.T) {
	for _, tc := range []struct {
		name    string
		claim   *corev1.PersistentVolumeClaim
		volumes []*corev1.PersistentVolume
		stale   bool
		bind    string
	}{
		{name: "it would do", claim: claim("1Gi"), volumes: []*corev1.PersistentVolume{volume("held", "1Gi")}, stale: true},
		{name: "it is the one that is named", claim: claim("1Gi", named("held")), volumes: []*corev1.PersistentVolume{volume("held", "1Gi")}, stale: true},
		{name: "another does as well", claim: claim("1Gi"), volumes: []*corev1.PersistentVolume{volume("held", "1Gi"), volume("free", "2Gi")}, bind: "free"},
		{name: "it would not do", claim: claim("2Gi"), volumes: []*corev1.PersistentVolume{volume("held", "1Gi")}},
		{name: "it is the other's for good", claim: claim("1Gi"), volumes: []*corev1.PersistentVolume{volume("held", "1Gi", of("d", "d1"))}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := &controller{
				volumeIndex: cache.NewIndexer(cache.MetaNamespaceKeyFunc, volumeIndexes),
				ownVolumes:  newMemory[*corev1.PersistentVolume](), taken: map[string]types.UID{"held": "d1"},
			}
			c.volumes = corelisters.NewPersistentVolumeLister(c.volumeIndex)
			for _, v := range tc.volumes {
				if err := c.volumeIndex.Add(v); err != nil {
					t.Fatal(err)
				}
			}
			plan, done, err := c.choose(tc.claim)
			if done != nil {
				defer done()
			}
			if errors.Is(err, loop.ErrStale) != tc.stale || err != nil && !tc.stale {
				t.Fatalf("error %v", err)
			}
			if got := plan.bind; tc.bind == "" && got != nil || tc.bind != "" && (got == nil || got.Name != tc.bind) {
				t.Errorf("binds %v, want %q", got, tc.bind)
			}
		})
	}
}
