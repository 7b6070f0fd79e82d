package images

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
)

func TestBackOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBackOff(10*time.Second, 30*time.Second)
		why := errors.New("no")
		for _, wait := range []time.Duration{10 * time.Second, 20 * time.Second, 30 * time.Second, 30 * time.Second} {
			b.failed("x", why)
			time.Sleep(wait - time.Nanosecond)
			if b.waiting("x") != why {
				t.Fatalf("not waiting just before %s", wait)
			}
			time.Sleep(time.Nanosecond)
			if b.waiting("x") != nil {
				t.Fatalf("still waiting after %s", wait)
			}
		}
		b.failed("y", why)
		if b.waiting("y") == nil || b.waiting("x") != nil {
			t.Fatal("keys are not kept apart")
		}
		b.succeeded("y")
		if b.waiting("y") != nil {
			t.Fatal("waiting after success")
		}
		time.Sleep(2 * time.Minute)
		b.failed("z", why)
		if len(b.tries) != 1 {
			t.Fatalf("%d tries are remembered", len(b.tries))
		}
	})
}

func TestNames(t *testing.T) {
	for image, c := range map[string]struct {
		full   string
		policy corev1.PullPolicy
	}{
		"busybox":                      {"docker.io/library/busybox:latest", corev1.PullAlways},
		"busybox:1.36":                 {"docker.io/library/busybox:1.36", corev1.PullIfNotPresent},
		"user/app":                     {"docker.io/user/app:latest", corev1.PullAlways},
		"198.18.0.1:5000/app:latest":   {"198.18.0.1:5000/app:latest", corev1.PullAlways},
		"localhost/app":                {"localhost/app:latest", corev1.PullAlways},
		"a.test/b/c:1@" + someDigest:   {"a.test/b/c@" + someDigest, corev1.PullIfNotPresent},
		"registry.example/x:v1.0-rc.1": {"registry.example/x:v1.0-rc.1", corev1.PullIfNotPresent},
	} {
		named, err := parse(image)
		if err != nil || named.String() != c.full || policyFor("", named) != c.policy {
			t.Errorf("%s: got %v, %v", image, named, err)
		}
	}
}

const someDigest = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
