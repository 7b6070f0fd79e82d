package podgc

import (
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

func TestNodesThatAreGoneAreForgotten(t *testing.T) {
	c, now := &controller{absent: map[string]time.Time{}}, time.Unix(1000, 0)
	for i := range 1000 {
		c.since(fmt.Sprint("node-", i), now.Add(time.Duration(i)*time.Minute))
	}
	if n := len(c.absent); n > 100 {
		t.Errorf("%d nodes are remembered", n)
	}
	if got := c.since("node-999", now.Add(1000*time.Minute)); got != time.Minute {
		t.Errorf("gone for %v, want a minute", got)
	}
}

func TestOneThatCannotBeDeletedKeepsNoOther(t *testing.T) {
	victims := make([]victim, 3*atOnce)
	for i := range victims {
		victims[i].pod = &corev1.Pod{}
	}
	bad, asked := errors.New("refused"), atomic.Int32{}
	err := inTurn(victims, func(v victim) error {
		asked.Add(1)
		if v.pod == victims[0].pod {
			return bad
		}
		return nil
	})
	if !errors.Is(err, bad) || int(asked.Load()) != len(victims) {
		t.Errorf("%d of %d were asked to go, and the error is %v", asked.Load(), len(victims), err)
	}
}
