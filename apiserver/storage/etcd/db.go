// Package etcd keeps the storage contract on etcd, the truth: every write is one transaction, every read says how fresh it is,
// and revisions are etcd's own.
//
// Open dials and never waits for etcd, so a daemon starts without it; each call then fails within Config.Timeout while etcd is
// away and works again once it is back, with no help from outside. Run compacts old history, by one of all the processes that
// share the database. What the watch cache needs beyond the contract is here too: Feed (the changes of one kind) and
// Revision.
//
// This is the only room that knows etcd's client, its keys (keys.go) and its errors (errors.go).
package etcd

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"math"
	"os"
	"strings"
	"sync/atomic"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"

	"pilothouse.dev/apiserver/storage"
)

// Config says where etcd is and how to speak with it.
type Config struct {
	Endpoints []string // http(s)://host:port; at least one
	CAFile    string   // whom to trust; empty with http
	CertFile  string   // who we are; read again at each connection, so it may be renewed in place
	KeyFile   string
	Prefix    string // of all keys; "/registry"

	Timeout    time.Duration // of one request; 0: 10 s
	Compaction time.Duration // how often history older than that is dropped; 0: 5 min; negative: never by this process
	Bookmarks  time.Duration // how often a direct watch sends one; 0: a minute
	Conns      int           // connections for requests; watches have one more of their own; 0: 2
	Sealer     Sealer        // how values are kept; nil: as they are
	Defragment int64         // how many free bytes in a member's file make it worth a defragmentation; 0: 128 MiB
}

// Sealer keeps the values of some kinds unreadable in etcd. Safe for concurrent use.
type Sealer interface {
	// Seals says whether values of the kind are sealed at all, or may be.
	Seals(group, plural string) bool
	// Seal returns what is stored for a value at a path. value is not changed, and may be what is returned.
	Seal(ctx context.Context, group, plural string, path, value []byte) ([]byte, error)
	// Open returns the value again, which may share memory with stored; stale says that it would be stored otherwise now.
	Open(ctx context.Context, group, plural string, path, stored []byte) (value []byte, stale bool, err error)
}

// DB is one etcd database: a Backend whose Stores read and write etcd directly.
type DB struct {
	cfg   Config
	log   *zap.Logger
	conns []conn // for requests, in turn
	watch conn   // for watches alone, so that a flood of events does not hold up a request, nor the other way round
	lease *leases

	turn atomic.Uint32

	compacted atomic.Int64  // history before this revision is gone, as far as this process knows
	full      chan struct{} // a write was refused for lack of room; holds one
}

// conn is one connection with the two faces in use: the raw key-value service, which takes bytes as they are, and the client.
type conn struct {
	*clientv3.Client
	kv pb.KVClient
}

var _ storage.Backend = (*DB)(nil)

// Open prepares the connections. It fails only on what waiting cannot mend: a wrong configuration or unreadable files.
func Open(cfg Config, log *zap.Logger) (*DB, error) {
	cfg.Timeout = orElse(cfg.Timeout, 10*time.Second)
	cfg.Compaction = orElse(cfg.Compaction, 5*time.Minute)
	cfg.Bookmarks = orElse(cfg.Bookmarks, time.Minute)
	cfg.Conns = orElse(cfg.Conns, 2)
	cfg.Defragment = orElse(cfg.Defragment, 128<<20)
	cfg.Prefix = strings.TrimRight(cfg.Prefix, "/")
	if len(cfg.Endpoints) == 0 {
		return nil, errors.New("no etcd endpoints")
	}
	tlsConf, err := cfg.tls()
	if err != nil {
		return nil, err
	}
	log = log.Named("etcd")
	db := &DB{cfg: cfg, log: log, full: make(chan struct{}, 1)}
	for i := range cfg.Conns + 1 {
		c, err := dial(cfg, tlsConf, log)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("dialling etcd: %w", err), db.Close())
		}
		if i == 0 {
			db.watch = c
		} else {
			db.conns = append(db.conns, c)
		}
	}
	db.lease = newLeases(db.conns[0].Client)
	return db, nil
}

// Close ends the connections and with them every watch and request.
func (db *DB) Close() error {
	var errs []error
	for _, c := range append([]conn{db.watch}, db.conns...) {
		if c.Client == nil {
			continue
		}
		if err := c.Close(); err != nil && !errors.Is(err, context.Canceled) {
			errs = append(errs, fmt.Errorf("closing etcd connection: %w", err))
		}
	}
	return errors.Join(errs...)
}

// Healthy asks etcd for a consistent answer.
func (db *DB) Healthy(ctx context.Context) error {
	_, err := db.Revision(ctx)
	return err
}

// Revision is the newest revision of the whole database: every write acknowledged before the call is at it or below.
// It reads one key that does not exist, which is the cheapest linearizable question etcd answers.
func (db *DB) Revision(ctx context.Context) (int64, error) {
	ctx, cancel := db.bounded(ctx)
	defer cancel()
	resp, err := db.kv().Range(ctx, &pb.RangeRequest{Key: []byte(db.cfg.Prefix + "/"), CountOnly: true})
	if err != nil {
		return 0, failed(err, "asking etcd for its revision")
	}
	return resp.Header.Revision, nil
}

// Compacted is the revision before which history is gone. Another process's compaction is learned of within Config.Compaction.
func (db *DB) Compacted() int64 { return db.compacted.Load() }

func (db *DB) noteCompacted(rev int64) {
	for {
		old := db.compacted.Load()
		if rev <= old || db.compacted.CompareAndSwap(old, rev) {
			return
		}
	}
}

// kv is the key-value service of the next connection in turn.
func (db *DB) kv() pb.KVClient {
	return db.conns[int(db.turn.Add(1))%len(db.conns)].kv
}

// bounded limits a request that its caller did not limit further.
func (db *DB) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	if t, ok := ctx.Deadline(); ok && time.Until(t) < db.cfg.Timeout {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, db.cfg.Timeout)
}

func dial(cfg Config, tlsConf *tls.Config, log *zap.Logger) (conn, error) {
	c, err := clientv3.New(clientv3.Config{
		Endpoints: cfg.Endpoints,
		TLS:       tlsConf,
		// A dead peer is noticed in 15 s even by a quiet watch. Not without a stream: etcd hangs up on who pings it then.
		DialKeepAliveTime:    10 * time.Second,
		DialKeepAliveTimeout: 5 * time.Second,
		Logger:               log.WithOptions(zap.IncreaseLevel(zap.ErrorLevel)).Named("client"),
		DialOptions: []grpc.DialOption{
			grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(math.MaxInt32), grpc.MaxCallSendMsgSize(math.MaxInt32)),
			// gRPC's own backoff grows to two minutes; an API server must be back as soon as etcd is.
			grpc.WithConnectParams(grpc.ConnectParams{
				Backoff:           backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second},
				MinConnectTimeout: 3 * time.Second,
			}),
		},
	})
	if err != nil {
		return conn{}, err
	}
	return conn{c, clientv3.RetryKVClient(c)}, nil
}

func (cfg Config) tls() (*tls.Config, error) {
	if cfg.CAFile == "" && cfg.CertFile == "" {
		return nil, nil
	}
	t := &tls.Config{MinVersion: tls.VersionTLS12}
	if cfg.CAFile != "" {
		pem, err := os.ReadFile(cfg.CAFile)
		if err != nil {
			return nil, fmt.Errorf("reading etcd's authority: %w", err)
		}
		t.RootCAs = x509.NewCertPool()
		if !t.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("reading etcd's authority: no certificate in %s", cfg.CAFile)
		}
	}
	if cfg.CertFile != "" {
		if _, err := tls.LoadX509KeyPair(cfg.CertFile, cfg.KeyFile); err != nil {
			return nil, fmt.Errorf("reading the certificate for etcd: %w", err)
		}
		t.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			c, err := tls.LoadX509KeyPair(cfg.CertFile, cfg.KeyFile)
			return &c, err
		}
	}
	return t, nil
}

func orElse[T comparable](v, otherwise T) T {
	var zero T
	if v == zero {
		return otherwise
	}
	return v
}
