package etcd

import (
	"context"
	"fmt"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"pilothouse.dev/apiserver/storage"
)

// Each write is one transaction that compares the revision of its key, and one round trip also when it fails: the current
// state is read in the else branch. The value goes to the wire as it is, uncopied.

func (s *store) Create(ctx context.Context, key storage.Key, value []byte, ttl time.Duration) (*storage.Entry, error) {
	path, err := s.path(key)
	if err != nil {
		return nil, failed(err, "creating %s %s", s.kind.Plural, key)
	}
	resp, err := s.put(ctx, path, value, 0, ttl, nil)
	if err != nil {
		return nil, failed(err, "creating %s %s", s.kind.Plural, key)
	}
	if !resp.Succeeded {
		return nil, failed(storage.ErrExists, "creating %s %s", s.kind.Plural, key)
	}
	return s.entry(key, value, resp.Header.Revision), nil
}

func (s *store) Update(ctx context.Context, key storage.Key, value []byte, expect int64, ttl time.Duration) (*storage.Entry, error) {
	path, err := s.path(key)
	if err != nil {
		return nil, failed(err, "updating %s %s", s.kind.Plural, key)
	}
	resp, err := s.put(ctx, path, value, mustExist(expect), ttl, read(path))
	if err != nil {
		return nil, failed(err, "updating %s %s", s.kind.Plural, key)
	}
	if !resp.Succeeded {
		return nil, failed(s.refusal(ctx, key, resp), "updating %s %s", s.kind.Plural, key)
	}
	return s.entry(key, value, resp.Header.Revision), nil
}

func (s *store) Delete(ctx context.Context, key storage.Key, expect int64) (*storage.Entry, error) {
	path, err := s.path(key)
	if err != nil {
		return nil, failed(err, "deleting %s %s", s.kind.Plural, key)
	}
	ctx, cancel := s.db.bounded(ctx)
	defer cancel()
	resp, err := s.db.kv().Txn(ctx, &pb.TxnRequest{
		Compare: []*pb.Compare{atRevision(path, mustExist(expect))},
		Success: []*pb.RequestOp{{Request: &pb.RequestOp_RequestDeleteRange{
			RequestDeleteRange: &pb.DeleteRangeRequest{Key: path, PrevKv: true}}}},
		Failure: []*pb.RequestOp{read(path)},
	})
	if err != nil {
		return nil, failed(err, "deleting %s %s", s.kind.Plural, key)
	}
	if !resp.Succeeded {
		return nil, failed(s.refusal(ctx, key, resp), "deleting %s %s", s.kind.Plural, key)
	}
	last := resp.Responses[0].GetResponseDeleteRange().PrevKvs[0]
	value, err := s.open(ctx, key, last)
	if err != nil {
		return nil, fmt.Errorf("deleted, but its last state is unknown: %w", err)
	}
	return s.entry(key, value, resp.Header.Revision), nil
}

// put stores value if the key is at revision expect (0: does not exist), else does otherwise. A lease that etcd has lost
// (restored from a backup, say) is replaced once.
func (s *store) put(ctx context.Context, path, value []byte, expect int64, ttl time.Duration, otherwise *pb.RequestOp) (*pb.TxnResponse, error) {
	ctx, cancel := s.db.bounded(ctx)
	defer cancel()
	if s.db.cfg.Sealer != nil {
		var err error
		if value, err = s.db.cfg.Sealer.Seal(ctx, s.kind.Group, s.kind.Plural, path, value); err != nil {
			return nil, err
		}
	}
	if len(value) > storage.MaxObject {
		return nil, storage.ErrTooLarge // etcd would say the same, after having been sent it
	}
	req := &pb.TxnRequest{Compare: []*pb.Compare{atRevision(path, expect)}}
	if otherwise != nil {
		req.Failure = []*pb.RequestOp{otherwise}
	}
	for again := false; ; again = true {
		id, err := s.db.lease.take(ctx, ttl)
		if err != nil {
			return nil, s.db.noteFull(err)
		}
		req.Success = []*pb.RequestOp{{Request: &pb.RequestOp_RequestPut{
			RequestPut: &pb.PutRequest{Key: path, Value: value, Lease: id}}}}
		resp, err := s.db.kv().Txn(ctx, req)
		if err == nil || !leaseGone(err) || again {
			return resp, s.db.noteFull(err)
		}
		s.db.lease.drop(ctx, id)
	}
}

// refusal is why a transaction did not take its first branch, from what the second one read.
func (s *store) refusal(ctx context.Context, key storage.Key, resp *pb.TxnResponse) error {
	kvs := resp.Responses[0].GetResponseRange().Kvs
	if len(kvs) == 0 {
		return storage.ErrNotFound
	}
	e, err := s.entryOf(ctx, key, kvs[0])
	if err != nil {
		return err
	}
	return &storage.Conflict{Current: e}
}

// mustExist turns a revision that no object can have (an object that is not there has 0 in etcd) into one that never matches.
func mustExist(expect int64) int64 {
	if expect <= 0 {
		return -1
	}
	return expect
}

func atRevision(path []byte, rev int64) *pb.Compare {
	return &pb.Compare{
		Key:         path,
		Target:      pb.Compare_MOD,
		Result:      pb.Compare_EQUAL,
		TargetUnion: &pb.Compare_ModRevision{ModRevision: rev},
	}
}

func read(path []byte) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: &pb.RangeRequest{Key: path}}}
}
