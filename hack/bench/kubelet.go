package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/containerd/containerd"
	"github.com/containerd/containerd/namespaces"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	podsMany   = 100
	podsEnded  = 20 // whose container dies once
	watchedFor = 30 * time.Second
	nodeTitle  = "One node: pods' lives, against containerd's client alone"
)

// kubelet measures one node: how pods start, end and start again, how many a second, and what the kubelet and a pod cost.
func (b *bench) kubelet(ctx context.Context) (err error) {
	if err := b.cluster("down"); err != nil {
		return err
	}
	if err := b.cluster("up", "-nodes", "1", "-dns=false"); err != nil {
		return err
	}
	if err := b.connect(); err != nil {
		return err
	}
	w, err := b.watchPods(ctx)
	if err != nil {
		return err
	}
	defer w.stop()
	if _, err := b.together(ctx, w, "warm", 4); err != nil {
		return err
	}
	if err := pause(ctx, settle); err != nil {
		return err
	}
	idle, err := b.footprint()
	if err != nil {
		return err
	}
	b.report.add(nodeTitle, row{"kubelet, idle: resident MiB (anonymous)", mib(idle), "aim: 45", ""})

	raw, err := openRuntime(ctx, b.runtimeSocket(), filepath.Join(b.bin, "images", "testapp.tar"), b.cfg.Name)
	if err != nil {
		return err
	}
	defer raw.close()
	for _, measure := range []func(context.Context, *podWatch, *rawRuntime) error{b.births, b.deaths, b.contents, b.crowd} {
		if err := measure(ctx, w, raw); err != nil {
			return err
		}
	}
	return nil
}

// births and deletions, one at a time.
func (b *bench) births(ctx context.Context, w *podWatch, raw *rawRuntime) error {
	rawStart, err := raw.oneByOne(ctx, podsAlone)
	if err != nil {
		return err
	}
	var started, gone samples
	for i := range podsAlone {
		name := fmt.Sprintf("birth-%d", i)
		began := time.Now()
		if err := b.createPod(ctx, name); err != nil {
			return err
		}
		at, err := w.running(ctx, name)
		if err != nil {
			return err
		}
		started = append(started, at.Sub(began))
		began = time.Now()
		if err := b.deletePod(ctx, w, name); err != nil {
			return err
		}
		gone = append(gone, time.Since(began))
	}
	_, rawGone, err := raw.lives(ctx, podsEnded)
	if err != nil {
		return err
	}
	b.ratio("POST → Running", "120 ms, 220 ms", started, rawStart)
	b.ratio("DELETE → gone, the process ends on TERM", "130 ms", gone, rawGone)
	return nil
}

func (b *bench) ratio(what, aim string, ours, limit samples) {
	for _, p := range []float64{50, 99} {
		b.report.add(nodeTitle, row{fmt.Sprintf("%s, p%.0f", what, p), millis(ours.at(p)), millis(limit.at(p)), times(ours.at(p), limit.at(p)) + " (aim " + aim + ")"})
	}
}

// deaths: a container is killed for the first time, and runs again.
func (b *bench) deaths(ctx context.Context, w *podWatch, raw *rawRuntime) error {
	limit, _, err := raw.lives(ctx, podsEnded)
	if err != nil {
		return err
	}
	var again samples
	for i := range podsEnded {
		name := fmt.Sprintf("death-%d", i)
		if err := b.createPod(ctx, name); err != nil {
			return err
		}
		if _, err := w.running(ctx, name); err != nil {
			return err
		}
		pid, err := b.process(ctx, raw.client, name)
		if err != nil {
			return err
		}
		began := time.Now()
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			return fmt.Errorf("killing the process of %s: %w", name, err)
		}
		at, err := w.runningAgain(ctx, name)
		if err != nil {
			return err
		}
		again = append(again, at.Sub(began))
		if err := b.deletePod(ctx, w, name); err != nil {
			return err
		}
	}
	b.ratio("a container dies → Running again, the first time", "150 ms", again, limit)
	return nil
}

// process is the first process of a pod's only container.
func (b *bench) process(ctx context.Context, runtime *containerd.Client, pod string) (int, error) {
	p, err := b.clients.Kube.CoreV1().Pods("default").Get(ctx, pod, metav1.GetOptions{})
	if err != nil {
		return 0, fmt.Errorf("reading pod %s: %w", pod, err)
	}
	if len(p.Status.ContainerStatuses) != 1 {
		return 0, fmt.Errorf("pod %s has %d containers in its status", pod, len(p.Status.ContainerStatuses))
	}
	ctx = namespaces.WithNamespace(ctx, "k8s.io")
	c, err := runtime.LoadContainer(ctx, strings.TrimPrefix(p.Status.ContainerStatuses[0].ContainerID, "containerd://"))
	if err != nil {
		return 0, fmt.Errorf("finding the container of %s: %w", pod, err)
	}
	task, err := c.Task(ctx, nil)
	if err != nil {
		return 0, fmt.Errorf("finding the task of %s: %w", pod, err)
	}
	return int(task.Pid()), nil
}

// crowd starts many pods at once, and weighs them and the kubelet while they do nothing.
func (b *bench) crowd(ctx context.Context, w *podWatch, raw *rawRuntime) error {
	for _, n := range []int{podsTogether, podsMany} {
		aim := map[int]string{podsTogether: "20/s", podsMany: "18/s"}[n]
		ends, err := raw.together(ctx, n)
		if err != nil {
			return err
		}
		limit := slices.Max(ends)
		before, err := b.processorTime()
		if err != nil {
			return err
		}
		names := make([]string, n)
		for i := range names {
			names[i] = fmt.Sprintf("crowd%d-%d", n, i)
		}
		took, err := b.startAll(ctx, w, names)
		if err != nil {
			return err
		}
		after, err := b.processorTime()
		if err != nil {
			return err
		}
		b.report.add(nodeTitle, row{fmt.Sprintf("%d pods at once, until the last runs", n), perSecond(n, took), perSecond(n, limit), fmt.Sprintf("%.2f (aim %s)", limit.Seconds()/took.Seconds(), aim)})
		for _, part := range []string{"apiserver", "etcd", "scheduler", "controller-manager", "kubelet", "containerd", "kube-proxy"} {
			b.report.add(nodeTitle, row{fmt.Sprintf("… processor time of %s a pod", part), millis((after[part] - before[part]) / time.Duration(n)), "", ""})
		}
		if n == podsMany {
			if err := b.weigh(ctx, w, n); err != nil {
				return err
			}
		}
		if err := b.deleteAll(ctx, w, names); err != nil {
			return err
		}
	}
	return nil
}

// startAll posts pods by sixteen clients and says how long it took until the last one ran.
func (b *bench) startAll(ctx context.Context, w *podWatch, names []string) (time.Duration, error) {
	began := time.Now()
	if err := inParallel(names, func(name string) error { return b.createPod(ctx, name) }); err != nil {
		return 0, err
	}
	last := began
	for _, name := range names {
		at, err := w.running(ctx, name)
		if err != nil {
			return 0, err
		}
		if at.After(last) {
			last = at
		}
	}
	return last.Sub(began), nil
}

func (b *bench) deleteAll(ctx context.Context, w *podWatch, names []string) error {
	return inParallel(names, func(name string) error { return b.deletePod(ctx, w, name) })
}

// inParallel does a thing with each name, sixteen at a time, and says what failed first.
func inParallel(names []string, do func(string) error) error {
	todo := make(chan string)
	var mu sync.Mutex
	var failed error
	var all sync.WaitGroup
	for range plainClients {
		all.Go(func() {
			for name := range todo {
				if err := do(name); err != nil {
					mu.Lock()
					if failed == nil {
						failed = err
					}
					mu.Unlock()
				}
			}
		})
	}
	for _, name := range names {
		todo <- name
	}
	close(todo)
	all.Wait()
	return failed
}

// weigh reads what the kubelet and the pods cost once all is quiet.
func (b *bench) weigh(ctx context.Context, _ *podWatch, n int) error {
	if err := pause(ctx, settle); err != nil {
		return err
	}
	before, err := b.processorTime()
	if err != nil {
		return err
	}
	if err := pause(ctx, watchedFor); err != nil {
		return err
	}
	after, err := b.processorTime()
	if err != nil {
		return err
	}
	full, err := b.footprint()
	if err != nil {
		return err
	}
	shims, count, err := shimMemory(filepath.Join("/run/pilothouse", b.cfg.Name, "node1"))
	if err != nil {
		return err
	}
	part := 100 * float64(after["kubelet"]-before["kubelet"]) / float64(watchedFor)
	b.report.add(nodeTitle,
		row{fmt.Sprintf("kubelet with %d pods: resident MiB (anonymous)", n), mib(full), "aim: 70", ""},
		row{fmt.Sprintf("kubelet with %d idle pods: part of a core", n), fmt.Sprintf("%.2f %%", part), "aim: 2 %", ""},
		row{"memory of a pod beyond its own processes: the shim's own pages, mean", fmt.Sprintf("%.1f MiB", float64(shims)/float64(count)/1024), "2.4 MiB (LIMITS)", "aim: 4.5 MiB"})
	return nil
}

// footprint is the kubelet's resident memory in KiB, all and anonymous.
func (b *bench) footprint() ([2]int, error) {
	pids, err := b.processes()
	if err != nil {
		return [2]int{}, err
	}
	rss, anon, err := resident(pids["node1/kubelet"])
	return [2]int{rss, anon}, err
}

func mib(kib [2]int) string { return fmt.Sprintf("%d (%d)", kib[0]>>10, kib[1]>>10) }

// shimMemory is the private memory in KiB of all shims that serve the containerd whose sockets lie in a folder, and how many there are.
func shimMemory(dir string) (kib, count int, err error) {
	found, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return 0, 0, err
	}
	for _, file := range found {
		line, err := os.ReadFile(file)
		if err != nil || !strings.Contains(string(line), "containerd-shim-runc-v2") || !strings.Contains(string(line), dir) {
			continue // ended meanwhile, or none of ours
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		if err != nil {
			return 0, 0, err
		}
		_, anon, err := resident(pid)
		if err != nil {
			return 0, 0, err
		}
		kib, count = kib+anon, count+1
	}
	if count == 0 {
		return 0, 0, fmt.Errorf("no shim of the containerd in %s was found", dir)
	}
	return kib, count, nil
}

// processorTime is what each daemon has used since it began, by the part of its name after the node's.
func (b *bench) processorTime() (map[string]time.Duration, error) {
	pids, err := b.processes()
	if err != nil {
		return nil, err
	}
	out := map[string]time.Duration{}
	for name, pid := range pids {
		if _, part, ok := strings.Cut(name, "/"); ok {
			name = part
		}
		data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			return nil, fmt.Errorf("reading processor time: %w", err)
		}
		_, rest, _ := strings.Cut(string(data), ") ")
		fields := strings.Fields(rest)
		if len(fields) < 13 {
			return nil, fmt.Errorf("reading processor time: %q", data)
		}
		for _, f := range fields[11:13] { // user and system, in ticks of 10 ms (proc(5))
			ticks, err := strconv.Atoi(f)
			if err != nil {
				return nil, fmt.Errorf("reading processor time: %w", err)
			}
			out[name] += time.Duration(ticks) * 10 * time.Millisecond
		}
	}
	return out, nil
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
