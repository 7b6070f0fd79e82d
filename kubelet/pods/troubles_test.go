package pods_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"pilothouse.dev/kubelet/containers/nodetest"
)

// waiting is the reason why the only container waits, or what it does.
func waiting(p *corev1.Pod) string {
	if p == nil || len(p.Status.ContainerStatuses) == 0 {
		return ""
	}
	switch s := p.Status.ContainerStatuses[0].State; {
	case s.Waiting != nil:
		return s.Waiting.Reason
	case s.Terminated != nil:
		return s.Terminated.Reason
	case s.Running != nil:
		return "Running"
	}
	return ""
}

func waits(reason string) func(*corev1.Pod) bool {
	return func(p *corev1.Pod) bool { return waiting(p) == reason }
}

func is(phase corev1.PodPhase) func(*corev1.Pod) bool {
	return func(p *corev1.Pod) bool { return p != nil && p.Status.Phase == phase }
}

func gone(p *corev1.Pod) bool { return p == nil }

const forever = `trap 'exit 0' USR1; while true; do sleep 0.05; done`

// TestTroubles goes through what can be wrong with a pod, each with its own reason and its way out.
func TestTroubles(t *testing.T) {
	n := newNode(t)
	for _, tc := range []struct {
		name string
		pod  func(*corev1.Pod)
		tale func(*testing.T, *corev1.Pod)
	}{
		{"crash loop", func(p *corev1.Pod) {
			p.Spec.Containers[0] = shell("c", "echo last words > /dev/termination-log; exit 3")
		}, func(t *testing.T, p *corev1.Pod) {
			now := n.api.until(p.UID, "in back-off", func(p *corev1.Pod) bool {
				return waiting(p) == "CrashLoopBackOff" && p.Status.ContainerStatuses[0].RestartCount >= 2
			})
			last := now.Status.ContainerStatuses[0].LastTerminationState.Terminated
			if last == nil || last.ExitCode != 3 || last.Message != "last words\n" || now.Status.Phase != corev1.PodRunning {
				t.Errorf("status is %+v", now.Status)
			}
			if n.api.told("crash-loop BackOff") == 0 {
				t.Error("no event told of the back-off")
			}
		}},
		{"missing map, which then comes", func(p *corev1.Pod) {
			p.Spec.Containers[0].EnvFrom = []corev1.EnvFromSource{{ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: "late"}}}}
		}, func(t *testing.T, p *corev1.Pod) {
			now := n.api.until(p.UID, "refused", waits("CreateContainerConfigError"))
			if m := now.Status.ContainerStatuses[0].State.Waiting.Message; m != `configmap "late" not found` {
				t.Errorf("message is %q", m)
			}
			n.api.setMap("shop", "late", map[string]string{"a": "b"})
			n.api.until(p.UID, "running", waits("Running"))
		}},
		{"missing volume, which then comes", func(p *corev1.Pod) {
			p.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: "later"}}}}}
		}, func(t *testing.T, p *corev1.Pod) {
			n.api.until(p.UID, "told of the mount", func(*corev1.Pod) bool { return n.api.told("FailedMount") > 0 })
			if got := waiting(n.api.pod(p.UID)); got != "ContainerCreating" {
				t.Errorf("the container waits for %s", got)
			}
			n.api.setMap("shop", "later", map[string]string{"a": "b"})
			n.api.until(p.UID, "running", waits("Running"))
		}},
		{"image that is not here", func(p *corev1.Pod) { p.Spec.Containers[0].Image = "example.test/none:1" },
			func(t *testing.T, p *corev1.Pod) {
				n.api.until(p.UID, "refused", waits("ErrImageNeverPull"))
				n.api.edit(p.UID, func(p *corev1.Pod) { p.Spec.Containers[0].Image = nodetest.Image })
				n.api.until(p.UID, "running", waits("Running"))
			}},
		{"image name that cannot be", func(p *corev1.Pod) { p.Spec.Containers[0].Image = "UPPER case" },
			func(t *testing.T, p *corev1.Pod) { n.api.until(p.UID, "refused", waits("InvalidImageName")) }},
		{"command that is not there", func(p *corev1.Pod) { p.Spec.Containers[0].Command = []string{"/no/such"} },
			func(t *testing.T, p *corev1.Pod) {
				now := n.api.until(p.UID, "refused", func(p *corev1.Pod) bool {
					return waiting(p) == "RunContainerError" || waiting(p) == "CrashLoopBackOff"
				})
				if now.Status.Phase == corev1.PodFailed {
					t.Errorf("phase is %s", now.Status.Phase)
				}
			}},
		{"does its work and is done", func(p *corev1.Pod) {
			p.Spec.RestartPolicy = corev1.RestartPolicyOnFailure
			p.Spec.Containers[0] = shell("c", "echo done")
		}, func(t *testing.T, p *corev1.Pod) {
			n.api.until(p.UID, "succeeded", is(corev1.PodSucceeded))
			n.untilEmpty(t, p) // its sandbox is given back, its log stays
			log, err := os.ReadFile(filepath.Join(n.root, "logs", "shop_"+p.Name+"_"+string(p.UID), "c", "0.log"))
			if err != nil || !strings.Contains(string(log), "done") {
				t.Errorf("the log is %q, %v", log, err)
			}
			// A kubelet that starts anew does not run it again.
			n.stop()
			n.start()
			time.Sleep(300 * time.Millisecond)
			if now := n.api.pod(p.UID); now.Status.Phase != corev1.PodSucceeded || strings.Contains(n.list(), "c "+string(p.UID)) {
				t.Errorf("after a restart of the kubelet it is %+v", now.Status)
			}
		}},
		{"exceeds its deadline", func(p *corev1.Pod) { p.Spec.ActiveDeadlineSeconds = new(int64(2)) },
			func(t *testing.T, p *corev1.Pod) {
				now := n.api.until(p.UID, "failed", is(corev1.PodFailed))
				if now.Status.Reason != "DeadlineExceeded" || now.Status.ContainerStatuses[0].State.Terminated == nil {
					t.Errorf("status is %+v", now.Status)
				}
				n.untilEmpty(t, p)
			}},
		{"somebody says that it failed", func(p *corev1.Pod) {
			p.Spec.Containers[0] = shell("c", forever)
		}, func(t *testing.T, p *corev1.Pod) {
			n.api.until(p.UID, "running", waits("Running"))
			n.api.edit(p.UID, func(p *corev1.Pod) { p.Status.Phase, p.Status.Reason = corev1.PodFailed, "NodeLost" })
			n.untilEmpty(t, p)
			now := n.api.until(p.UID, "ended", func(p *corev1.Pod) bool { return p.Status.ContainerStatuses[0].State.Terminated != nil })
			if now.Status.Phase != corev1.PodFailed || now.Status.Reason != "NodeLost" {
				t.Errorf("status is %+v", now.Status)
			}
		}},
		{"wants another node", func(p *corev1.Pod) { p.Spec.NodeSelector = map[string]string{"disk": "slow"} },
			func(t *testing.T, p *corev1.Pod) {
				if now := n.api.until(p.UID, "failed", is(corev1.PodFailed)); now.Status.Reason != "NodeAffinity" {
					t.Errorf("status is %+v", now.Status)
				}
			}},
		{"wants too much", func(p *corev1.Pod) {
			p.Spec.Containers[0].Resources.Requests = corev1.ResourceList{"cpu": resource.MustParse("5")}
		}, func(t *testing.T, p *corev1.Pod) {
			if now := n.api.until(p.UID, "failed", is(corev1.PodFailed)); now.Status.Reason != "OutOfcpu" {
				t.Errorf("status is %+v", now.Status)
			}
		}},
		{"is deleted, and then in a hurry", func(p *corev1.Pod) {
			p.Spec.Containers[0] = shell("c", `trap '' USR1; while true; do sleep 0.05; done`)
		}, func(t *testing.T, p *corev1.Pod) {
			n.api.until(p.UID, "running", waits("Running"))
			begin := time.Now()
			n.api.delete(p.UID, 60)
			n.api.until(p.UID, "told of the stop", func(*corev1.Pod) bool { return n.api.told(p.Name+" Killing") > 0 })
			n.api.delete(p.UID, 1)
			n.api.until(p.UID, "gone", gone)
			if took := time.Since(begin); took > 30*time.Second {
				t.Errorf("it took %s", took)
			}
		}},
	} {
		t.Run(strings.ReplaceAll(tc.name, " ", "-"), func(t *testing.T) {
			name := strings.NewReplacer(" ", "-", ",", "").Replace(tc.name)
			p := newPod(name, shell("c", forever))
			tc.pod(p)
			n.api.t = t
			n.api.create(p)
			tc.tale(t, p)
			if n.api.pod(p.UID) != nil {
				n.api.delete(p.UID, 1)
				n.api.until(p.UID, "gone", gone)
			}
		})
	}
	n.api.t = t
	n.untilNothing()
}

// untilEmpty waits until the runtime holds nothing of a pod.
func (n *node) untilEmpty(t *testing.T, p *corev1.Pod) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for {
		l, err := n.rt.ListPod(context.Background(), string(p.UID))
		if err != nil {
			t.Fatal(err)
		}
		if len(l.Sandboxes)+len(l.Containers) == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("still there: %+v", l)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// TestForgottenPod: a pod that the API deleted while the kubelet was away is ended when it comes back.
func TestForgottenPod(t *testing.T) {
	n := newNode(t)
	p := newPod("lost", shell("c", forever))
	n.api.create(p)
	n.api.until(p.UID, "ready", ready)
	n.stop()
	n.api.mu.Lock()
	delete(n.api.pods, p.UID)
	n.api.mu.Unlock()
	n.start()
	n.untilNothing()
}
