package etcd

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"pilothouse.dev/apiserver/storage"
)

// etcd's file never shrinks by itself: compaction frees pages inside it, and only defragmentation gives them back. And once the
// file reaches its quota, etcd raises the NOSPACE alarm and takes nothing but reads and deletes until the alarm is disarmed
// (https://etcd.io/docs/v3.6/op-guide/maintenance/#space-quota). Both are looked after here: defragment when it pays, and free
// when a write was refused.

const (
	// A defragmentation pays when it gives back at least this part of the file, and Config.Defragment bytes.
	wasteShare = 0.5
	// defragTime bounds one member's defragmentation; etcd copies some 100 MiB a second.
	defragTime = 2 * time.Minute
	// freeJitter spreads several processes that notice a full database at once: the first frees it, the others find it free.
	freeJitter = time.Second
	// freeAgain keeps an etcd that is full of living objects from being defragmented at every refused write.
	freeAgain = 30 * time.Second
)

// physically lets a compaction return when the pages are free.
var physically = clientv3.WithCompactPhysical()

// noteFull wakes Run when err says that etcd is full, and returns err.
func (db *DB) noteFull(err error) error {
	if errors.Is(err, storage.ErrFull) || err != nil && errors.Is(rpctypes.Error(err), rpctypes.ErrNoSpace) {
		select {
		case db.full <- struct{}{}:
		default: // woken already
		}
	}
	return err
}

// free brings writes back after a NOSPACE alarm: the history is compacted up to now, every member gives back what that frees, one
// after another, and the alarm is disarmed. Should that not be enough, etcd raises the alarm again at the next write, which is
// then refused and wakes us again. No alarm: nothing is done.
func (db *DB) free(ctx context.Context) error {
	c := db.conns[0]
	select {
	case <-time.After(rand.N(freeJitter)):
	case <-ctx.Done():
		return ctx.Err()
	}
	alarms, err := c.AlarmList(ctx)
	if err != nil {
		return failed(err, "listing etcd's alarms")
	}
	var full []*pb.AlarmMember
	for _, a := range alarms.Alarms {
		if a.Alarm == pb.AlarmType_NOSPACE {
			full = append(full, a)
		}
	}
	if len(full) == 0 {
		return nil
	}
	db.log.Warn("etcd is full and takes no writes: compacting and defragmenting it")
	rev, err := db.Revision(ctx)
	if err != nil {
		return err
	}
	if err := db.compact(ctx, rev, physically); err != nil {
		return err
	}
	members, err := db.members(ctx)
	if err != nil {
		return err
	}
	for _, m := range members {
		if err := db.defragment(ctx, m); err != nil {
			return err
		}
	}
	for _, a := range full {
		if _, err := c.AlarmDisarm(ctx, (*clientv3.AlarmMember)(a)); err != nil {
			return failed(err, "disarming etcd's alarm of space")
		}
	}
	db.log.Info("etcd takes writes again")
	return nil
}

// defragmentWasteful defragments, one after another, the members of which much of the file is free. It stops at the first member
// that does not answer: with one away, no other is to pause.
func (db *DB) defragmentWasteful(ctx context.Context) error {
	members, err := db.members(ctx)
	if err != nil {
		return err
	}
	for _, m := range members {
		waste := m.size - m.used
		if waste < db.cfg.Defragment || float64(waste) < wasteShare*float64(m.size) {
			continue
		}
		if err := db.defragment(ctx, m); err != nil {
			return err
		}
	}
	return nil
}

// member is one etcd server and its file.
type member struct {
	endpoint   string
	size, used int64 // bytes
}

// members asks every endpoint; the leader comes last, since a pause of it is felt most.
func (db *DB) members(ctx context.Context) ([]member, error) {
	ctx, cancel := db.bounded(ctx)
	defer cancel()
	var out, leader []member
	for _, e := range db.cfg.Endpoints {
		s, err := db.conns[0].Status(ctx, e)
		if err != nil {
			return nil, failed(err, "asking etcd member %s for its state", e)
		}
		m := member{e, s.DbSize, s.DbSizeInUse}
		if s.Leader == s.Header.MemberId {
			leader = append(leader, m)
		} else {
			out = append(out, m)
		}
	}
	return append(out, leader...), nil
}

func (db *DB) defragment(ctx context.Context, m member) error {
	ctx, cancel := context.WithTimeout(ctx, defragTime)
	defer cancel()
	began := time.Now()
	if _, err := db.conns[0].Defragment(ctx, m.endpoint); err != nil {
		return failed(err, "defragmenting etcd member %s", m.endpoint)
	}
	db.log.Info("etcd member defragmented", zap.String("endpoint", m.endpoint), zap.Int64("bytes", m.size),
		zap.Int64("used", m.used), zap.Duration("took", time.Since(began)))
	return nil
}

// compact drops the history before revision rev, if that is not done already.
func (db *DB) compact(ctx context.Context, rev int64, o ...clientv3.CompactOption) error {
	if _, err := db.conns[0].Compact(ctx, rev, o...); err != nil && !errors.Is(rpctypes.Error(err), rpctypes.ErrCompacted) {
		return failed(err, "compacting to revision %d", rev)
	}
	db.noteCompacted(rev)
	return nil
}
