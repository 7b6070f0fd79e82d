package conformance

import (
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/watch"
)

// Rows about how containers run: probes, hooks, init and ephemeral containers, ends and their messages.

// settled is how long a row watches that a thing stays as it is.
const settled = 3 * time.Second

// A probe's handlers.

func execHandler(command ...string) corev1.ProbeHandler {
	return corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: command}}
}

func httpHandler(path string) corev1.ProbeHandler {
	return corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: path, Port: intstr.FromInt32(8080)}}
}

func tcpHandler() corev1.ProbeHandler {
	return corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: intstr.FromInt32(8080)}}
}

func grpcHandler(service string) corev1.ProbeHandler {
	return corev1.ProbeHandler{GRPC: &corev1.GRPCAction{Port: 8080, Service: &service}}
}

// often is a probe each second that fails at once.
func often(h corev1.ProbeHandler) *corev1.Probe {
	return &corev1.Probe{ProbeHandler: h, PeriodSeconds: 1, FailureThreshold: 1, TimeoutSeconds: 5, InitialDelaySeconds: 1}
}

// restarting is a pod whose container is started again, with a liveness probe.
func restarting(probe *corev1.Probe, args ...string) *corev1.Pod {
	pod := application("probed", args...)
	pod.Spec.RestartPolicy = corev1.RestartPolicyAlways
	pod.Spec.Containers[0].LivenessProbe = probe
	return pod
}

func restarts(p *corev1.Pod) int32 {
	if len(p.Status.ContainerStatuses) == 0 {
		return 0
	}
	return p.Status.ContainerStatuses[0].RestartCount
}

// CN-007 to CN-010: a container whose liveness probe goes well is left alone.
func liveStays(pod *corev1.Pod) func(*row) {
	return func(r *row) {
		ns := r.namespace()
		r.podIs(ns, pod.DeepCopy(), "is ready", ready)
		r.stays(ns, pod.Name, "as it was", 4*settled, func(p *corev1.Pod) bool { return ready(p) && restarts(p) == 0 })
	}
}

// CN-011 to CN-014: one whose probe fails is started again, so many times, and the count only grows.
func liveRestarts(pod *corev1.Pod, times int32) func(*row) {
	return func(r *row) {
		ns := r.namespace()
		most := int32(0)
		r.podIs(ns, pod.DeepCopy(), fmt.Sprintf("was started again %d times", times), func(p *corev1.Pod) bool {
			if restarts(p) < most {
				r.Fatalf("the count of restarts fell from %d to %d", most, restarts(p))
			}
			most = restarts(p)
			return most >= times
		})
		events, err := r.kube.CoreV1().Events(ns).List(r.ctx, metav1.ListOptions{FieldSelector: "involvedObject.name=" + pod.Name + ",reason=Unhealthy"})
		r.must(err, "listing events")
		r.equal("there are events of an unhealthy container", len(events.Items) > 0, true)
	}
}

// CN-015: a pod is not ready before the initial delay of its readiness probe, and is not started again.
func readyAfterDelay(r *row) {
	ns := r.namespace()
	pod := application("slow")
	pod.Spec.Containers[0].ReadinessProbe = &corev1.Probe{ProbeHandler: httpHandler("/hostname"), InitialDelaySeconds: 10, PeriodSeconds: 1}
	got := r.podIs(ns, pod, "is ready", ready)
	var at time.Time
	for _, c := range got.Status.Conditions {
		if c.Type == corev1.PodReady {
			at = c.LastTransitionTime.Time
		}
	}
	since := got.Status.ContainerStatuses[0].State.Running.StartedAt.Time
	if took := at.Sub(since); took < 9*time.Second || took > 20*time.Second { // both times are in whole seconds
		r.Errorf("ready %v after its start, want 10 s", took)
	}
	r.equal("restarts", restarts(got), int32(0))
}

// CN-016
func neverReady(r *row) {
	ns := r.namespace()
	pod := application("unready")
	pod.Spec.Containers[0].ReadinessProbe = &corev1.Probe{ProbeHandler: execHandler("/testapp", "do", "read=/nothing"), InitialDelaySeconds: 1, PeriodSeconds: 1}
	r.reaches(ns, pod, corev1.PodRunning)
	r.stays(ns, "unready", "running without being ready", 4*settled, func(p *corev1.Pod) bool {
		return p.Status.Phase == corev1.PodRunning && !ready(p) && restarts(p) == 0
	})
}

// fileProbe is well as long as there is the file /tmp/health.
func fileProbe() *corev1.Probe { return often(execHandler("/testapp", "do", "read=/tmp/health")) }

// sickens is a container's steps: its file of health goes after that time.
func sickens(after string) []string {
	return []string{"do", "write=/tmp/health=ok", "sleep=" + after, "remove=/tmp/health", "pause"}
}

// Rows of lifecycle hooks: a witness in one pod says what the hook of another has asked.

// hooked is a row of a pod with a hook that asks the witness, by HTTP or by a command.
func hooked(before, byHTTP bool) func(*row) {
	return func(r *row) {
		ns := r.namespace()
		ip := r.podIs(ns, application("witness", "witness"), "runs", func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodRunning && p.Status.PodIP != "" }).Status.PodIP
		h := &corev1.LifecycleHandler{Exec: &corev1.ExecAction{Command: []string{"/testapp", "do", "get=http://" + ip + ":8080/told?by=exec"}}}
		want := "asked /told?by=exec at " + ip + ":8080"
		if byHTTP {
			h = &corev1.LifecycleHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/told?by=http", Host: ip, Port: intstr.FromInt32(8080)}}
			want = "asked /told?by=http at " + ip + ":8080"
		}
		pod := application("hooked", "pause")
		grace := int64(10)
		pod.Spec.TerminationGracePeriodSeconds = &grace
		if before {
			pod.Spec.Containers[0].Lifecycle = &corev1.Lifecycle{PreStop: h}
		} else {
			pod.Spec.Containers[0].Lifecycle = &corev1.Lifecycle{PostStart: h}
		}
		r.podIs(ns, pod, "is ready", ready)
		if before {
			r.equal("what the witness heard before the end", strings.TrimSpace(r.logs(ns, "witness")), "")
			r.must(r.kube.CoreV1().Pods(ns).Delete(r.ctx, "hooked", metav1.DeleteOptions{}), "deleting")
		}
		r.within(patience, "the witness heard of it", func() (bool, error) {
			said := strings.TrimSpace(r.logs(ns, "witness"))
			return said == want, fmt.Errorf("it heard %q", said)
		})
		if before {
			r.podGone(ns, "hooked")
		}
	}
}

// Rows of init containers.

// withInit puts init containers before a pod's own.
func withInit(policy corev1.RestartPolicy, steps ...string) *corev1.Pod {
	pod := application("initialized", "pause")
	pod.Spec.RestartPolicy = policy
	for i, s := range steps {
		pod.Spec.InitContainers = append(pod.Spec.InitContainers, corev1.Container{Name: fmt.Sprintf("init%d", i+1), Image: "testapp", Args: []string{"do", s}})
	}
	return pod
}

func initialized(p *corev1.Pod) *corev1.PodCondition {
	for i := range p.Status.Conditions {
		if p.Status.Conditions[i].Type == corev1.PodInitialized {
			return &p.Status.Conditions[i]
		}
	}
	return nil
}

// CN-038 and CN-039: both init containers have ended well before the pod's own ran.
func initThenRun(policy corev1.RestartPolicy) func(*row) {
	return func(r *row) {
		ns := r.namespace()
		pod := withInit(policy, "exit=0", "exit=0")
		want := corev1.PodRunning
		if policy == corev1.RestartPolicyNever {
			pod.Spec.Containers[0].Args, want = []string{"do", "exit=0"}, corev1.PodSucceeded
		}
		got := r.podIs(ns, pod, "is "+string(want), inPhase(want))
		r.equal("initialized", initialized(got).Status, corev1.ConditionTrue)
		r.equal("init containers", len(got.Status.InitContainerStatuses), 2)
		for _, cs := range got.Status.InitContainerStatuses {
			r.equal("init container "+cs.Name+" is ready", cs.Ready, true)
			r.equal("its exit", cs.State.Terminated != nil && cs.State.Terminated.ExitCode == 0, true)
		}
	}
}

// CN-041: the first init container fails again and again: neither the second nor the pod's own ever starts.
func initFailsAlways(r *row) {
	ns := r.namespace()
	got := r.podIs(ns, withInit(corev1.RestartPolicyAlways, "exit=1", "exit=0"), "has tried thrice", func(p *corev1.Pod) bool {
		if len(p.Status.InitContainerStatuses) < 2 {
			return false
		}
		if second := p.Status.InitContainerStatuses[1].State; second.Waiting == nil {
			r.Fatalf("the second one is %s", asJSON(second))
		}
		if own := p.Status.ContainerStatuses[0].State; own.Waiting == nil || own.Waiting.Reason != "PodInitializing" {
			r.Fatalf("the pod's own is %s", asJSON(own))
		}
		return p.Status.InitContainerStatuses[0].RestartCount >= 3
	})
	r.equal("phase", got.Status.Phase, corev1.PodPending)
	r.equal("initialized", initialized(got).Status, corev1.ConditionFalse)
	r.equal("reason", initialized(got).Reason, "ContainersNotInitialized")
	r.equal("message", initialized(got).Message, "containers with incomplete status: [init1 init2]")
}

// CN-040: an init container fails for good, so the pod has failed.
func initFailsOnce(r *row) {
	ns := r.namespace()
	got := r.podIs(ns, withInit(corev1.RestartPolicyNever, "exit=0", "exit=1"), "failed", func(p *corev1.Pod) bool {
		if len(p.Status.ContainerStatuses) > 0 && p.Status.ContainerStatuses[0].State.Waiting == nil {
			r.Fatalf("the pod's own is %s", asJSON(p.Status.ContainerStatuses[0].State))
		}
		return p.Status.Phase == corev1.PodFailed
	})
	r.equal("initialized", initialized(got).Status, corev1.ConditionFalse)
	r.equal("message", initialized(got).Message, "containers with incomplete status: [init2]")
	r.equal("exit of the second", got.Status.InitContainerStatuses[1].State.Terminated.ExitCode, int32(1))
}

// Rows of single containers: what they print, how they end.

// CN-042
func printsToLog(r *row) {
	ns := r.namespace()
	r.outputs(ns, doer("printing", "print=Hello World"), "Hello World")
}

// CN-043 and CN-044: a container that always fails has ended for a reason, and its pod can be deleted.
func failsAlways(remove bool) func(*row) {
	return func(r *row) {
		ns := r.namespace()
		pod := doer("failing", "exit=1")
		pod.Spec.RestartPolicy = corev1.RestartPolicyAlways
		if remove {
			r.podIs(ns, pod, "is there", func(*corev1.Pod) bool { return true })
			r.must(r.kube.CoreV1().Pods(ns).Delete(r.ctx, "failing", metav1.DeleteOptions{}), "deleting")
			r.podGone(ns, "failing")
			return
		}
		pod.Spec.RestartPolicy = corev1.RestartPolicyNever
		got := r.podIs(ns, pod, "has ended", func(p *corev1.Pod) bool {
			return len(p.Status.ContainerStatuses) > 0 && p.Status.ContainerStatuses[0].State.Terminated != nil
		})
		end := got.Status.ContainerStatuses[0].State.Terminated
		r.equal("exit", []any{end.ExitCode, end.Reason}, []any{int32(1), "Error"})
	}
}

// CN-072 to CN-075: the message with which a container ends.
func lastWords(change func(*corev1.Container), phase corev1.PodPhase, want string, steps ...string) func(*row) {
	return func(r *row) {
		ns := r.namespace()
		pod := doer("speaker", steps...)
		change(&pod.Spec.Containers[0])
		got := r.podIs(ns, pod, "is "+string(phase), inPhase(phase))
		r.equal("message", got.Status.ContainerStatuses[0].State.Terminated.Message, want)
	}
}

func orLogs(c *corev1.Container) {
	c.TerminationMessagePolicy = corev1.TerminationMessageFallbackToLogsOnError
}

func elsewhere(c *corev1.Container) {
	nobody := int64(65534)
	c.TerminationMessagePath, c.SecurityContext = "/dev/termination-custom-log", &corev1.SecurityContext{RunAsUser: &nobody}
}

// CN-076: a container that fails, then succeeds, then runs, under each policy.
func endsByPolicy(r *row) {
	ns := r.namespace()
	for _, tc := range []struct {
		policy   corev1.RestartPolicy
		phase    corev1.PodPhase
		restarts int32
		ready    bool
	}{
		{corev1.RestartPolicyAlways, corev1.PodRunning, 2, true},
		{corev1.RestartPolicyOnFailure, corev1.PodSucceeded, 1, false},
		{corev1.RestartPolicyNever, corev1.PodFailed, 0, false},
	} {
		pod := doer("ends-"+strings.ToLower(string(tc.policy)), "turns=/work/turns=1,0", "pause")
		pod.Spec.RestartPolicy = tc.policy
		pod.Spec.Volumes = []corev1.Volume{{Name: "work", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}}
		pod.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "work", MountPath: "/work"}}
		got := r.podIs(ns, pod, "has come to rest", func(p *corev1.Pod) bool {
			return p.Status.Phase == tc.phase && restarts(p) == tc.restarts && ready(p) == tc.ready &&
				(tc.phase != corev1.PodRunning || p.Status.ContainerStatuses[0].State.Running != nil)
		})
		r.equal("it has ended, policy "+string(tc.policy), got.Status.ContainerStatuses[0].State.Terminated != nil, tc.phase != corev1.PodRunning)
		r.stays(ns, pod.Name, "as it came to rest", settled/3, func(p *corev1.Pod) bool { return p.Status.Phase == tc.phase && restarts(p) == tc.restarts })
	}
}

// Rows of ephemeral containers.

func debugger(name string, args ...string) corev1.EphemeralContainer {
	return corev1.EphemeralContainer{EphemeralContainerCommon: corev1.EphemeralContainerCommon{
		Name: name, Image: "testapp", Args: args, ImagePullPolicy: corev1.PullIfNotPresent, TerminationMessagePolicy: corev1.TerminationMessageReadFile}}
}

func (r *row) debug(ns, name string, e corev1.EphemeralContainer) {
	r.Helper()
	_, err := r.kube.CoreV1().Pods(ns).Patch(r.ctx, name, types.StrategicMergePatchType,
		fmt.Appendf(nil, `{"spec":{"ephemeralContainers":[%s]}}`, asJSON(e)), metav1.PatchOptions{}, "ephemeralcontainers")
	r.must(err, "adding an ephemeral container")
	r.becomes(ns, name, "runs the ephemeral container", func(p *corev1.Pod) bool {
		return slices.ContainsFunc(p.Status.EphemeralContainerStatuses, func(cs corev1.ContainerStatus) bool { return cs.Name == e.Name && cs.State.Running != nil })
	})
}

// CN-028
func ephemeralContainer(r *row) {
	ns := r.namespace()
	r.reaches(ns, application("debugged"), corev1.PodRunning)
	r.debug(ns, "debugged", debugger("debugger", "do", "print=polo", "pause"))
	r.eventually("it speaks", func() (bool, error) {
		b, err := r.kube.CoreV1().Pods(ns).GetLogs("debugged", &corev1.PodLogOptions{Container: "debugger"}).DoRaw(r.ctx)
		return err == nil && strings.TrimSpace(string(b)) == "polo", err
	})
}

// CN-027: a second one is added by an update.
func ephemeralContainersUpdated(r *row) {
	ns := r.namespace()
	pods := r.kube.CoreV1().Pods(ns)
	r.reaches(ns, application("debugged"), corev1.PodRunning)
	r.debug(ns, "debugged", debugger("debugger", "pause"))
	r.again("adding another", func() error {
		p, err := pods.Get(r.ctx, "debugged", metav1.GetOptions{})
		if err != nil {
			return err
		}
		p.Spec.EphemeralContainers = append(p.Spec.EphemeralContainers, debugger("debugger2", "pause"))
		got, err := pods.UpdateEphemeralContainers(r.ctx, "debugged", p, metav1.UpdateOptions{})
		if err == nil {
			r.equal("ephemeral containers", len(got.Spec.EphemeralContainers), 2)
		}
		return err
	})
	r.becomes(ns, "debugged", "runs both", func(p *corev1.Pod) bool {
		return len(p.Status.EphemeralContainerStatuses) == 2 && p.Status.EphemeralContainerStatuses[1].State.Running != nil
	})
}

// NODE-006: a pod that is deleted tells another one before it ends, and ends after that.
func preStopTells(r *row) {
	ns := r.namespace()
	ip := r.podIs(ns, application("server", "witness"), "runs", inPhase(corev1.PodRunning)).Status.PodIP
	pod := application("tester", "pause")
	grace := int64(30)
	pod.Spec.TerminationGracePeriodSeconds = &grace
	pod.Spec.Containers[0].Lifecycle = &corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{
		Exec: &corev1.ExecAction{Command: []string{"/testapp", "do", "get=http://" + ip + ":8080/write?prestop"}}}}
	made := r.podIs(ns, pod, "is ready", ready)
	w := r.follow(r.kube.CoreV1().Pods(ns).Watch(r.ctx, metav1.ListOptions{FieldSelector: "metadata.name=tester", ResourceVersion: made.ResourceVersion}))
	r.must(r.kube.CoreV1().Pods(ns).Delete(r.ctx, "tester", metav1.DeleteOptions{}), "deleting")
	w.next(watch.Deleted, "the tester", named("tester"))
	r.equal("what the server heard", strings.TrimSpace(r.logs(ns, "server")), "asked /write?prestop at "+ip+":8080")
}
