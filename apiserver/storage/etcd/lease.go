package etcd

import (
	"context"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// Objects with a time to live share etcd leases: all objects of one TTL that are written within a span hang on one lease, which
// lives a slack longer than the TTL. So an object lives at least its TTL and at most the slack more: a minute when it lives for an
// hour, less in proportion, two seconds at least. A lease takes no more than leaseObjects, because etcd deletes all of them in one
// transaction.
const (
	leaseSlack   = 60 * time.Second
	leastSlack   = 2 * time.Second
	leaseObjects = 1000
)

// slackOf is how much longer a lease lives than the objects on it, and the span in which they may join; the rest of the slack is
// for the write itself to arrive.
func slackOf(ttl time.Duration) (slack, span time.Duration) {
	slack = min(max(ttl/60, leastSlack), leaseSlack).Round(time.Second)
	return slack, slack * 5 / 6
}

// leases hands out shared leases.
type leases struct {
	client clientv3.Lease
	turn   chan struct{} // holds one token: who has it may touch byTTL and ask etcd
	byTTL  map[int64]*lease
	now    func() time.Time
}

type lease struct {
	id    clientv3.LeaseID
	until time.Time // no object joins after that
	free  int       // how many more may join
}

func newLeases(c clientv3.Lease) *leases {
	return &leases{client: c, turn: make(chan struct{}, 1), byTTL: map[int64]*lease{}, now: time.Now}
}

// take returns a lease for one object that shall live for ttl; 0 for no ttl.
func (l *leases) take(ctx context.Context, ttl time.Duration) (int64, error) {
	if ttl <= 0 {
		return 0, nil
	}
	select {
	case l.turn <- struct{}{}:
		defer func() { <-l.turn }()
	case <-ctx.Done():
		return 0, fmt.Errorf("waiting for a lease: %w", ctx.Err())
	}
	secs := int64((ttl + time.Second - 1) / time.Second)
	now := l.now()
	have := l.byTTL[secs]
	if have == nil || have.free == 0 || now.After(have.until) {
		slack, span := slackOf(ttl)
		resp, err := l.client.Grant(ctx, secs+int64(slack/time.Second))
		if err != nil {
			return 0, failed(err, "granting a lease")
		}
		have = &lease{id: resp.ID, until: now.Add(span), free: leaseObjects}
		l.byTTL[secs] = have
	}
	have.free--
	return int64(have.id), nil
}

// drop forgets a lease that etcd does not know (any more).
func (l *leases) drop(ctx context.Context, id int64) {
	select {
	case l.turn <- struct{}{}:
		defer func() { <-l.turn }()
	case <-ctx.Done():
		return
	}
	for secs, have := range l.byTTL {
		if int64(have.id) == id {
			delete(l.byTTL, secs)
		}
	}
}
