package images

import (
	"context"
	"crypto/sha256"
	"fmt"
	"time"

	"github.com/distribution/reference"

	"pilothouse.dev/kubelet/credentials"
)

// flight is one pull that is under way, for all who wait for it.
type flight struct {
	cancel  context.CancelFunc
	waiters int           // guarded by Store.mu
	done    chan struct{} // closed when img and err are set
	img     Image
	err     error
}

// flightKey keeps pulls with different rights apart, without holding a password in a key.
func flightKey(name string, creds []credentials.Credential) string {
	sum := sha256.New()
	for _, c := range creds {
		fmt.Fprintf(sum, "%q %q;", c.Username, c.Password) // a hash takes all that is written to it
	}
	return fmt.Sprintf("%s %x", name, sum.Sum(nil)[:16])
}

// shared pulls, or joins who is pulling the same image with the same credentials. A pull outlives the pod that began it if others wait for it too; the
// last one to leave ends it. What it has brought until then stays for a while (lease.go).
func (s *Store) shared(ctx context.Context, named reference.Named, k *keys) (Image, error) {
	key := flightKey(named.String(), k.list(ctx))
	s.mu.Lock()
	f := s.flights[key]
	if f == nil {
		work, cancel := context.WithCancel(context.WithoutCancel(ctx))
		f = &flight{cancel: cancel, done: make(chan struct{})}
		s.flights[key] = f
		go s.fly(work, f, key, named, k)
	}
	f.waiters++
	s.mu.Unlock()
	select {
	case <-f.done:
		return f.img, f.err
	case <-ctx.Done():
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if f.waiters--; f.waiters == 0 {
		f.cancel()
		s.land(key, f)
	}
	return Image{}, ctx.Err()
}

// land takes a flight off the list, so that the next wish begins another. Called with mu held.
func (s *Store) land(key string, f *flight) {
	if s.flights[key] == f {
		delete(s.flights, key)
	}
}

// fly waits for its turn and pulls.
func (s *Store) fly(ctx context.Context, f *flight, key string, named reference.Named, k *keys) {
	defer f.cancel()
	defer func() {
		s.mu.Lock()
		s.land(key, f)
		s.mu.Unlock()
		close(f.done)
	}()
	select {
	case s.pulls <- struct{}{}:
		defer func() { <-s.pulls }()
	case <-ctx.Done():
		f.err = ctx.Err()
		return
	}
	begun := time.Now()
	f.img, f.err = s.pull(ctx, named, k, key)
	f.img.Took = time.Since(begun)
}
