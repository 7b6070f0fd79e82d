package podset

import (
	"context"
	"sync"
)

// SlowStart calls fn for 0 ≤ i < n in batches of 1, 2, 4 … side by side, and stops after the first batch with an error: a
// quota that is full is asked once, not n times. It returns how many succeeded and the first error.
func SlowStart(ctx context.Context, n int, fn func(ctx context.Context, i int) error) (done int, err error) {
	for size := 1; done < n; size *= 2 {
		if ctx.Err() != nil {
			return done, ctx.Err()
		}
		first := done
		ok, err := Together(min(size, n-done), func(i int) error { return fn(ctx, first+i) })
		done += ok
		if err != nil {
			return done, err
		}
	}
	return done, nil
}

// Together calls fn for 0 ≤ i < n at once, waits for all, and returns how many succeeded and the first error by number.
func Together(n int, fn func(i int) error) (ok int, err error) {
	errs := make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { errs[i] = fn(i) })
	}
	wg.Wait()
	for _, e := range errs {
		if e == nil {
			ok++
		} else if err == nil {
			err = e
		}
	}
	return ok, err
}
