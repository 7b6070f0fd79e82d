package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"k8s.io/client-go/rest"

	"pilothouse.dev/pkg/pki"
)

const (
	fairObjects = 5000 // that each list of the flood is of
	flooders    = 32   // lists under way at a time
	mice        = 2000 // gets that are timed
)

// fairness floods the server with one user's lists of everything, and times another's gets meanwhile. Neither is an administrator: both are of
// the same priority level, and only fair queueing keeps them apart.
func (b *bench) fairness(ctx context.Context) error {
	admin, err := b.api("application/json")
	if err != nil {
		return err
	}
	if err := b.allow(ctx, admin); err != nil {
		return err
	}
	if _, err := many(ctx, fairObjects, admin.create); err != nil {
		return fmt.Errorf("creating objects: %w", err)
	}
	elephant, err := b.as("elephant")
	if err != nil {
		return err
	}
	mouse, err := b.as("mouse")
	if err != nil {
		return err
	}
	quiet, err := gets(ctx, mouse)
	if err != nil {
		return err
	}
	began := time.Now()
	count, err := b.flood(ctx, elephant)
	if err != nil {
		return err
	}
	flooded, err := gets(ctx, mouse)
	took := time.Since(began)
	lists, refused, cerr := count()
	if err = errors.Join(err, cerr); err != nil {
		return err
	}
	title := fmt.Sprintf("%d gets of one user, one after another, beside a flood of another's lists of %d ConfigMaps, %d at a time; the limit is without the flood", mice, fairObjects, flooders)
	for _, p := range []float64{50, 99} {
		aim := ""
		if p == 99 {
			aim = ", aim: 3"
		}
		b.report.add(title, row{fmt.Sprintf("get, p%.0f", p), millis(flooded.at(p)), millis(quiet.at(p)), times(flooded.at(p), quiet.at(p)) + aim})
	}
	b.report.add(title, row{"lists meanwhile, and refused", fmt.Sprintf("%s, %d", perSecond(lists, took), refused), "", ""})
	_, err = admin.call(ctx, 0, http.MethodDelete, admin.url, "")
	return errors.Join(err, ctx.Err())
}

// flood starts the flood in a process of its own, of the lowest priority: its clients' work would be on other machines. It returns once the flood
// stands; the returned function ends it, and says how many lists came and how many were refused.
func (b *bench) flood(ctx context.Context, u *user) (count func() (lists, refused int, err error), err error) {
	ctx, stop := context.WithCancel(ctx)
	defer func() {
		if err != nil {
			stop()
		}
	}()
	cmd := exec.CommandContext(ctx, "nice", "-n", "19", os.Args[0], floodCommand, u.url, u.cert, u.key, u.ca)
	cmd.Stderr = os.Stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 10 * time.Second
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("starting the flood: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting the flood: %w", err)
	}
	in := bufio.NewScanner(out)
	if !in.Scan() || in.Text() != floodStands {
		return nil, errors.Join(errors.New("the flood did not come about"), in.Err())
	}
	return func() (lists, refused int, err error) {
		stop()
		for in.Scan() {
			_, err = fmt.Sscan(in.Text(), &lists, &refused)
		}
		// That it was told to end is no error.
		if werr := cmd.Wait(); err == nil && lists == 0 {
			err = errors.Join(errors.New("the flood did not say what came of it"), werr)
		}
		return lists, refused, err
	}, nil
}

// allow lets both users read. The role is there once the server has made it.
func (b *bench) allow(ctx context.Context, admin *apiStore) error {
	const group = "rbac.authorization.k8s.io"
	path := b.server.rest.Host + "/apis/" + group + "/v1/"
	ready, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for {
		_, err := admin.call(ready, 0, http.MethodGet, path+"clusterroles/view", "")
		if err == nil {
			break
		}
		select {
		case <-ready.Done():
			return err
		case <-time.After(100 * time.Millisecond):
		}
	}
	_, err := admin.call(ctx, 0, http.MethodPost, path+"clusterrolebindings", fmt.Sprintf(`{"apiVersion":"%[1]s/v1","kind":"ClusterRoleBinding",
		"metadata":{"name":"bench-fairness"},"roleRef":{"apiGroup":%[1]q,"kind":"ClusterRole","name":"view"},
		"subjects":[{"apiGroup":%[1]q,"kind":"User","name":"elephant"},{"apiGroup":%[1]q,"kind":"User","name":"mouse"}]}`, group))
	return err
}

// gets times one get after another.
func gets(ctx context.Context, s *user) (samples, error) {
	var out samples
	for i := range mice {
		began := time.Now()
		if err := s.get(ctx, 0, fmt.Sprintf("many-%06d", 1+i%fairObjects)); err != nil {
			return nil, err
		}
		out = append(out, time.Since(began))
	}
	return out, nil
}

// as is the API as a user without any group sees it.
func (b *bench) as(name string) (*user, error) {
	authority, err := pki.EnsureAuthority(filepath.Join(b.dir, "pki"), "cluster-ca")
	if err != nil {
		return nil, err
	}
	pair, err := authority.Issue(pki.Identity{Name: name, Client: true}, 0)
	if err == nil {
		err = pair.Write(filepath.Join(b.dir, "pki"), name)
	}
	if err != nil {
		return nil, err
	}
	file := filepath.Join(b.dir, "pki", name)
	return userOf(b.server.rest.Host+"/api/v1/namespaces/default/configmaps", file+".crt", file+".key", filepath.Join(b.dir, "pki", "cluster-ca.crt"))
}

// user is the API as the holder of a certificate sees it.
type user struct {
	*apiStore
	cert, key, ca string // files
}

func userOf(url, cert, key, ca string) (*user, error) {
	u := &user{&apiStore{url: url, accept: "application/json"}, cert, key, ca}
	for range connections {
		cfg, err := rest.TLSConfigFor(&rest.Config{TLSClientConfig: rest.TLSClientConfig{CertFile: cert, KeyFile: key, CAFile: ca}})
		if err != nil {
			return nil, fmt.Errorf("reading certificates: %w", err)
		}
		u.clients = append(u.clients, &http.Client{Transport: &http.Transport{TLSClientConfig: cfg, ForceAttemptHTTP2: true, DisableCompression: true}})
	}
	return u, nil
}

const (
	floodCommand = "flood"
	floodStands  = "the flood stands"
)

// flood lists everything all the time until ctx ends, and prints when it stands and, at its end, how many lists came and were refused.
func flood(ctx context.Context, url, cert, key, ca string) error {
	u, err := userOf(url, cert, key, ca)
	if err != nil {
		return err
	}
	var wg sync.WaitGroup
	var lists, refused atomic.Int64
	for w := range flooders {
		wg.Go(func() {
			for ctx.Err() == nil {
				if _, err := u.call(ctx, w, http.MethodGet, u.url, ""); err == nil {
					if lists.Add(1) == flooders {
						fmt.Println(floodStands)
					}
				} else if ctx.Err() == nil {
					refused.Add(1)
				}
			}
		})
	}
	wg.Wait()
	fmt.Println(lists.Load(), refused.Load())
	return nil
}
