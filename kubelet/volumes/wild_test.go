package volumes

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"sigs.k8s.io/randfill"
)

// Whatever a volume says, looking for its kind does not panic, and says the same twice.
func TestKindOfWildVolumes(t *testing.T) {
	known := 0
	for seed := range int64(2000) {
		v := &corev1.Volume{}
		func() {
			defer func() {
				if r := recover(); r != nil {
					t.Fatalf("seed %d: %v", seed, r)
				}
			}()
			randfill.NewWithSeed(seed).NilChance(0.9).NumElements(0, 3).Funcs(func(q *resource.Quantity, _ randfill.Continue) {}).Fill(v)
			k := kindOf(v)
			if k != kindOf(v) {
				t.Errorf("seed %d: two kinds", seed)
			}
			if k != nil {
				known++
			}
		}()
	}
	if known == 0 {
		t.Error("no volume of any kind was among them")
	}
}
