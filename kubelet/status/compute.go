package status

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"pilothouse.dev/kubelet/containers"
	"pilothouse.dev/pkg/pod"
)

// Facts are what a pod's status is made of.
type Facts struct {
	// Pod with the status known so far: times of conditions and what others wrote are kept from it.
	Pod *corev1.Pod
	Now time.Time

	Phase corev1.PodPhase
	// Reason and Message of the pod, empty as long as it goes well.
	Reason, Message string

	HostIPs, PodIPs []netip.Addr
	// RecursiveReadOnly: the pod's OCI runtime can mount so.
	RecursiveReadOnly bool
	// ImageVolumes are the images, as name@digest, of the volumes that show one.
	ImageVolumes map[string]string
	// Networked: the sandbox is there and has its addresses.
	Networked bool
	// Initialized: the init containers have passed. Anew: all containers are being started again.
	Initialized, Anew bool

	// Containers by name, newest first.
	Containers map[string][]containers.Container
	// Waiting says why a container does not run, by name; without it, a container that never ran is being created.
	Waiting map[string]corev1.ContainerStateWaiting
	// Started and Ready, by container ID.
	Started, Ready map[string]bool
	// Resources are what running containers have, by container ID; where nothing is said they have what the pod says. Resize are the conditions of
	// resizes, as they should be.
	Resources map[string]*corev1.ResourceRequirements
	Resize    []corev1.PodCondition
	// Notes are termination messages, by container ID.
	Notes map[string]string
}

// Compute makes the status. It is pure, and the same facts with the status it made change nothing.
func Compute(f Facts) corev1.PodStatus {
	p := f.Pod
	st := *p.Status.DeepCopy()
	st.Phase, st.Reason, st.Message = f.Phase, f.Reason, f.Message
	st.ObservedGeneration = p.Generation
	st.QOSClass = pod.QoS(p)
	if st.StartTime == nil {
		st.StartTime = &metav1.Time{Time: f.Now.Truncate(time.Second)}
	}
	f.addresses(&st)

	f.whole(&st)

	st.InitContainerStatuses, st.ContainerStatuses, st.EphemeralContainerStatuses = nil, nil, nil
	for kind, c := range pod.Containers(p) {
		if f.refused() {
			break
		}
		cs := f.container(kind, c)
		switch kind {
		case pod.Init:
			st.InitContainerStatuses = append(st.InitContainerStatuses, cs)
		case pod.Regular:
			st.ContainerStatuses = append(st.ContainerStatuses, cs)
		default:
			st.EphemeralContainerStatuses = append(st.EphemeralContainerStatuses, cs)
		}
	}
	slices.SortFunc(st.ContainerStatuses, func(a, b corev1.ContainerStatus) int { return strings.Compare(a.Name, b.Name) })
	f.conditions(&st)
	return st
}

// refused: the pod ended before anything of it was begun, so its containers have no states; what users see is the pod's reason.
func (f *Facts) refused() bool {
	st := &f.Pod.Status
	return f.Phase == corev1.PodFailed && len(f.Containers) == 0 && len(st.InitContainerStatuses)+len(st.ContainerStatuses)+len(st.EphemeralContainerStatuses) == 0
}

// InOrder are a pod's addresses as users see them: one of each family, that of the node's first address first.
func InOrder(ips, hosts []netip.Addr) (ordered []netip.Addr) {
	four := len(hosts) == 0 && len(ips) > 0 && ips[0].Is4() || len(hosts) > 0 && hosts[0].Is4()
	for _, is4 := range []bool{four, !four} {
		if i := slices.IndexFunc(ips, func(ip netip.Addr) bool { return ip.Is4() == is4 }); i >= 0 {
			ordered = append(ordered, ips[i])
		}
	}
	return ordered
}

func (f *Facts) addresses(st *corev1.PodStatus) {
	if len(f.HostIPs) > 0 {
		st.HostIP, st.HostIPs = f.HostIPs[0].String(), nil
		for _, ip := range f.HostIPs {
			st.HostIPs = append(st.HostIPs, corev1.HostIP{IP: ip.String()})
		}
	}
	ips := InOrder(f.PodIPs, f.HostIPs)
	if f.Pod.Spec.HostNetwork && f.Networked {
		ips = f.HostIPs
	}
	if len(ips) > 0 { // once it had addresses a pod keeps them in its status, also when it has ended
		st.PodIP, st.PodIPs = ips[0].String(), nil
		for _, ip := range ips {
			st.PodIPs = append(st.PodIPs, corev1.PodIP{IP: ip.String()})
		}
	}
}

func (f *Facts) container(kind pod.Kind, c *corev1.Container) corev1.ContainerStatus {
	was := pod.ContainerStatus(f.Pod, c.Name)
	records := f.Containers[c.Name]
	if len(records) > 0 && records[0].State == containers.Created {
		records = records[1:] // not started yet: the one before it still tells
	}
	if len(records) == 0 {
		return f.unrecorded(c, was)
	}
	r := records[0]
	cs := corev1.ContainerStatus{
		Name: c.Name, Image: r.Labels[LabelImage], ImageID: r.ImageRef, ContainerID: containerID(r.ID), RestartCount: int32(r.Attempt), Started: new(false),
	}
	if cs.Image == "" {
		cs.Image = c.Image
	}
	if cs.ImageID == "" {
		cs.ImageID = r.ImageID
	}
	if u := r.User; u != nil {
		cs.User = &corev1.ContainerUser{Linux: &corev1.LinuxContainerUser{UID: int64(u.UID), GID: int64(u.GID)}}
		for _, g := range u.Groups {
			cs.User.Linux.SupplementalGroups = append(cs.User.Linux.SupplementalGroups, int64(g))
		}
	}
	if r.StopSignal != "" {
		cs.StopSignal = new(corev1.Signal(r.StopSignal))
	}
	cs.VolumeMounts = mounts(c, f.RecursiveReadOnly, f.ImageVolumes)
	if kind != pod.Ephemeral {
		cs.AllocatedResources, cs.Resources = c.Resources.Requests.DeepCopy(), f.Resources[r.ID]
		if r.State != containers.Running || cs.Resources == nil {
			cs.Resources = c.Resources.DeepCopy()
		}
	}
	switch r.State {
	case containers.Running:
		cs.State.Running = &corev1.ContainerStateRunning{StartedAt: second(r.Started)}
		*cs.Started = f.Started[r.ID]
		cs.Ready = f.Started[r.ID] && f.Ready[r.ID] && (kind != pod.Init || pod.Sidecar(c)) // an init container is ready when it has done its work
		if len(records) > 1 {
			cs.LastTerminationState.Terminated = f.terminated(records[1])
		} else if was != nil && was.ContainerID == cs.ContainerID {
			cs.LastTerminationState = was.LastTerminationState
		}
	default:
		ended := f.terminated(r)
		if w, waits := f.Waiting[c.Name]; waits {
			cs.State.Waiting, cs.LastTerminationState.Terminated = &w, ended
			break
		}
		cs.State.Terminated = ended
		cs.Ready = kind == pod.Init && !pod.Sidecar(c) && r.ExitCode == 0
		if len(records) > 1 {
			cs.LastTerminationState.Terminated = f.terminated(records[1])
		} else if was != nil && was.ContainerID == cs.ContainerID {
			cs.LastTerminationState = was.LastTerminationState
		}
	}
	return cs
}

// unrecorded is the status of a container of which the runtime holds nothing: it never ran, or its record went with its sandbox.
func (f *Facts) unrecorded(c *corev1.Container, was *corev1.ContainerStatus) corev1.ContainerStatus {
	cs := corev1.ContainerStatus{Name: c.Name, Image: c.Image, Started: new(false)}
	if was != nil && (was.ContainerID != "" || was.LastTerminationState.Terminated != nil) {
		cs.RestartCount, cs.LastTerminationState = was.RestartCount, was.LastTerminationState
		if t := was.State.Terminated; t != nil {
			cs.LastTerminationState.Terminated = t
			if finished(f.Phase) {
				return *was.DeepCopy()
			}
		} else if was.State.Running != nil {
			cs.LastTerminationState.Terminated = &corev1.ContainerStateTerminated{
				ExitCode: 137, Reason: containers.ReasonUnknown, StartedAt: was.State.Running.StartedAt, ContainerID: was.ContainerID,
				Message: "The container could not be located when the pod was started again",
			}
		}
	}
	w, ok := f.Waiting[c.Name]
	if !ok {
		w.Reason = "ContainerCreating"
		if len(f.Pod.Spec.InitContainers) > 0 && !f.Initialized {
			w.Reason = "PodInitializing"
		}
	}
	cs.State.Waiting = &w
	return cs
}

func (f *Facts) terminated(r containers.Container) *corev1.ContainerStateTerminated {
	t := &corev1.ContainerStateTerminated{
		ExitCode: int32(r.ExitCode), Reason: r.Reason, Message: r.Message, StartedAt: second(r.Started), FinishedAt: second(r.Finished), ContainerID: containerID(r.ID),
	}
	if note := f.Notes[r.ID]; note != "" {
		t.Message = note
	}
	if most := mostNotes / f.sharers(); len(t.Message) > most {
		t.Message = strings.ToValidUTF8(t.Message[:most], "")
	}
	return t
}

// mostNotes is how many bytes the termination messages of a pod may have together; each container may have its share.
const mostNotes = 12 << 10

func (f *Facts) sharers() int {
	s := &f.Pod.Spec
	return max(1, len(s.InitContainers)+len(s.Containers)+len(s.EphemeralContainers))
}

// conditions sets the conditions a kubelet answers for, in the order in which users of Kubernetes know them, and leaves the others alone.
func (f *Facts) conditions(st *corev1.PodStatus) {
	set := func(kind corev1.PodConditionType, ok bool, reason, message string) bool {
		c := corev1.PodCondition{Type: kind, Status: corev1.ConditionTrue, ObservedGeneration: f.Pod.Generation}
		if !ok {
			c.Status, c.Reason, c.Message = corev1.ConditionFalse, reason, message
		}
		pod.SetCondition(st, c, f.Now.Truncate(time.Second))
		return ok
	}
	f.resizes(st)
	set(corev1.PodReadyToStartContainers, f.Networked, "", "")

	over := ""
	if finished(f.Phase) {
		if over = "PodCompleted"; f.Phase == corev1.PodFailed {
			over = "PodFailed"
		}
	}
	var unready, uninitialized []string
	for i, cs := range st.InitContainerStatuses {
		passed := cs.State.Terminated != nil && cs.State.Terminated.ExitCode == 0
		if pod.Sidecar(&f.Pod.Spec.InitContainers[i]) {
			passed = cs.Ready
		}
		if !passed {
			uninitialized = append(uninitialized, cs.Name)
		}
	}
	for i := range st.InitContainerStatuses {
		if pod.Sidecar(&f.Pod.Spec.InitContainers[i]) && !st.InitContainerStatuses[i].Ready {
			unready = append(unready, st.InitContainerStatuses[i].Name)
		}
	}
	for i := range f.Pod.Spec.Containers { // in their own order, not that of the statuses
		if cs := pod.ContainerStatus(&corev1.Pod{Status: *st}, f.Pod.Spec.Containers[i].Name); cs != nil && !cs.Ready {
			unready = append(unready, cs.Name)
		}
	}
	initialized := f.Initialized
	if f.Phase == corev1.PodSucceeded {
		initialized = true
	}
	set(corev1.PodInitialized, initialized, "ContainersNotInitialized", fmt.Sprintf("containers with incomplete status: [%s]", strings.Join(uninitialized, " ")))
	if over == "PodCompleted" {
		for i := range st.Conditions {
			if st.Conditions[i].Type == corev1.PodInitialized {
				st.Conditions[i].Reason = over
			}
		}
	}

	reason, message := over, ""
	if over == "" {
		reason, message = "ContainersNotReady", fmt.Sprintf("containers with unready status: [%s]", strings.Join(unready, " "))
	}
	ready := over == "" && len(unready) == 0
	gatesReady, gatesReason, gatesMessage := ready, reason, message
	if closed := f.closed(); ready && len(closed) > 0 {
		gatesReady, gatesReason, gatesMessage = false, "ReadinessGatesNotReady", strings.Join(closed, ", ")
	}
	set(corev1.PodReady, gatesReady, gatesReason, gatesMessage)
	set(corev1.ContainersReady, ready, reason, message)
	set(corev1.PodScheduled, true, "", "")
	if f.Anew {
		set(corev1.AllContainersRestarting, true, "", "")
	} else {
		st.Conditions = slices.DeleteFunc(st.Conditions, func(c corev1.PodCondition) bool { return c.Type == corev1.AllContainersRestarting })
	}
}

// closed are the readiness gates that keep the pod from being ready.
func (f *Facts) closed() (why []string) {
	for _, gate := range f.Pod.Spec.ReadinessGates {
		switch c := pod.Condition(f.Pod, gate.ConditionType); {
		case c == nil:
			why = append(why, fmt.Sprintf("corresponding condition of pod readiness gate %q does not exist.", gate.ConditionType))
		case c.Status != corev1.ConditionTrue:
			why = append(why, fmt.Sprintf("the status of pod readiness gate %q is not \"True\", but %s", gate.ConditionType, c.Status))
		}
	}
	return why
}

// whole tells what a pod has that asks for resources as a whole; until a resize is done that is what it had.
func (f *Facts) whole(st *corev1.PodStatus) {
	r := f.Pod.Spec.Resources
	if r == nil {
		return
	}
	st.AllocatedResources = pod.SpecRequests(f.Pod)
	doing := slices.ContainsFunc(f.Resize, func(c corev1.PodCondition) bool { return c.Type == corev1.PodResizeInProgress })
	if st.Resources == nil || !doing {
		st.Resources = r.DeepCopy()
	}
}

// resizes are conditions that are there only as long as they are true.
func (f *Facts) resizes(st *corev1.PodStatus) {
	st.Conditions = slices.DeleteFunc(st.Conditions, func(c corev1.PodCondition) bool {
		return slices.Contains(passing, c.Type) && !slices.ContainsFunc(f.Resize, func(want corev1.PodCondition) bool { return want.Type == c.Type })
	})
	for _, c := range f.Resize {
		c.LastTransitionTime = metav1.Time{} // kept while the status stays
		pod.SetCondition(st, c, f.Now.Truncate(time.Second))
	}
}

func finished(phase corev1.PodPhase) bool {
	return phase == corev1.PodSucceeded || phase == corev1.PodFailed
}

// LabelImage is the label in which a container keeps its image as the pod named it.
const LabelImage = "pilothouse.dev/image"

func containerID(id string) string { return "containerd://" + id }

// second is how the API keeps times.
func second(t time.Time) metav1.Time {
	if t.IsZero() {
		return metav1.Time{}
	}
	return metav1.Time{Time: t.UTC().Truncate(time.Second)}
}
