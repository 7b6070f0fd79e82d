package etcd

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/metadata"

	"pilothouse.dev/apiserver/storage"
)

// Feed is the changes of one kind as etcd tells them: what a watch cache is made of. It survives etcd going away; it ends with
// ErrCompacted when history was compacted meanwhile.
type Feed struct {
	s   *store
	ctx context.Context // names the kind's stream; not for waiting
	ch  clientv3.WatchChan
}

// Step is what Feed.Next returns: the changes of some revisions, complete up to Revision.
type Step struct {
	Changes  []Change
	Revision int64
}

// Change is one new state of one key, or its end.
type Change struct {
	Entry   *storage.Entry // at the revision of the change; of a deleted one only key and revision
	Deleted bool
}

// errFeed is the end of a feed for no reason told, as when the connection is closed.
var errFeed = errors.New("watch ended")

// Feed starts to follow the kind's changes after a revision; it ends with ctx. Each kind has a stream of its own on the
// connection for watches, so that progress is asked and told for that kind alone and one that is catching up delays no other.
func (db *DB) Feed(ctx context.Context, kind storage.Kind, after int64) *Feed {
	s := db.of(kind)
	ctx = clientv3.WithRequireLeader(metadata.AppendToOutgoingContext(ctx, "kind", s.prefix))
	from, to, _ := s.span(&storage.Selector{})
	return &Feed{s, ctx, db.watch.Watch(ctx, string(from), clientv3.WithRange(string(to)),
		clientv3.WithRev(after+1), clientv3.WithFragment())}
}

// RequestProgress asks etcd to tell, as a step without changes, where the feed stands now. etcd stays silent while the feed is
// still catching up. The answer's revision is at least every revision that etcd's member had when it got the request.
func (f *Feed) RequestProgress() error {
	if err := f.s.db.requestProgress(f.ctx); err != nil {
		return failed(err, "requesting progress of %s", f.s.kind.Plural)
	}
	return nil
}

// requestProgress asks on the stream that ctx names. While the stream is broken it gives up soon.
func (db *DB) requestProgress(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	return db.watch.RequestProgress(ctx)
}

// Next waits for the next step. A step without changes says that there was none up to its revision.
func (f *Feed) Next(ctx context.Context) (Step, error) {
	for {
		var resp clientv3.WatchResponse
		var ok bool
		select {
		case resp, ok = <-f.ch:
		case <-ctx.Done():
			return Step{}, ctx.Err()
		}
		if err := watchEnd(resp, ok); err != nil {
			return Step{}, fmt.Errorf("watching %s: %w", f.s.kind.Plural, err)
		}
		if resp.IsProgressNotify() {
			return Step{Revision: resp.Header.Revision}, nil
		}
		if len(resp.Events) == 0 {
			continue
		}
		step := Step{Changes: make([]Change, 0, len(resp.Events))}
		for _, ev := range resp.Events {
			step.Revision = ev.Kv.ModRevision
			key, ok := f.s.key(ev.Kv.Key)
			if !ok {
				f.s.foreign(ev.Kv.Key)
				continue
			}
			if ev.Type == mvccpb.Event_DELETE {
				step.Changes = append(step.Changes, Change{&storage.Entry{Key: key, Revision: ev.Kv.ModRevision}, true})
				continue
			}
			e, err := f.s.entryOf(ctx, key, ev.Kv)
			if err != nil {
				return Step{}, err
			}
			step.Changes = append(step.Changes, Change{e, false})
		}
		return step, nil
	}
}

// watchEnd is why a watch is over, nil while it is not.
func watchEnd(resp clientv3.WatchResponse, ok bool) error {
	if !ok {
		return errFeed
	}
	if err := resp.Err(); err != nil {
		return translate(err)
	}
	return nil
}
