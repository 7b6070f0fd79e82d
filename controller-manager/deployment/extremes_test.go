package deployment

import (
	"math"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/util/validation"
)

func TestNumbersAtTheirLargest(t *testing.T) {
	for _, tc := range []struct {
		name        string
		replicas    int32
		surge, lack string
	}{
		{"surge is all there is", 3, "2147483647", "0"},
		{"a share of surge that is more than all", 100, "2147483647%", "0"},
		{"as many replicas as there can be", math.MaxInt32, "25%", "25%"},
		{"and none may be missing", math.MaxInt32, "1", "0"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := newCluster(t, deploy(tc.replicas, rolling(tc.surge, tc.lack)))
			surge, lack := limits(c.d)
			if surge < 0 || lack < 0 || surge+lack == 0 || int64(tc.replicas)+int64(surge) > math.MaxInt32 {
				t.Fatalf("surge %d and unavailable %d of %d", surge, lack, tc.replicas)
			}
			c.step()
			c.pods(all)
			c.step()
			if n := *c.sets[0].Spec.Replicas; n != tc.replicas {
				t.Errorf("%d replicas are asked for, want %d", n, tc.replicas)
			}
		})
	}
}

func TestManyReplicasOfTwoSetsAreNotFew(t *testing.T) {
	c := newCluster(t, deploy(math.MaxInt32, rolling("0", "10")))
	c.step()
	c.pods(all)
	c.change(image("v2"))
	c.step() // makes the second, whose room is what the first gives up
	for _, rs := range c.sets {
		n := int32(math.MaxInt32)
		rs.Spec.Replicas = &n
	}
	if n := sum(c.sets); n != math.MaxInt32 {
		t.Errorf("together %d", n)
	}
	r := newRollout(c.d, c.sets)
	setAnnotation(r.fresh, maxAnnotation, "1")
	if n := r.part(r.fresh); n != 0 {
		t.Errorf("gains %d beyond the largest number", n)
	}
}

func TestALongNameLeavesRoomForTheHash(t *testing.T) {
	for _, name := range []string{strings.Repeat("a", 253), strings.Repeat("a", 241) + "." + strings.Repeat("b", 11)} {
		d := deploy(1, func(d *appsv1.Deployment) { d.Name = name })
		made := decide(d, nil, start).create
		if errs := validation.IsDNS1123Subdomain(made.Name); len(errs) > 0 {
			t.Errorf("%s: %v", made.Name, errs)
		}
	}
}
