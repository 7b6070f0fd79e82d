package etcd

import (
	"context"
	"strconv"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.uber.org/zap"
)

// Run compacts, every Config.Compaction, the history that is older than that, until ctx ends; and it brings writes back when etcd
// is full (space.go). Of several processes one does
// it each time: who first moves the version of the compaction key on. The others learn the new version from their refused
// transaction and wait anew. Who compacts also defragments, when that pays.
func (db *DB) Run(ctx context.Context) error {
	var due <-chan time.Time // never, when this process does not compact
	if db.cfg.Compaction > 0 {
		tick := time.NewTicker(db.cfg.Compaction)
		defer tick.Stop()
		due = tick.C
	}
	var c compactor
	var freed time.Time
	for {
		if due != nil {
			if err := c.round(ctx, db); err != nil && ctx.Err() == nil {
				db.log.Warn("history not compacted", zap.Error(err))
			}
		}
		for waiting := true; waiting; {
			select {
			case <-due:
				waiting = false
			case <-db.full:
				if time.Since(freed) < freeAgain {
					continue // full of what lives: the next refused write asks again
				}
				freed = time.Now()
				if err := db.free(ctx); err != nil && ctx.Err() == nil {
					db.log.Error("etcd is full and could not be freed", zap.Error(err))
				}
			case <-ctx.Done():
				return nil
			}
		}
	}
}

// compactor is what one process remembers from round to round.
type compactor struct {
	version  int64 // of the compaction key when last seen
	revision int64 // of the database then; what was before it is old at the next round
}

func (c *compactor) round(whole context.Context, db *DB) error {
	ctx, cancel := db.bounded(whole)
	defer cancel()
	key := []byte(db.compactionKey())
	resp, err := db.kv().Txn(ctx, &pb.TxnRequest{
		Compare: []*pb.Compare{{Key: key, Target: pb.Compare_VERSION, Result: pb.Compare_EQUAL,
			TargetUnion: &pb.Compare_Version{Version: c.version}}},
		Success: []*pb.RequestOp{{Request: &pb.RequestOp_RequestPut{
			RequestPut: &pb.PutRequest{Key: key, Value: strconv.AppendInt(nil, c.revision, 10)}}}},
		Failure: []*pb.RequestOp{read(key)},
	})
	if err != nil {
		return failed(db.noteFull(err), "claiming the compaction")
	}
	old := c.revision
	c.revision = resp.Header.Revision
	if !resp.Succeeded {
		c.version = 0
		if kvs := resp.Responses[0].GetResponseRange().Kvs; len(kvs) > 0 {
			c.version = kvs[0].Version
			// The value is the revision up to which the one who claimed this round compacts.
			if rev, err := strconv.ParseInt(string(kvs[0].Value), 10, 64); err == nil {
				db.noteCompacted(rev)
			}
		}
		return nil
	}
	c.version++
	if old == 0 {
		return nil
	}
	// What the last compaction freed has settled meanwhile.
	if err := db.defragmentWasteful(whole); err != nil {
		db.log.Warn("etcd not defragmented", zap.Error(err))
	}
	if err := db.Compact(ctx, old); err != nil {
		return err
	}
	db.log.Info("history compacted", zap.Int64("revision", old))
	return nil
}

// Compact drops the history before revision rev, if that is not done already.
func (db *DB) Compact(ctx context.Context, rev int64) error { return db.compact(ctx, rev) }
