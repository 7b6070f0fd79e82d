package main

import (
	"bytes"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"pilothouse.dev/kubelet/containers/nodetest"
)

var kills = flag.Int("kills", 15, "how often TestChaos kills the kubelet")

// childEnv makes the test binary be the kubelet itself.
const childEnv = "PILOTHOUSE_TEST_KUBELET"

// chaos is a node whose kubelet is a process that is killed again and again.
type chaos struct {
	*machine
	random *rand.Rand
	said   bytes.Buffer
	steady map[string]string // the containers that must run on, by pod
	made   int
}

// TestChaos kills the kubelet at random points while pods of all kinds come and go. In the end every pod is as it was asked for, no
// container that ran well was started again, and when all are deleted nothing is left of them.
func TestChaos(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	c := openChaos(t, seed)
	before := c.baseline()
	for range *kills {
		k := c.start()
		for end := time.Now().Add(time.Duration(c.random.Int64N(int64(1200 * time.Millisecond)))); time.Now().Before(end); {
			c.churn()
			time.Sleep(time.Duration(c.random.Int64N(int64(80 * time.Millisecond))))
		}
		c.watchOver()
		c.kill(k)
	}
	k := c.start()
	defer c.kill(k)
	began := time.Now()
	c.settle()
	t.Logf("%d kills, %d pods; settled after %v", *kills, c.made, time.Since(began))
	c.watchOver()
	c.empty()
	c.until("empty", func() (bool, string) {
		now := c.holds()
		return maps.Equal(now, before), fmt.Sprintf("holds %v, held %v before", now, before)
	})
}

func openChaos(t *testing.T, seed uint64) *chaos {
	m := newMachine(t)
	c := &chaos{machine: m, random: rand.New(rand.NewPCG(seed, 0)), steady: map[string]string{}}
	m.until("registered", func() (bool, string) { n := m.node(); return n != nil, fmt.Sprint(n) })
	if _, err := m.cluster.Kube.CoreV1().Nodes().Patch(t.Context(), nodeName, types.MergePatchType, []byte(`{"spec":{"podCIDR":"10.244.1.0/24","podCIDRs":["10.244.1.0/24"]}}`), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	m.until("ready", func() (bool, string) {
		r := ready(m.node())
		return r != nil && r.Status == corev1.ConditionTrue, fmt.Sprint(r)
	})
	// From here on the kubelet is a process.
	m.stop()
	m.stop = func() {}
	c.args = append(c.args, "--max-container-restart-period=2s")
	if _, err := m.cluster.Kube.CoreV1().ConfigMaps("default").Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "settings"},
		Data: map[string]string{"greeting": "hello"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			lines := strings.Split(c.said.String(), "\n")
			t.Logf("the kubelets said at last:\n%s", strings.Join(lines[max(0, len(lines)-150):], "\n"))
		}
	})
	return c
}

// baseline is what a node holds that has had a pod and has none.
func (c *chaos) baseline() map[string]int {
	k := c.start()
	c.create(c.kinds()["once"]())
	c.settle()
	c.empty()
	var held map[string]int
	c.until("at rest", func() (bool, string) {
		was := held
		held = c.holds()
		return maps.Equal(was, held) && held["tasks"] == 0 && held["shims"] == 0, fmt.Sprint(held)
	})
	for i := range 3 {
		p := c.kinds()["server"]()
		p.Name = fmt.Sprint("steady-", i)
		c.create(p)
		c.steady[p.Name] = ""
	}
	c.settle()
	c.watchOver()
	c.kill(k)
	return held
}

func (c *chaos) holds() map[string]int {
	held := c.daemon.Holdings(c.t, c.cfg.CgroupRoot)
	folders, err := filepath.Glob(filepath.Join(c.cfg.RootDir, "pods", "*"))
	if err != nil {
		c.t.Fatal(err)
	}
	pins, err := filepath.Glob(filepath.Join(c.cfg.NetnsDir, "*", "*"))
	if err != nil {
		c.t.Fatal(err)
	}
	logs, err := filepath.Glob(filepath.Join(c.cfg.RootDir, "logs", "*"))
	if err != nil {
		c.t.Fatal(err)
	}
	held["folders"], held["pins"], held["logs"] = len(folders), len(pins), len(logs)
	return held
}

func (c *chaos) start() *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", c.args...)
	cmd.Env = append(os.Environ(), childEnv+"=1")
	cmd.Stdout, cmd.Stderr = &c.said, &c.said
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	return cmd
}

func (c *chaos) kill(cmd *exec.Cmd) {
	if cmd.ProcessState != nil {
		return
	}
	if err := cmd.Process.Kill(); err != nil {
		c.t.Errorf("killing the kubelet: %v", err)
	}
	if err := cmd.Wait(); err == nil || !strings.Contains(err.Error(), "signal: killed") {
		c.t.Errorf("the kubelet ended by itself: %v", err)
	}
}

// churn makes a pod or deletes one that is not to run on.
func (c *chaos) churn() {
	pods := c.pods()
	if c.random.IntN(3) > 0 && len(pods) < 14 {
		kinds := c.kinds()
		names := slices.Sorted(maps.Keys(kinds))
		kind := names[c.random.IntN(len(names))]
		p := kinds[kind]()
		p.Name, p.Labels = fmt.Sprintf("%s-%d", kind, c.made), map[string]string{"kind": kind}
		c.made++
		c.create(p)
		return
	}
	for _, p := range pods {
		if _, stays := c.steady[p.Name]; !stays && p.DeletionTimestamp == nil {
			c.remove(p.Name)
			return
		}
	}
}

func (c *chaos) pods() []corev1.Pod {
	list, err := c.cluster.Kube.CoreV1().Pods("default").List(c.t.Context(), metav1.ListOptions{})
	if err != nil {
		c.t.Fatal(err)
	}
	return list.Items
}

func (c *chaos) create(p *corev1.Pod) {
	if _, err := c.cluster.Kube.CoreV1().Pods("default").Create(c.t.Context(), p, metav1.CreateOptions{}); err != nil {
		c.t.Fatal(err)
	}
}

func (c *chaos) remove(name string) {
	if err := c.cluster.Kube.CoreV1().Pods("default").Delete(c.t.Context(), name, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
		c.t.Fatal(err)
	}
}

// kinds are the pods that come and go, by what they are.
func (c *chaos) kinds() map[string]func() *corev1.Pod {
	pod := func(policy corev1.RestartPolicy, script string) *corev1.Pod {
		return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "once", Labels: map[string]string{"kind": "once"}}, Spec: corev1.PodSpec{
			NodeName: nodeName, RestartPolicy: policy, TerminationGracePeriodSeconds: new(int64(1)), AutomountServiceAccountToken: new(false),
			Containers: []corev1.Container{{Name: "c", Image: nodetest.Image, Command: []string{"sh", "-c", script},
				VolumeMounts: []corev1.VolumeMount{{Name: "conf", MountPath: "/conf"}, {Name: "memory", MountPath: "/memory"}, {Name: "data", MountPath: "/data", SubPath: "below"}}}},
			Volumes: []corev1.Volume{
				{Name: "conf", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: "settings"}}}},
				{Name: "memory", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{Medium: corev1.StorageMediumMemory}}},
				{Name: "data", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}},
			},
		}}
	}
	const serve = "trap 'exit 0' TERM USR1; while true; do sleep 1 & wait $!; done"
	return map[string]func() *corev1.Pod{
		"once":   func() *corev1.Pod { return pod(corev1.RestartPolicyNever, "cat /conf/greeting") },
		"fails":  func() *corev1.Pod { return pod(corev1.RestartPolicyNever, "exit 3") },
		"server": func() *corev1.Pod { p := pod(corev1.RestartPolicyAlways, serve); p.Labels["kind"] = "server"; return p },
		"deaf": func() *corev1.Pod { // does not hear TERM
			return pod(corev1.RestartPolicyAlways, "trap '' TERM USR1; while true; do sleep 1; done")
		},
		"crashes": func() *corev1.Pod { return pod(corev1.RestartPolicyAlways, "exit 1") },
		"staged": func() *corev1.Pod {
			p := pod(corev1.RestartPolicyAlways, serve)
			first, side := p.Spec.Containers[0], p.Spec.Containers[0]
			first.Name, first.Command = "first", []string{"true"}
			side.Name, side.RestartPolicy = "side", new(corev1.ContainerRestartPolicyAlways)
			p.Spec.InitContainers = []corev1.Container{first, side}
			p.Spec.Containers[0].Lifecycle = &corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{Exec: &corev1.ExecAction{Command: []string{"true"}}}}
			return p
		},
	}
}

// watchOver checks that the steady pods' containers are still the first ones.
func (c *chaos) watchOver() {
	for _, p := range c.pods() {
		first, stays := c.steady[p.Name]
		if !stays || len(p.Status.ContainerStatuses) != 1 {
			continue
		}
		switch cs := p.Status.ContainerStatuses[0]; {
		case first == "" && cs.State.Running != nil:
			c.steady[p.Name] = cs.ContainerID
		case first != "" && (cs.ContainerID != first || cs.RestartCount != 0):
			c.t.Errorf("a container of %s that ran well is another now: %s", p.Name, tell(&p))
		}
	}
}

// settle waits until every pod is as it was asked for.
func (c *chaos) settle() {
	c.t.Helper()
	c.until("settled", func() (bool, string) {
		for _, p := range c.pods() {
			if p.DeletionTimestamp != nil {
				return false, p.Name + " is being deleted: " + tell(&p)
			}
			var good bool
			switch p.Labels["kind"] {
			case "once":
				good = p.Status.Phase == corev1.PodSucceeded
			case "fails":
				good = p.Status.Phase == corev1.PodFailed
			case "crashes":
				good = p.Status.Phase == corev1.PodRunning && p.Status.ContainerStatuses[0].RestartCount > 1
			default:
				good = podReady(&p)
			}
			if !good {
				return false, p.Name + ": " + tell(&p)
			}
		}
		return true, ""
	})
}

// empty deletes all pods and waits until they are gone.
func (c *chaos) empty() {
	c.t.Helper()
	for _, p := range c.pods() {
		c.remove(p.Name)
	}
	c.until("without pods", func() (bool, string) {
		left := c.pods()
		if len(left) == 0 {
			return true, ""
		}
		return false, left[0].Name + ": " + tell(&left[0])
	})
}
