package etcd

import (
	"context"
	"errors"
	"fmt"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.uber.org/zap"

	"pilothouse.dev/apiserver/storage"
)

// store is one kind in one database. It has no state of its own.
type store struct {
	db     *DB
	kind   storage.Kind
	prefix string
}

// Store returns the kind's store; any number of calls may be made for one kind.
func (db *DB) Store(kind storage.Kind) storage.Store { return db.of(kind) }

func (db *DB) of(kind storage.Kind) *store {
	return &store{db: db, kind: kind, prefix: db.prefixOf(kind)}
}

// chunk is how many objects one request for a long list asks for: at 1 KiB each, a megabyte a message.
const chunk = 1000

func (s *store) Get(ctx context.Context, key storage.Key, r storage.Read) (*storage.Entry, error) {
	path, err := s.path(key)
	if err != nil {
		return nil, err
	}
	req := &pb.RangeRequest{Key: path}
	applyRead(r, req)
	resp, err := s.ask(ctx, req, r)
	if err != nil {
		return nil, fmt.Errorf("reading %s %s: %w", s.kind.Plural, key, err)
	}
	if len(resp.Kvs) == 0 {
		return nil, fmt.Errorf("reading %s %s: %w", s.kind.Plural, key, storage.ErrNotFound)
	}
	return s.entryOf(ctx, key, resp.Kvs[0])
}

func (s *store) List(ctx context.Context, o storage.ListOptions) (*storage.Page, error) {
	from, to, whole := s.span(&o.Selector)
	filtered := !whole || o.Labels != nil && !o.Labels.Empty() || o.Fields != nil && !o.Fields.Empty()
	read := o.Read
	var after storage.Key // the last key seen, where a token goes on
	if o.Continue != "" {
		t, err := storage.ParseToken(o.Continue, s.kind, o.Namespace)
		if err != nil {
			return nil, err
		}
		after, read = t.After, storage.Read{}
		if t.Revision > 0 {
			read = storage.Read{Match: storage.Exact, Revision: t.Revision}
		}
		path, err := s.path(after)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", storage.ErrBadContinue, err)
		}
		from = append(path, 0)
	}
	page := &storage.Page{}
	req := &pb.RangeRequest{Key: from, RangeEnd: to}
	applyRead(read, req)
	for more := string(from) < string(to); more; {
		req.Limit = chunk
		if left := o.Limit - int64(len(page.Entries)); o.Limit > 0 && left < chunk && !filtered {
			req.Limit = left
		}
		resp, err := s.ask(ctx, req, read)
		if errors.Is(err, storage.ErrCompacted) && o.Continue != "" {
			return nil, &storage.Expired{Continue: storage.Token{After: after}.String()}
		}
		if err != nil {
			return nil, fmt.Errorf("listing %s: %w", s.kind.Plural, err)
		}
		if page.Revision == 0 { // all further chunks are of the state of the first
			page.Revision = resp.Header.Revision
			if req.Revision > 0 {
				page.Revision = req.Revision
			}
			read = storage.Read{Match: storage.Exact, Revision: page.Revision}
			req.Revision, req.Serializable = page.Revision, false
		}
		rest := resp.Kvs
		for len(rest) > 0 && (o.Limit == 0 || int64(len(page.Entries)) < o.Limit) {
			if key, ok := s.key(rest[0].Key); !ok {
				s.foreign(rest[0].Key)
			} else if e, err := s.entryOf(ctx, key, rest[0]); err != nil {
				return nil, fmt.Errorf("listing %s: %w", s.kind.Plural, err)
			} else if !filtered || o.Matches(e) {
				page.Entries, after = append(page.Entries, e), key
			} else {
				after = key
			}
			rest = rest[1:]
		}
		if o.Limit > 0 && int64(len(page.Entries)) == o.Limit {
			if len(rest) > 0 || resp.More {
				t := storage.Token{Revision: page.Revision, After: after}
				if n := resp.Count - int64(len(resp.Kvs)) + int64(len(rest)); !filtered && n > 0 {
					page.Remaining, t.Left = &n, n
				}
				page.Continue = t.String()
			}
			break
		}
		if more = resp.More; more {
			req.Key = append(append(req.Key[:0:0], resp.Kvs[len(resp.Kvs)-1].Key...), 0)
		}
	}
	if page.Revision == 0 { // an empty range was never asked for
		rev, err := s.db.Revision(ctx)
		if err != nil {
			return nil, fmt.Errorf("listing %s: %w", s.kind.Plural, err)
		}
		page.Revision = rev
	}
	return page, nil
}

// applyRead sets what r asks of etcd on a range.
func applyRead(r storage.Read, req *pb.RangeRequest) {
	switch {
	case r.Match == storage.Exact:
		req.Revision = r.Revision
	case r.Match == storage.NotOlderThan && r.Revision == 0:
		req.Serializable = true
	}
}

// ask does one range and holds it against what r promises.
func (s *store) ask(ctx context.Context, req *pb.RangeRequest, r storage.Read) (*pb.RangeResponse, error) {
	bctx, cancel := s.db.bounded(ctx)
	defer cancel()
	resp, err := s.db.kv().Range(bctx, req)
	if err != nil {
		if err = translate(err); !errors.Is(err, errFuture) {
			return nil, err
		}
		now, err := s.db.Revision(ctx)
		if err != nil {
			return nil, err
		}
		return nil, &storage.TooNew{Asked: req.Revision, Current: now}
	}
	if r.Match == storage.NotOlderThan && resp.Header.Revision < r.Revision {
		return nil, &storage.TooNew{Asked: r.Revision, Current: resp.Header.Revision}
	}
	return resp, nil
}

// Stale is the storage.Resealed of etcd: it reads how the value is stored.
func (s *store) Stale(ctx context.Context, key storage.Key) (bool, error) {
	if s.db.cfg.Sealer == nil || !s.db.cfg.Sealer.Seals(s.kind.Group, s.kind.Plural) {
		return false, nil
	}
	path, err := s.path(key)
	if err != nil {
		return false, err
	}
	resp, err := s.ask(ctx, &pb.RangeRequest{Key: path}, storage.Read{})
	if err != nil || len(resp.Kvs) == 0 {
		return false, err
	}
	_, stale, err := s.db.cfg.Sealer.Open(ctx, s.kind.Group, s.kind.Plural, path, resp.Kvs[0].Value)
	return stale, err
}

// entryOf makes an entry of what etcd has.
func (s *store) entryOf(ctx context.Context, key storage.Key, kv *mvccpb.KeyValue) (*storage.Entry, error) {
	value, err := s.open(ctx, key, kv)
	if err != nil {
		return nil, err
	}
	return s.entry(key, value, kv.ModRevision), nil
}

// open is the value of what etcd has.
func (s *store) open(ctx context.Context, key storage.Key, kv *mvccpb.KeyValue) ([]byte, error) {
	if s.db.cfg.Sealer == nil {
		return kv.Value, nil
	}
	value, _, err := s.db.cfg.Sealer.Open(ctx, s.kind.Group, s.kind.Plural, kv.Key, kv.Value)
	if err != nil {
		return nil, fmt.Errorf("reading %s %s: %w", s.kind.Plural, key, err)
	}
	return value, nil
}

// entry makes an entry of opened bytes. Bytes whose attributes cannot be read stay readable and deletable: they are given
// without attributes, and a person is told.
func (s *store) entry(key storage.Key, value []byte, rev int64) *storage.Entry {
	e := &storage.Entry{Key: key, Revision: rev, Value: value}
	if s.kind.Attrs == nil {
		return e
	}
	a, err := s.kind.Attrs(key, value)
	if err != nil {
		s.db.log.Error("stored object cannot be read", zap.String("resource", s.kind.Plural), zap.String("namespace", key.Namespace),
			zap.String("name", key.Name), zap.Int64("revision", rev), zap.Error(err))
	}
	e.Attrs = a
	return e
}

func (s *store) foreign(path []byte) {
	s.db.log.Error("key is not of our scheme, skipped", zap.String("resource", s.kind.Plural), zap.ByteString("key", path))
}
