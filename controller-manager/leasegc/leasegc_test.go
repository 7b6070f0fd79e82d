package leasegc

import (
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

func TestLeft(t *testing.T) {
	now := time.Now()
	ago := func(d time.Duration) metav1.Time { return metav1.NewTime(now.Add(-d)) }
	for name, tc := range map[string]struct {
		lease coordinationv1.Lease
		want  time.Duration
	}{
		"never renewed": {coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{CreationTimestamp: ago(time.Minute)}}, Patience - time.Minute},
		"renewed": {coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{CreationTimestamp: ago(9 * time.Hour)},
			Spec: coordinationv1.LeaseSpec{RenewTime: ptr.To(metav1.NewMicroTime(now.Add(-time.Second)))}}, Patience - time.Second},
		"for how long it says": {coordinationv1.Lease{Spec: coordinationv1.LeaseSpec{LeaseDurationSeconds: ptr.To(int32(40)),
			RenewTime: ptr.To(metav1.NewMicroTime(now))}}, Patience + 40*time.Second},
		"over": {coordinationv1.Lease{Spec: coordinationv1.LeaseSpec{LeaseDurationSeconds: ptr.To(int32(40)),
			RenewTime: ptr.To(metav1.NewMicroTime(now.Add(-Patience - 41*time.Second)))}}, -time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			if got := left(&tc.lease, now); got != tc.want {
				t.Errorf("%v left, want %v", got, tc.want)
			}
		})
	}
}
