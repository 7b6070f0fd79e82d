package pods

import (
	"context"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"pilothouse.dev/kubelet/cgroups"
	"pilothouse.dev/kubelet/containers"
	"pilothouse.dev/pkg/pod"
)

// The worker's part of resizes: it reads what groups have, changes them, and tells.

// measure reads what running containers and the pod's group have: of each once, and of all again when something may have changed them.
func (w *worker) measure(s *state) error {
	z := w.sizing()
	running := map[string]bool{}
	for kind, c := range pod.Containers(s.pod) {
		rs := s.seen.Records[c.Name]
		if kind == pod.Ephemeral || len(rs) == 0 || rs[0].State != containers.Running || rs[0].CgroupPath == "" {
			continue
		}
		r := &rs[0]
		running[r.ID] = true
		if _, read := s.has[r.ID]; read && !s.remeasure {
			continue
		}
		has, err := w.parts.Groups.Actual(r.CgroupPath)
		if errors.Is(err, cgroups.ErrNotFound) {
			continue // it has just ended; its event is on the way
		}
		if err != nil {
			return err
		}
		s.has[r.ID] = has
		if _, known := s.seen.Sizes[r.ID]; !known {
			want := z.sizeOf(s.pod, c)
			size, told := parseSize(r.Labels[labelSize])
			if !told || want.read(has) == want { // a former life of the kubelet has changed it already
				size = want
			}
			s.seen.Sizes[r.ID] = size
		}
	}
	s.remeasure = false
	for id := range s.has {
		if !running[id] {
			delete(s.has, id)
			delete(s.seen.Sizes, id)
		}
	}
	if s.seen.Group != nil || s.group == "" || len(running) == 0 {
		return nil
	}
	has, err := w.parts.Groups.Actual(s.group)
	if err != nil {
		return err
	}
	group := z.podSize(s.pod).read(has)
	s.seen.Group = &group
	return nil
}

// resize brings the pod's group and its running containers to their sizes, in the order that the kernel accepts: nothing in a group may have more than
// the group.
func (w *worker) resize(ctx context.Context, in input) (apply func(*state), err error) {
	z := w.sizing()
	sizes := map[string]Size{}
	var group *Size
	apply = func(s *state) {
		for id, size := range sizes {
			s.seen.Sizes[id] = size
		}
		if group != nil {
			s.seen.Group = group
		}
		s.remeasure = true
	}
	restarts := false
	type change struct {
		record containers.Container
		size   Size
		res    cgroups.Resources
	}
	var changes []change
	for kind, c := range pod.Containers(in.pod) {
		rs := in.records[c.Name]
		if kind == pod.Ephemeral || len(rs) == 0 || rs[0].State != containers.Running {
			continue
		}
		want := z.sizeOf(in.pod, c)
		if started, told := parseSize(rs[0].Labels[labelSize]); told && mustRestart(c, started, want) {
			restarts = true
			continue
		}
		res := z.container(in.pod, c)
		if want.MemoryLimit == 0 {
			res.Memory = -1 // nothing said would leave the old one
		}
		if z.V2 && res.MemoryHigh == 0 {
			res.MemoryHigh = -1
		}
		changes = append(changes, change{rs[0], want, res})
		if err := w.fits(rs[0].CgroupPath, want.MemoryLimit, fmt.Sprintf("container %q memory limit", c.Name)); err != nil {
			return apply, err
		}
	}
	want := z.podSize(in.pod)
	has, err := w.parts.Groups.Actual(in.group)
	if err != nil {
		return apply, err
	}
	if err := w.fits(in.group, want.MemoryLimit, "pod memory limit"); err != nil {
		return apply, err
	}
	now := want.read(has)
	set := func(size Size) error {
		res := z.limits(size)
		if size.MemoryLimit == 0 {
			res.Memory = -1
		}
		full := z.pod(in.pod)
		res.MemoryMin, res.MemoryLow = full.MemoryMin, full.MemoryLow
		if err := w.parts.Groups.Update(in.group, res); err != nil {
			return err
		}
		group = &size
		return nil
	}
	if large := now.larger(want); large != now {
		if err := set(large); err != nil {
			return apply, err
		}
		now = large
	}
	for _, c := range changes {
		err := w.parts.Containers.UpdateResources(ctx, c.record.ID, c.res)
		if errors.Is(err, cgroups.ErrNotFound) || errors.Is(err, containers.ErrNotFound) {
			continue // it has just ended, and starts again with its new size if it does
		}
		if err != nil {
			return apply, err
		}
		sizes[c.record.ID] = c.size
	}
	if now != want && !restarts {
		return apply, set(want)
	}
	group = &now
	return apply, nil
}

// fits refuses a memory limit below what is in use: the kernel would end processes to get there. Between this look and the change more may be used.
func (w *worker) fits(path string, limit int64, what string) error {
	if limit == 0 {
		return nil
	}
	stats, err := w.parts.Groups.Stats(path)
	if errors.Is(err, cgroups.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if used := int64(stats.WorkingSet); used > limit {
		return fmt.Errorf("attempting to set %s (%d) below current usage (%d)", what, limit, used)
	}
	return nil
}

// tellResize keeps the condition of a resize that is being done, and tells when it begins, fails and is done.
func (w *worker) tellResize(s *state, wish Wish, plan Plan) {
	was := s.progress
	if wish.End != nil {
		s.progress = nil // it ends with the size that it has
		return
	}
	if !plan.Resizing {
		if s.progress = nil; was != nil {
			generation := w.generation(s.pod)
			w.tell(s.pod, "", corev1.EventTypeNormal, "ResizeCompleted", "Pod resize completed: %s", resizeSummary(s.pod, generation, ""))
			if w.roomy != nil {
				w.roomy() // it may have given something back
			}
		}
		return
	}
	now := corev1.PodCondition{Type: corev1.PodResizeInProgress, Status: corev1.ConditionTrue, ObservedGeneration: w.generation(s.pod)}
	if f, failed := s.seen.Faults[string(Resize)]; failed {
		now.Reason, now.Message = corev1.PodReasonError, f.Message
	}
	s.progress = &now
	if was == nil || was.ObservedGeneration != now.ObservedGeneration {
		w.tell(s.pod, "", corev1.EventTypeNormal, "ResizeStarted", "Pod resize started: %s", resizeSummary(s.pod, now.ObservedGeneration, ""))
	}
	if now.Message != "" && (was == nil || was.Message != now.Message) {
		w.tell(s.pod, "", corev1.EventTypeWarning, "ResizeError", "Pod resize error: %s", resizeSummary(s.pod, now.ObservedGeneration, now.Message))
	}
}

// generation is that of the resources which the pod was given.
func (w *worker) generation(p *corev1.Pod) int64 {
	if a := w.allocated(); a != nil {
		return a.Generation
	}
	return p.Generation
}

// measured are a running container's resources as its group has them: what the pod was given, with the amounts that differ as they are.
func measured(c *corev1.Container, size Size, has cgroups.Actual, noQuota bool) *corev1.ResourceRequirements {
	out := c.Resources.DeepCopy()
	real := size.read(has)
	put := func(list corev1.ResourceList, name corev1.ResourceName, is int64, scale resource.Scale) {
		q, said := list[name]
		switch {
		case !said || q.IsZero() || q.ScaledValue(scale) == is:
		case is == 0:
			delete(list, name)
		default:
			q.SetScaled(is, scale)
			list[name] = q
		}
	}
	put(out.Requests, corev1.ResourceCPU, real.CPURequest, resource.Milli)
	put(out.Requests, corev1.ResourceMemory, real.MemoryRequest, 0)
	if !noQuota {
		put(out.Limits, corev1.ResourceCPU, real.CPULimit, resource.Milli)
	}
	put(out.Limits, corev1.ResourceMemory, real.MemoryLimit, 0)
	return out
}
