package cpus

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/cpuset"

	"pilothouse.dev/kubelet/cgroups"
	"pilothouse.dev/kubelet/containers"
	"pilothouse.dev/pkg/logging"
)

// sysfsOf writes what the kernel would say of a machine whose cores are these.
func sysfsOf(t *testing.T, cores ...string) string {
	root := t.TempDir()
	put := func(name, text string) {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(root, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, name), []byte(text+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	all := cpuset.New()
	for _, c := range cores {
		set, err := cpuset.Parse(c)
		if err != nil {
			t.Fatal(err)
		}
		all = all.Union(set)
		for _, id := range set.List() {
			put(fmt.Sprintf("cpu%d/topology/thread_siblings_list", id), c)
		}
	}
	put("online", all.String())
	return root
}

func TestChoose(t *testing.T) {
	m, err := readMachine(sysfsOf(t, "0,4", "1,5", "2,6", "3,7"))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		free string
		n    int
		want string
	}{
		{"0-7", 0, ""},
		{"0-7", 1, "0"},
		{"0-7", 2, "0,4"},
		{"0-7", 3, "0-1,4"},
		{"1-7", 1, "4"}, // its core is broken already
		{"1-7", 2, "1,5"},
		{"1-7", 3, "1,4-5"},
		{"1-3,5-7", 6, "1-3,5-7"},
		{"0-3", 3, "0-2"},
		{"0-3", 5, "none"},
	} {
		free, err := cpuset.Parse(c.free)
		if err != nil {
			t.Fatal(err)
		}
		got, enough := m.choose(free, c.n)
		if text := got.String(); enough && text != c.want || !enough && c.want != "none" {
			t.Errorf("%d of %s: %s, %t, want %s", c.n, c.free, text, enough, c.want)
		}
	}
}

// runtime remembers where containers run.
type runtime struct {
	mu   sync.Mutex
	list []containers.Container
	sets map[string]string
}

func (r *runtime) List(context.Context) (containers.Listing, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return containers.Listing{Containers: slices.Clone(r.list)}, nil
}

func (r *runtime) UpdateResources(_ context.Context, id string, res cgroups.Resources) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if strings.HasPrefix(id, "gone") {
		return containers.ErrNotFound
	}
	r.sets[id] = res.CPUSet
	return nil
}

// guaranteed is a pod of containers with so many thousandths each; «init-» and «side-» make init containers and sidecars.
func guaranteed(name string, wants ...string) *corev1.Pod {
	p := &corev1.Pod{}
	p.UID, p.Name = types.UID(name), name
	for _, w := range wants {
		who, cpu, _ := strings.Cut(w, "=")
		list := corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu), corev1.ResourceMemory: resource.MustParse("1Mi")}
		c := corev1.Container{Name: who, Resources: corev1.ResourceRequirements{Requests: list, Limits: list}}
		switch {
		case strings.HasPrefix(who, "side"):
			c.RestartPolicy = new(corev1.ContainerRestartPolicyAlways)
			p.Spec.InitContainers = append(p.Spec.InitContainers, c)
		case strings.HasPrefix(who, "init"):
			p.Spec.InitContainers = append(p.Spec.InitContainers, c)
		default:
			p.Spec.Containers = append(p.Spec.Containers, c)
		}
	}
	return p
}

func static(t *testing.T, rt Runtime, options ...string) *Manager {
	m, err := New(Config{Policy: Static, Options: options, ReservedMilli: 500, Reconcile: 10 * time.Second, Sysfs: sysfsOf(t, "0,4", "1,5", "2,6", "3,7")}, rt, logging.ForTest(t))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// runs says where each container of the pod would run.
func runs(t *testing.T, m *Manager, p *corev1.Pod) map[string]string {
	out := map[string]string{}
	for _, c := range slices.Concat(p.Spec.InitContainers, p.Spec.Containers) {
		spec := containers.ContainerSpec{Labels: map[string]string{}}
		if err := m.Grant(t.Context(), p, &c, &spec); err != nil {
			t.Fatal(err)
		}
		out[c.Name] = spec.Resources.CPUSet
		if own := spec.Labels[label]; own != "" {
			if own != spec.Resources.CPUSet {
				t.Errorf("%s has the label %s and runs on %s", c.Name, own, spec.Resources.CPUSet)
			}
			out[c.Name] += " alone"
		}
	}
	return out
}

func TestStatic(t *testing.T) {
	burstable := guaranteed("burstable", "a=2")
	burstable.Spec.Containers[0].Resources.Limits = nil
	for name, c := range map[string]struct {
		pods []*corev1.Pod
		want map[string]string // of the last
		no   string
	}{
		"whole processors":       {pods: []*corev1.Pod{guaranteed("p", "a=2", "b=1")}, want: map[string]string{"a": "1,5 alone", "b": "4 alone"}},
		"parts are shared":       {pods: []*corev1.Pod{guaranteed("p", "a=2", "b=1500m")}, want: map[string]string{"a": "1,5 alone", "b": "0,2-4,6-7"}},
		"no guarantee":           {pods: []*corev1.Pod{guaranteed("p", "a=4"), burstable}, want: map[string]string{"a": "0,3-4,7"}},
		"init uses what comes":   {pods: []*corev1.Pod{guaranteed("p", "init=1", "a=2")}, want: map[string]string{"init": "1 alone", "a": "1,5 alone"}},
		"init needs more":        {pods: []*corev1.Pod{guaranteed("p", "init=4", "a=2")}, want: map[string]string{"init": "1-2,5-6 alone", "a": "1,5 alone"}},
		"sidecars run meanwhile": {pods: []*corev1.Pod{guaranteed("p", "side=2", "init=2", "a=2")}, want: map[string]string{"side": "1,5 alone", "init": "2,6 alone", "a": "2,6 alone"}},
		"all but the reserved":   {pods: []*corev1.Pod{guaranteed("p", "a=7")}, want: map[string]string{"a": "1-7 alone"}},
		"too many":               {pods: []*corev1.Pod{guaranteed("p", "a=8")}, no: "UnexpectedAdmissionError: Allocate failed due to not enough cpus available to satisfy request: requested=8, available=7, which is unexpected"},
		"too many for the init":  {pods: []*corev1.Pod{guaranteed("p", "init=8", "a=1")}, no: "UnexpectedAdmissionError: Allocate failed due to not enough cpus available to satisfy request: requested=8, available=7, which is unexpected"},
	} {
		t.Run(name, func(t *testing.T) {
			m := static(t, nil)
			var got map[string]string
			for _, p := range c.pods {
				if reason, message := m.Admit(p); reason != "" {
					if text := reason + ": " + message; text != c.no {
						t.Errorf("refused: %s", text)
					}
					if m.free().Size() != 7 {
						t.Errorf("one that was refused holds something: %s are free", m.free())
					}
					return
				}
				got = runs(t, m, p)
			}
			if c.no != "" || !maps.Equal(got, c.want) {
				t.Errorf("got %v, want %v %s", got, c.want, c.no)
			}
		})
	}
}

func TestWholeCores(t *testing.T) {
	m := static(t, nil, "full-pcpus-only=true")
	reason, message := m.Admit(guaranteed("p", "a=3"))
	if reason != "SMTAlignmentError" || message != "SMT Alignment Error: requested 3 cpus not multiple cpus per core = 2" {
		t.Errorf("%s: %s", reason, message)
	}
}

// What was given is found again by the labels, and given to nobody else until its pod is over.
func TestFoundAgain(t *testing.T) {
	m := static(t, nil)
	p := guaranteed("old", "a=2")
	m.Found(containers.Listing{Containers: []containers.Container{
		{PodUID: "old", Name: "a", Labels: map[string]string{label: "3,7"}}, {PodUID: "old", Name: "b"}, {PodUID: "bad", Name: "c", Labels: map[string]string{label: "x"}}}})
	if got := runs(t, m, p)["a"]; got != "3,7 alone" {
		t.Errorf("it runs on %s", got)
	}
	if reason, _ := m.Admit(guaranteed("new", "a=6")); reason == "" {
		t.Error("what an older pod has was given away")
	}
	m.Release("old")
	m.Release("old")
	if reason, message := m.Admit(guaranteed("new", "a=6")); reason != "" {
		t.Errorf("%s: %s", reason, message)
	}
}

// A container that ran on processors which the machine has no more is given others.
func TestLostProcessors(t *testing.T) {
	m := static(t, nil)
	m.Found(containers.Listing{Containers: []containers.Container{{PodUID: "old", Name: "a", State: containers.Exited, Labels: map[string]string{label: "3,9"}}}})
	got := runs(t, m, guaranteed("old", "a=2"))["a"]
	if set, alone := strings.CutSuffix(got, " alone"); !alone || set == "3,9" {
		t.Errorf("it runs on %s", got)
	}
}

// Containers without processors of their own leave those that somebody gets, and come back.
func TestOthersMove(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rt := &runtime{sets: map[string]string{}, list: []containers.Container{
			{ID: "shares", State: containers.Running}, {ID: "alone", State: containers.Running, Labels: map[string]string{label: "3"}},
			{ID: "ended", State: containers.Exited}, {ID: "gone", State: containers.Running}}}
		m := static(t, rt)
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- m.Run(ctx) }()
		check := func(when string, want map[string]string) {
			t.Helper()
			synctest.Wait()
			rt.mu.Lock()
			defer rt.mu.Unlock()
			if !maps.Equal(rt.sets, want) {
				t.Errorf("%s: %v, want %v", when, rt.sets, want)
			}
		}
		check("at first", map[string]string{})
		m.Admit(guaranteed("p", "a=2"))
		check("given", map[string]string{"shares": "0,2-4,6-7"})
		rt.mu.Lock()
		rt.list = append(rt.list, containers.Container{ID: "late", State: containers.Running})
		rt.mu.Unlock()
		time.Sleep(11 * time.Second) // virtual
		check("looked at again", map[string]string{"shares": "0,2-4,6-7", "late": "0,2-4,6-7"})
		m.Release("p")
		check("given back", map[string]string{"shares": "0-7", "late": "0-7"})
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestBadSettings(t *testing.T) {
	for name, c := range map[string]struct {
		cfg  Config
		want string
	}{
		"policy":           {Config{Policy: "dynamic"}, `--cpu-manager-policy "dynamic": want none or static`},
		"option":           {Config{Policy: Static, Options: []string{"align-by-socket=true"}, Reserved: "0"}, `--cpu-manager-policy-options "align-by-socket=true": want full-pcpus-only or strict-cpu-reservation, =true or =false`},
		"nothing reserved": {Config{Policy: Static}, "--cpu-manager-policy=static needs processor time that is kept from pods: --kube-reserved, --system-reserved or --reserved-cpus"},
		"not there":        {Config{Policy: Static, Reserved: "8"}, "--reserved-cpus 8: this machine has 0-1"},
		"no list":          {Config{Policy: Static, Reserved: "a"}, `--reserved-cpus "a": strconv.Atoi: parsing "a": invalid syntax`},
		"all":              {Config{Policy: Static, ReservedMilli: 2001}, "--cpu-manager-policy=static: 3 processors are reserved, this machine has 2"},
	} {
		t.Run(name, func(t *testing.T) {
			c.cfg.Sysfs = sysfsOf(t, "0-1")
			if _, err := New(c.cfg, nil, logging.ForTest(t)); err == nil || err.Error() != c.want {
				t.Errorf("got %v", err)
			}
		})
	}
	idle, err := New(Config{Sysfs: "/nowhere"}, nil, logging.ForTest(t))
	if err != nil {
		t.Fatal(err)
	}
	if got := runs(t, idle, guaranteed("p", "a=2")); got["a"] != "" {
		t.Errorf("without a policy it runs on %v", got)
	}
}
