package main

import (
	"context"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/utils/ptr"
)

const (
	podsAlone    = 30
	podsTogether = 30
	podImage     = "testapp:1"
)

// pods measures a pod from POST to Running as a watch sees it, against containers of the same image by containerd's client alone.
func (b *bench) pods(ctx context.Context) error {
	w, err := b.watchPods(ctx)
	if err != nil {
		return err
	}
	defer w.stop()
	// The image comes to every node before anything counts.
	if _, err := b.together(ctx, w, "warm", 3*4); err != nil {
		return err
	}
	alone, err := b.oneByOne(ctx, w)
	if err != nil {
		return err
	}
	together, err := b.together(ctx, w, "together", podsTogether)
	if err != nil {
		return err
	}
	raw, err := openRuntime(ctx, b.runtimeSocket(), filepath.Join(b.bin, "images", "testapp.tar"), b.cfg.Name)
	if err != nil {
		return err
	}
	defer raw.close()
	rawAlone, err := raw.oneByOne(ctx, podsAlone)
	if err != nil {
		return err
	}
	rawTogether, err := raw.together(ctx, podsTogether)
	if err != nil {
		return err
	}
	title := "A pod from POST to Running as a watch sees it, image present, against containerd's client alone"
	for _, p := range []float64{50, 99} {
		b.report.add(title, row{fmt.Sprintf("one at a time, p%.0f", p), millis(alone.at(p)), millis(rawAlone.at(p)), times(alone.at(p), rawAlone.at(p))})
	}
	for _, p := range []float64{50, 99} {
		b.report.add(title, row{fmt.Sprintf("%d at once, p%.0f", podsTogether, p), millis(together.at(p)), millis(rawTogether.at(p)), times(together.at(p), rawTogether.at(p))})
	}
	return nil
}

// runtimeSocket is the first node's containerd.
func (b *bench) runtimeSocket() string {
	return filepath.Join("/run/pilothouse", b.cfg.Name, "node1", "containerd.sock")
}

func (b *bench) oneByOne(ctx context.Context, w *podWatch) (samples, error) {
	var out samples
	for i := range podsAlone {
		name := fmt.Sprintf("alone-%d", i)
		began := time.Now()
		if err := b.createPod(ctx, name); err != nil {
			return nil, err
		}
		at, err := w.running(ctx, name)
		if err != nil {
			return nil, err
		}
		out = append(out, at.Sub(began))
		if err := b.deletePod(ctx, w, name); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (b *bench) together(ctx context.Context, w *podWatch, prefix string, n int) (samples, error) {
	out := make(samples, n)
	errs := make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			name := fmt.Sprintf("%s-%d", prefix, i)
			began := time.Now()
			if errs[i] = b.createPod(ctx, name); errs[i] != nil {
				return
			}
			var at time.Time
			at, errs[i] = w.running(ctx, name)
			out[i] = at.Sub(began)
		})
	}
	wg.Wait()
	for i := range n {
		if errs[i] != nil {
			return nil, errs[i]
		}
		if err := b.deletePod(ctx, w, fmt.Sprintf("%s-%d", prefix, i)); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (b *bench) createPod(ctx context.Context, name string) error {
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: corev1.PodSpec{
			TerminationGracePeriodSeconds: ptr.To(int64(1)),
			Containers: []corev1.Container{{
				Name: "c", Image: podImage, ImagePullPolicy: corev1.PullIfNotPresent, Args: []string{"pause"},
			}},
		},
	}
	if _, err := b.clients.Kube.CoreV1().Pods("default").Create(ctx, pod, metav1.CreateOptions{}); err != nil {
		return fmt.Errorf("creating pod: %w", err)
	}
	return nil
}

// deletePod returns when the pod is gone, so that the next begins on an idle node.
func (b *bench) deletePod(ctx context.Context, w *podWatch, name string) error {
	if err := b.clients.Kube.CoreV1().Pods("default").Delete(ctx, name, metav1.DeleteOptions{}); err != nil {
		return fmt.Errorf("deleting pod: %w", err)
	}
	_, err := w.gone(ctx, name)
	return err
}

// podWatch notes when each pod was first seen running and when it was gone.
type podWatch struct {
	stop func()

	mu      sync.Mutex
	changed chan struct{} // closed and made anew with each note
	ran     map[string]time.Time
	again   map[string]time.Time // running after its container ended once
	went    map[string]time.Time
}

func (b *bench) watchPods(ctx context.Context) (*podWatch, error) {
	list, err := b.clients.Kube.CoreV1().Pods("default").List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("listing pods: %w", err)
	}
	events, err := b.clients.Kube.CoreV1().Pods("default").Watch(ctx, metav1.ListOptions{ResourceVersion: list.ResourceVersion})
	if err != nil {
		return nil, fmt.Errorf("watching pods: %w", err)
	}
	w := &podWatch{stop: events.Stop, changed: make(chan struct{}), ran: map[string]time.Time{}, again: map[string]time.Time{}, went: map[string]time.Time{}}
	go func() {
		for e := range events.ResultChan() {
			pod, ok := e.Object.(*corev1.Pod)
			if !ok {
				continue
			}
			w.mu.Lock()
			switch _, known := w.ran[pod.Name]; {
			case e.Type == watch.Deleted:
				w.went[pod.Name] = time.Now()
			case pod.Status.Phase == corev1.PodRunning && !known:
				w.ran[pod.Name] = time.Now()
			case restarted(pod) && w.again[pod.Name].IsZero():
				w.again[pod.Name] = time.Now()
			}
			close(w.changed)
			w.changed = make(chan struct{})
			w.mu.Unlock()
		}
	}()
	return w, nil
}

func restarted(p *corev1.Pod) bool {
	cs := p.Status.ContainerStatuses
	return len(cs) == 1 && cs[0].RestartCount > 0 && cs[0].State.Running != nil
}

func (w *podWatch) running(ctx context.Context, name string) (time.Time, error) {
	return w.await(ctx, name, "running", func() time.Time { return w.ran[name] })
}

func (w *podWatch) runningAgain(ctx context.Context, name string) (time.Time, error) {
	return w.await(ctx, name, "running again", func() time.Time { return w.again[name] })
}

func (w *podWatch) gone(ctx context.Context, name string) (time.Time, error) {
	return w.await(ctx, name, "gone", func() time.Time { return w.went[name] })
}

func (w *podWatch) await(ctx context.Context, name, what string, noted func() time.Time) (time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		w.mu.Lock()
		at, changed := noted(), w.changed
		w.mu.Unlock()
		if !at.IsZero() {
			return at, nil
		}
		select {
		case <-ctx.Done():
			return time.Time{}, fmt.Errorf("waiting for pod %s to be %s: %w", name, what, ctx.Err())
		case <-changed:
		}
	}
}
