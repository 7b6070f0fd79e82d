package main

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"pilothouse.dev/pkg/testcluster"
)

var kills = flag.Int("kills", 25, "how often TestChaos kills the controller manager")

// childEnv makes the test binary be the controller manager itself.
const childEnv = "PILOTHOUSE_TEST_CONTROLLER_MANAGER"

func TestMain(m *testing.M) {
	if os.Getenv(childEnv) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// chaos is a control plane whose controller manager is a process that is killed again and again, and what is asked of it meanwhile.
type chaos struct {
	*world
	ns   string
	args []string

	mu     sync.Mutex
	fates  map[types.UID]*fate // guarded by mu: of jobs, as their pods were played
	jobs   int                 // guarded by mu: made
	doomed []string            // guarded by mu: namespaces made to be deleted
}

// fate is what became of a job's pods.
type fate struct {
	succeeded, failed int32
	flaky             bool // one of its pods fails
}

const jobPods = 6

// TestChaos kills the controller manager at random points while Deployments, StatefulSets, Jobs and namespaces churn. In the end
// everything is as it was last asked for, nothing is left without its owner, and no Job miscounted.
func TestChaos(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	c := openChaos(t)
	for i := range 4 {
		must(c.kube.AppsV1().Deployments(c.ns).Create(t.Context(), named(webApp(2), fmt.Sprint("web-", i)), metav1.CreateOptions{}))(c.world)
	}
	for i := range 2 {
		must(c.kube.AppsV1().StatefulSets(c.ns).Create(t.Context(), orderedApp(fmt.Sprint("db-", i)), metav1.CreateOptions{}))(c.world)
	}
	for range *kills {
		m := c.start()
		end := time.Now().Add(time.Duration(random.Int64N(int64(time.Second))))
		for time.Now().Before(end) {
			c.churn(random)
			time.Sleep(time.Duration(random.Int64N(int64(60 * time.Millisecond))))
		}
		m.kill()
	}
	m := c.start()
	defer m.kill()
	began := time.Now()
	c.settle()
	t.Logf("%d kills, %d jobs and %d namespaces; settled after %v", *kills, c.jobs, len(c.doomed), time.Since(began))
}

func openChaos(t *testing.T) *chaos {
	cluster := testcluster.Start(t, "--default-toleration=2s", "--advertise-address=192.0.2.1")
	ca := filepath.Join(t.TempDir(), "root.crt")
	if err := os.WriteFile(ca, []byte("the authority\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	w := &world{T: t, cluster: cluster, kube: cluster.Kube, player: newPlayer(cluster.Kube)}
	c := &chaos{world: w, ns: "churn", fates: map[types.UID]*fate{},
		args: []string{"--kubeconfig=" + cluster.Kubeconfig("system:kube-controller-manager"), "--leader-elect=false", "--secure-port=0", "--root-ca-file=" + ca}}
	w.player.script("job", c.play)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := w.player.run(ctx); err != nil && ctx.Err() == nil {
			t.Errorf("the player ended: %v", err)
		}
	})
	t.Cleanup(func() { cancel(); wg.Wait() })
	w.player.add(w, "steady")
	m := c.start()
	w.namespace(c.ns)
	m.kill()
	return c
}

// manager is one life of the controller manager.
type manager struct {
	cmd  *exec.Cmd
	done chan struct{}
}

func (c *chaos) start() *manager {
	c.Helper()
	self, err := os.Executable()
	if err != nil {
		c.Fatal(err)
	}
	m := &manager{cmd: exec.Command(self, c.args...), done: make(chan struct{})}
	m.cmd.Env = append(os.Environ(), childEnv+"=1")
	m.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	log, err := os.OpenFile(filepath.Join(c.cluster.Dir, "controller-manager.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		c.Fatal(err)
	}
	m.cmd.Stdout, m.cmd.Stderr = log, log
	started := make(chan error)
	go func() {
		runtime.LockOSThread() // the child gets its signal when the thread that started it ends
		err := m.cmd.Start()
		log.Close()
		started <- err
		if err == nil {
			_ = m.cmd.Wait() // killed on purpose
		}
		close(m.done)
	}()
	if err := <-started; err != nil {
		c.Fatal(err)
	}
	return m
}

func (m *manager) kill() {
	_ = m.cmd.Process.Kill() // it is waited for
	<-m.done
}

// play ends the pods of jobs: in the job's first life one of a flaky job fails. Only what the API server took counts.
func (c *chaos) play(ctx context.Context, p *corev1.Pod) {
	owner := metav1.GetControllerOf(p)
	if owner == nil {
		return
	}
	c.mu.Lock()
	f := c.fates[owner.UID]
	fails := f != nil && f.flaky && f.failed == 0
	c.mu.Unlock()
	if f == nil {
		return // its making is not answered yet
	}
	p.Status.Phase = corev1.PodSucceeded
	if fails {
		p.Status.Phase = corev1.PodFailed
	}
	if _, err := c.kube.CoreV1().Pods(p.Namespace).UpdateStatus(ctx, p, metav1.UpdateOptions{}); err != nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if fails {
		f.failed++
	} else {
		f.succeeded++
	}
}

// churn asks for one thing more, or another.
func (c *chaos) churn(random *rand.Rand) {
	c.Helper()
	n := random.Int32N(6)
	env := fmt.Appendf(nil, `{"spec":{"template":{"metadata":{"annotations":{"churn":"%d"}}}}}`, random.Uint32())
	size := fmt.Appendf(nil, `{"spec":{"replicas":%d}}`, n)
	web, db := fmt.Sprint("web-", random.IntN(4)), fmt.Sprint("db-", random.IntN(2))
	var err error
	switch random.IntN(8) {
	case 0, 1:
		_, err = c.kube.AppsV1().Deployments(c.ns).Patch(c.Context(), web, types.MergePatchType, size, metav1.PatchOptions{})
	case 2:
		_, err = c.kube.AppsV1().Deployments(c.ns).Patch(c.Context(), web, types.MergePatchType, env, metav1.PatchOptions{})
	case 3:
		_, err = c.kube.AppsV1().StatefulSets(c.ns).Patch(c.Context(), db, types.MergePatchType, size, metav1.PatchOptions{})
	case 4:
		_, err = c.kube.AppsV1().StatefulSets(c.ns).Patch(c.Context(), db, types.MergePatchType, env, metav1.PatchOptions{})
	case 5, 6:
		err = c.job(random.IntN(3) == 0)
	case 7:
		err = c.passing(random)
	}
	if err != nil {
		c.Fatal(err)
	}
}

// job makes one more job.
func (c *chaos) job(flaky bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.jobs == 20+*kills {
		return nil
	}
	c.jobs++
	j, err := c.kube.BatchV1().Jobs(c.ns).Create(c.Context(), &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("job-", c.jobs)}, Spec: batchv1.JobSpec{
		Completions: ptr.To(int32(jobPods)), Parallelism: ptr.To(int32(3)), BackoffLimit: ptr.To(int32(5)),
		Template: corev1.PodTemplateSpec{Spec: corev1.PodSpec{RestartPolicy: corev1.RestartPolicyNever, Containers: []corev1.Container{{Name: "c", Image: "job"}}}},
	}}, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	c.fates[j.UID] = &fate{flaky: flaky}
	return nil
}

// passing makes a namespace with something in it, or deletes one.
func (c *chaos) passing(random *rand.Rand) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n := len(c.doomed); n > 0 && random.IntN(2) == 0 {
		err := c.kube.CoreV1().Namespaces().Delete(c.Context(), c.doomed[n-1], metav1.DeleteOptions{})
		if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
			err = nil
		}
		return err
	}
	name := fmt.Sprint("passing-", len(c.doomed))
	c.doomed = append(c.doomed, name)
	if _, err := c.kube.CoreV1().Namespaces().Create(c.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{}); err != nil {
		return err
	}
	if _, err := c.kube.AppsV1().Deployments(name).Create(c.Context(), webApp(2), metav1.CreateOptions{}); err != nil {
		return err
	}
	_, err := c.kube.CoreV1().ConfigMaps(name).Create(c.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "held", Finalizers: nil}}, metav1.CreateOptions{})
	return err
}

func named(d *appsv1.Deployment, name string) *appsv1.Deployment {
	d.Name = name
	d.Spec.Selector.MatchLabels["set"] = name // the template's labels are the same map
	return d
}

func orderedApp(name string) *appsv1.StatefulSet {
	labels := map[string]string{"set": name}
	return &appsv1.StatefulSet{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: appsv1.StatefulSetSpec{
		Replicas: ptr.To(int32(2)), Selector: &metav1.LabelSelector{MatchLabels: labels}, ServiceName: name,
		Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "v1"}}}},
	}}
}
