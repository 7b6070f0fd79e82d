package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"k8s.io/client-go/rest"
)

const (
	objectSize  = 1024 // bytes of data in a ConfigMap
	connections = 4    // TCP connections the load is spread over, ours and etcd's alike
	workers     = 32
	alone       = 500 // transactions of a single client, for latency
)

// store is what the load is put on: the API, or etcd itself.
type store interface {
	create(ctx context.Context, worker int, key string) error
	get(ctx context.Context, worker int, key string) error
	update(ctx context.Context, worker int, key string) error
	patch(ctx context.Context, worker int, key string) error
	remove(ctx context.Context, worker int, key string) error
	list(ctx context.Context) (bytes int, err error)
}

// objects measures the verbs on both stores, by one client and by many.
func (b *bench) objects(ctx context.Context) error {
	api, err := b.api("application/json")
	if err != nil {
		return err
	}
	raw, err := b.etcd()
	if err != nil {
		return err
	}
	defer raw.close()
	title := fmt.Sprintf("ConfigMaps of 1 KiB, JSON, against the same transactions straight to etcd; %d clients on %d connections", workers, connections)
	verbs := []struct {
		name  string
		short string
		do    func(store) func(context.Context, int, string) error
	}{
		{"create", "create", func(s store) func(context.Context, int, string) error { return s.create }},
		{"get", "get", func(s store) func(context.Context, int, string) error { return s.get }},
		{"update", "update", func(s store) func(context.Context, int, string) error { return s.update }},
		{"merge patch (of etcd's update)", "patch", func(s store) func(context.Context, int, string) error { return s.patch }},
		{"delete", "delete", func(s store) func(context.Context, int, string) error { return s.remove }},
	}
	for _, v := range verbs {
		if v.name == "delete" {
			if err := b.lists(ctx, api, raw); err != nil {
				return err
			}
			if err := b.server.restart(ctx); err != nil {
				return err
			}
			if err := b.serverMemory(ctx, "restarted with all objects"); err != nil {
				return err
			}
		}
		before, err := cpu(b.server.cmd.Process.Pid)
		if err != nil {
			return err
		}
		var ours time.Duration
		if err := b.profiled(ctx, v.short, func() (err error) {
			ours, err = many(ctx, b.cfg.Objects, v.do(api))
			return err
		}); err != nil {
			return fmt.Errorf("%s: %w", v.name, err)
		}
		after, err := cpu(b.server.cmd.Process.Pid)
		if err != nil {
			return err
		}
		used := after - before
		limit, err := many(ctx, b.cfg.Objects, v.do(raw))
		if err != nil {
			return fmt.Errorf("%s at etcd: %w", v.name, err)
		}
		b.report.add(title, row{v.name, fmt.Sprintf("%s, %d µs of CPU each", perSecond(b.cfg.Objects, ours), each(used, b.cfg.Objects)),
			perSecond(b.cfg.Objects, limit), fmt.Sprintf("%.2f of the limit", limit.Seconds()/ours.Seconds())})
	}
	for _, v := range verbs {
		ours, err := single(ctx, v.do(api))
		if err != nil {
			return fmt.Errorf("%s: %w", v.name, err)
		}
		limit, err := single(ctx, v.do(raw))
		if err != nil {
			return fmt.Errorf("%s at etcd: %w", v.name, err)
		}
		for _, p := range []float64{50, 99} {
			b.report.add("The same by one client", row{fmt.Sprintf("%s, p%.0f", v.name, p), millis(ours.at(p)), millis(limit.at(p)), times(ours.at(p), limit.at(p))})
		}
	}
	return nil
}

// lists measures one answer with everything.
func (b *bench) lists(ctx context.Context, api, raw store) error {
	proto, err := b.api("application/vnd.kubernetes.protobuf")
	if err != nil {
		return err
	}
	limit, err := listed(ctx, raw)
	if err != nil {
		return err
	}
	for _, form := range []struct {
		name string
		s    store
	}{{"JSON", api}, {"protobuf", proto}} {
		ours, err := listed(ctx, form.s)
		if err != nil {
			return err
		}
		b.report.add(fmt.Sprintf("List of %d, against a range of etcd", b.cfg.Objects),
			row{form.name + ", p50 of 9", millis(ours.at(50)), millis(limit.at(50)), times(ours.at(50), limit.at(50))})
	}
	return nil
}

func listed(ctx context.Context, s store) (samples, error) {
	var out samples
	for range 9 {
		began := time.Now()
		n, err := s.list(ctx)
		if err != nil {
			return nil, fmt.Errorf("listing: %w", err)
		}
		if n < objectSize {
			return nil, fmt.Errorf("listing: only %d bytes came", n)
		}
		out = append(out, time.Since(began))
	}
	return out, nil
}

// each is a share in whole µs.
func each(d time.Duration, n int) int64 { return d.Microseconds() / int64(n) }

// many does n transactions by all workers and returns how long it took.
func many(ctx context.Context, n int, do func(context.Context, int, string) error) (time.Duration, error) {
	return manyBy(ctx, workers, n, do)
}

// manyBy is many, with so many workers.
func manyBy(ctx context.Context, workers, n int, do func(context.Context, int, string) error) (time.Duration, error) {
	var next atomic.Int64
	var wg sync.WaitGroup
	errs := make(chan error, workers)
	began := time.Now()
	for w := range workers {
		wg.Go(func() {
			for {
				i := int(next.Add(1))
				if i > n {
					return
				}
				if err := do(ctx, w, fmt.Sprintf("many-%06d", i)); err != nil {
					errs <- err
					return
				}
			}
		})
	}
	wg.Wait()
	took := time.Since(began)
	select {
	case err := <-errs:
		return 0, err
	default:
		return took, nil
	}
}

// single does transactions one after another and returns how long each took.
func single(ctx context.Context, do func(context.Context, int, string) error) (samples, error) {
	var out samples
	for i := range alone {
		began := time.Now()
		if err := do(ctx, 0, fmt.Sprintf("single-%06d", i)); err != nil {
			return nil, err
		}
		out = append(out, time.Since(began))
	}
	return out, nil
}

// apiStore is the API by plain HTTP/2, so that the client's own work is small.
type apiStore struct {
	clients []*http.Client
	url     string // of the ConfigMaps
	accept  string
}

func (b *bench) api(accept string) (*apiStore, error) {
	s := &apiStore{url: b.server.rest.Host + "/api/v1/namespaces/default/configmaps", accept: accept}
	for range connections {
		t, err := b.transport()
		if err != nil {
			return nil, err
		}
		s.clients = append(s.clients, &http.Client{Transport: t})
	}
	return s, nil
}

// transport is one connection of its own.
func (b *bench) transport() (*http.Transport, error) {
	cfg, err := rest.TLSConfigFor(b.server.rest)
	if err != nil {
		return nil, fmt.Errorf("reading certificates: %w", err)
	}
	return &http.Transport{TLSClientConfig: cfg, ForceAttemptHTTP2: true, DisableCompression: true}, nil // nor does etcd compress
}

func object(key string) string {
	return fmt.Sprintf(`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":%q},"data":{"a":%q}}`, key, strings.Repeat("x", objectSize))
}

func (s *apiStore) create(ctx context.Context, w int, key string) error {
	_, err := s.call(ctx, w, http.MethodPost, s.url, object(key))
	return err
}

func (s *apiStore) get(ctx context.Context, w int, key string) error {
	_, err := s.call(ctx, w, http.MethodGet, s.url+"/"+key, "")
	return err
}

func (s *apiStore) update(ctx context.Context, w int, key string) error {
	_, err := s.call(ctx, w, http.MethodPut, s.url+"/"+key, strings.Replace(object(key), "xxxx", fmt.Sprintf("%04d", time.Now().Nanosecond()%10000), 1))
	return err
}

func (s *apiStore) patch(ctx context.Context, w int, key string) error {
	_, err := s.call(ctx, w, http.MethodPatch, s.url+"/"+key, fmt.Sprintf(`{"data":{"b":"%d"}}`, time.Now().Nanosecond()))
	return err
}

func (s *apiStore) remove(ctx context.Context, w int, key string) error {
	_, err := s.call(ctx, w, http.MethodDelete, s.url+"/"+key, "")
	return err
}

func (s *apiStore) list(ctx context.Context) (int, error) {
	return s.call(ctx, 0, http.MethodGet, s.url, "")
}

func (s *apiStore) call(ctx context.Context, w int, method, url, body string) (int, error) {
	req, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		return 0, err
	}
	req.Header.Set("Accept", s.accept)
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	if method == http.MethodPatch {
		req.Header.Set("Content-Type", "application/merge-patch+json")
	}
	resp, err := s.clients[w%connections].Do(req)
	if err != nil {
		return 0, fmt.Errorf("calling the API: %w", err)
	}
	defer resp.Body.Close()
	n, err := io.Copy(io.Discard, resp.Body)
	if err != nil {
		return 0, fmt.Errorf("reading the API's answer: %w", err)
	}
	if resp.StatusCode >= 300 {
		return 0, fmt.Errorf("%s %s: %s", method, url, resp.Status)
	}
	return int(n), nil
}

// etcdStore does what the API server must at least do for the same verb.
type etcdStore struct{ clients []*clientv3.Client }

const rawPrefix = "/bench/"

func (b *bench) etcd() (*etcdStore, error) {
	cfg, endpoint, err := b.etcdAccess()
	if err != nil {
		return nil, err
	}
	s := &etcdStore{}
	for range connections {
		c, err := clientv3.New(clientv3.Config{Endpoints: []string{endpoint}, TLS: cfg, DialTimeout: 10 * time.Second})
		if err != nil {
			return nil, fmt.Errorf("opening etcd: %w", err)
		}
		s.clients = append(s.clients, c)
	}
	return s, nil
}

// etcdAccess is how the API server itself reaches etcd.
func (b *bench) etcdAccess() (*tls.Config, string, error) {
	line, err := b.apiserverCommand()
	if err != nil {
		return nil, "", err
	}
	endpoint := ""
	for _, arg := range line {
		if v, ok := strings.CutPrefix(arg, "--etcd-servers="); ok {
			endpoint = v
		}
	}
	pki := filepath.Join(b.dir, "pki")
	pair, err := tls.LoadX509KeyPair(filepath.Join(pki, "apiserver-etcd-client.crt"), filepath.Join(pki, "apiserver-etcd-client.key"))
	if err != nil {
		return nil, "", fmt.Errorf("reading certificates: %w", err)
	}
	ca, err := os.ReadFile(filepath.Join(pki, "etcd-ca.crt"))
	if err != nil {
		return nil, "", fmt.Errorf("reading certificates: %w", err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	return &tls.Config{Certificates: []tls.Certificate{pair}, RootCAs: roots, MinVersion: tls.VersionTLS12}, endpoint, nil
}

func (s *etcdStore) close() {
	for _, c := range s.clients {
		c.Close()
	}
}

func (s *etcdStore) of(w int) *clientv3.Client { return s.clients[w%connections] }

func (s *etcdStore) create(ctx context.Context, w int, key string) error {
	k := rawPrefix + key
	_, err := s.of(w).Txn(ctx).If(clientv3.Compare(clientv3.ModRevision(k), "=", 0)).Then(clientv3.OpPut(k, object(key))).Commit()
	return err
}

func (s *etcdStore) get(ctx context.Context, w int, key string) error {
	_, err := s.of(w).Get(ctx, rawPrefix+key)
	return err
}

func (s *etcdStore) update(ctx context.Context, w int, key string) error {
	k := rawPrefix + key
	_, err := s.of(w).Txn(ctx).If(clientv3.Compare(clientv3.ModRevision(k), ">", 0)).Then(clientv3.OpPut(k, object(key))).Commit()
	return err
}

func (s *etcdStore) patch(ctx context.Context, w int, key string) error { return s.update(ctx, w, key) }

func (s *etcdStore) remove(ctx context.Context, w int, key string) error {
	k := rawPrefix + key
	_, err := s.of(w).Txn(ctx).If(clientv3.Compare(clientv3.ModRevision(k), ">", 0)).Then(clientv3.OpDelete(k)).Commit()
	return err
}

func (s *etcdStore) list(ctx context.Context) (int, error) {
	resp, err := s.of(0).Get(ctx, rawPrefix, clientv3.WithPrefix())
	if err != nil {
		return 0, err
	}
	n := 0
	for _, kv := range resp.Kvs {
		n += len(kv.Value)
	}
	return n, nil
}
