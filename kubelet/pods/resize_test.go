package pods

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"pilothouse.dev/kubelet/cgroups"
	"pilothouse.dev/kubelet/containers"
)

// amounts reads «cpu/cpu limit/memory/memory limit», each may be empty.
func amounts(text string) corev1.ResourceRequirements {
	part := strings.Split(text, "/")
	r := corev1.ResourceRequirements{Requests: corev1.ResourceList{}, Limits: corev1.ResourceList{}}
	for i, to := range []struct {
		list corev1.ResourceList
		name corev1.ResourceName
	}{{r.Requests, corev1.ResourceCPU}, {r.Limits, corev1.ResourceCPU}, {r.Requests, corev1.ResourceMemory}, {r.Limits, corev1.ResourceMemory}} {
		if i < len(part) && part[i] != "" {
			to.list[to.name] = resource.MustParse(part[i])
		}
	}
	return r
}

// sized is a pod with a container for each amount.
func sized(name string, all ...string) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID(name), Generation: 1}, Spec: corev1.PodSpec{RestartPolicy: corev1.RestartPolicyAlways}}
	for i, text := range all {
		p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: fmt.Sprintf("c%d", i), Image: "x", Resources: amounts(text)})
	}
	return p
}

func with(p *corev1.Pod, change func(*corev1.Pod)) *corev1.Pod {
	p = p.DeepCopy()
	change(p)
	return p
}

func TestJudge(t *testing.T) {
	n := &corev1.Node{}
	n.Status.Allocatable = corev1.ResourceList{"cpu": resource.MustParse("4"), "memory": resource.MustParse("4Gi"), "pods": resource.MustParse("10")}
	others := []*corev1.Pod{
		sized("big", "2/3/2Gi/3Gi"),
		with(sized("done", "4/4/4Gi/4Gi"), func(p *corev1.Pod) { p.Status.Phase = corev1.PodSucceeded }),
		sized("a", "1/1/1Gi/1Gi"), // itself, as it was given
	}
	// A pod that shrinks holds what its containers still have.
	slow := with(sized("slow", "100m"), func(p *corev1.Pod) {
		r := amounts("1500m")
		p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "c0", AllocatedResources: amounts("100m").Requests, Resources: &r}}
	})
	have := sized("a", "1/1/1Gi/1Gi")
	for name, tc := range map[string]struct {
		want   *corev1.Pod
		others []*corev1.Pod
		cfg    Config
		reason string
		text   string
	}{
		"fits":          {want: sized("a", "2/2/2Gi/2Gi"), others: others},
		"smaller":       {want: sized("a", "1m/1/1Mi/1Gi"), others: others},
		"no room":       {want: sized("a", "3/3/1Gi/1Gi"), others: others, reason: "Deferred", text: "Node didn't have enough resource: cpu, requested: 3000, used: 2000, capacity: 4000"},
		"no memory":     {want: sized("a", "1/1/3Gi/3Gi"), others: others, reason: "Deferred", text: "Node didn't have enough resource: memory, requested: 3221225472, used: 2147483648, capacity: 4294967296"},
		"still in use":  {want: sized("a", "3/3/1Gi/1Gi"), others: []*corev1.Pod{slow}, reason: "Deferred", text: "Node didn't have enough resource: cpu, requested: 3000, used: 1500, capacity: 4000"},
		"never, cpu":    {want: sized("a", "5/5/1Gi/1Gi"), reason: "Infeasible", text: "Node didn't have enough capacity: cpu, requested: 5000, capacity: 4000"},
		"never, memory": {want: sized("a", "5/5/4608Mi/4608Mi"), reason: "Infeasible", text: "Node didn't have enough capacity: memory, requested: 4831838208, capacity: 4294967296"},
		"static pod": {want: with(sized("a", "2/2/1Gi/1Gi"), func(p *corev1.Pod) { p.Annotations = map[string]string{"kubernetes.io/config.source": "file"} }),
			reason: "Infeasible", text: "In-place resize of static-pods is not supported"},
		"own processors": {want: sized("a", "2/2/1Gi/1Gi"), cfg: Config{ExclusiveCPUs: true}, reason: "Infeasible",
			text: `Resize is infeasible for Guaranteed Pods alongside CPU Manager policy "static"`},
		"own processors, other memory": {want: sized("a", "1000m/1/2Gi/2Gi"), cfg: Config{ExclusiveCPUs: true}},
		"own processors, burstable":    {want: sized("a", "2/3/1Gi/1Gi"), cfg: Config{ExclusiveCPUs: true}},
	} {
		if got := judge(&tc.cfg, tc.want, have, n, tc.others); got.reason != tc.reason || got.message != tc.text {
			t.Errorf("%s: got %+v", name, got)
		}
	}
}

func TestInTurn(t *testing.T) {
	at := func(s int) time.Time { return time.Unix(int64(s), 0) }
	important := func(p *corev1.Pod) { p.Spec.Priority = new(int32(1000)) }
	all := []*waiting{
		{want: sized("late burstable", "2"), have: sized("", "1"), since: at(9)},
		{want: sized("early burstable", "2"), have: sized("", "1"), since: at(3)},
		{want: sized("guaranteed", "2/2/1Gi/1Gi"), have: sized("", "1/1/1Gi/1Gi"), since: at(10)},
		{want: with(sized("important", "2"), important), have: sized("", "1"), since: at(20)},
		{want: sized("shrinks", "1"), have: sized("", "2"), since: at(30)},
		{want: sized("limits only", "1/3"), have: sized("", "1/2"), since: at(29)},
	}
	inTurn(all)
	var names []string
	for _, w := range all {
		names = append(names, w.want.Name)
	}
	if got, want := strings.Join(names, ", "), "limits only, shrinks, important, guaranteed, early burstable, late burstable"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func restartFor(p *corev1.Pod, name corev1.ResourceName) *corev1.Pod {
	return with(p, func(p *corev1.Pod) {
		p.Spec.Containers[0].ResizePolicy = []corev1.ContainerResizePolicy{{ResourceName: name, RestartPolicy: corev1.RestartContainer}}
	})
}

// TestDecideResize: what the machine does for sizes, by what containers were started with, what they have, and what the group has.
func TestDecideResize(t *testing.T) {
	const mib = 1 << 20
	small, large := Size{100, 100, 64 * mib, 64 * mib}, Size{200, 200, 128 * mib, 128 * mib}
	now := time.Unix(1000, 0)
	for name, tc := range map[string]struct {
		pod      *corev1.Pod
		started  Size
		has      Size
		group    *Size
		state    containers.State
		progress bool
		fault    bool
		do       string
		resizing bool
	}{
		"nothing to do":              {pod: sized("p", "200m/200m/128Mi/128Mi"), started: large, has: large, group: &large},
		"was resized before":         {pod: sized("p", "200m/200m/128Mi/128Mi"), started: small, has: large, group: &large},
		"grows":                      {pod: sized("p", "200m/200m/128Mi/128Mi"), started: small, has: small, group: &small, do: "resize", resizing: true},
		"shrinks":                    {pod: sized("p", "100m/100m/64Mi/64Mi"), started: large, has: large, group: &large, do: "resize", resizing: true},
		"only the group is left":     {pod: sized("p", "100m/100m/64Mi/64Mi"), started: large, has: small, group: &large, do: "resize", resizing: true},
		"group not known":            {pod: sized("p", "100m/100m/64Mi/64Mi"), started: small, has: small},
		"failed a moment ago":        {pod: sized("p", "100m/100m/64Mi/64Mi"), started: large, has: large, group: &large, fault: true, resizing: true},
		"restart for memory":         {pod: restartFor(sized("p", "200m/200m/128Mi/128Mi"), "memory"), started: small, has: small, group: &small, do: "resize container/c0:stop", resizing: true},
		"restart, smaller":           {pod: restartFor(sized("p", "100m/100m/64Mi/64Mi"), "memory"), started: large, has: large, group: &large, do: "container/c0:stop", resizing: true},
		"restart only for cpu":       {pod: restartFor(sized("p", "100m/100m/64Mi/64Mi"), "cpu"), started: Size{100, 100, 128 * mib, 128 * mib}, has: large, group: &large, do: "resize", resizing: true},
		"request of memory only":     {pod: restartFor(sized("p", "100m/100m/32Mi/64Mi"), "memory"), started: small, has: small, group: &small, do: "resize", resizing: true},
		"stopped, group still small": {pod: restartFor(sized("p", "200m/200m/128Mi/128Mi"), "memory"), started: small, group: &small, state: containers.Exited, progress: true, do: "resize", resizing: true},
		"stopped, group made large":  {pod: restartFor(sized("p", "200m/200m/128Mi/128Mi"), "memory"), started: small, group: &large, state: containers.Exited, progress: true, do: "container/c0:start", resizing: true},
		"ended by itself": {pod: with(restartFor(sized("p", "200m/200m/128Mi/128Mi"), "memory"), func(p *corev1.Pod) { p.Spec.RestartPolicy = corev1.RestartPolicyOnFailure }),
			started: small, group: &large, state: containers.Exited},
		"stopped where exits are final": {pod: with(restartFor(sized("p", "200m/200m/128Mi/128Mi"), "memory"), func(p *corev1.Pod) { p.Spec.RestartPolicy = corev1.RestartPolicyOnFailure }),
			started: small, group: &large, state: containers.Exited, progress: true, do: "container/c0:start", resizing: true},
	} {
		t.Run(name, func(t *testing.T) {
			p := tc.pod
			if tc.progress {
				p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodResizeInProgress, Status: corev1.ConditionTrue}}
			}
			r := containers.Container{ID: "id", Name: "c0", SandboxID: "box", State: containers.Running, Started: now.Add(-time.Hour), Labels: map[string]string{labelSize: tc.started.String(), labelImage: "x"}}
			if tc.state != "" {
				r.State, r.Finished = tc.state, now.Add(-time.Second)
			}
			s := Seen{
				Now: now, Done: map[string]bool{}, Sandbox: &containers.Sandbox{ID: "box", Ready: true}, Records: map[string][]containers.Container{"c0": {r}},
				Doing: map[string]Action{}, Faults: map[string]Fault{}, Images: map[string]bool{"c0": true}, Sizes: map[string]Size{}, Group: tc.group,
			}
			for _, st := range steps {
				s.Done[st.name] = true
			}
			if r.State == containers.Running {
				s.Sizes["id"] = tc.has
			}
			if tc.fault {
				s.Faults["resize"] = Fault{Until: now.Add(time.Second)}
			}
			plan := Decide(Wish{Pod: p}, s, Backoff{First: time.Second, Max: time.Minute, Calm: time.Minute})
			var do []string
			for _, a := range plan.Do {
				if word := a.key(); a.Verb == Resize || a.Verb == Teardown {
					do = append(do, word)
				} else {
					do = append(do, word+":"+string(a.Verb))
				}
			}
			if got := strings.Join(do, " "); got != tc.do || plan.Resizing != tc.resizing {
				t.Errorf("does %q, resizing %v; want %q, %v", got, plan.Resizing, tc.do, tc.resizing)
			}
			if final := name == "ended by itself"; plan.Final != final {
				t.Errorf("final %v, phase %s", plan.Final, plan.Phase)
			}
		})
	}
}

func TestAllocationFile(t *testing.T) {
	root := t.TempDir()
	if a, err := readAllocation(root, "u"); a != nil || err != nil {
		t.Fatalf("before anything was kept: %+v, %v", a, err)
	}
	p := sized("u", "100m/200m/64Mi/64Mi", "")
	p.Spec.InitContainers = []corev1.Container{{Name: "i", Resources: amounts("1")}}
	first := allocationOf(p)
	w := &worker{uid: "u", cfg: &Config{Root: root}, given: first, wake: make(chan struct{}, 1), pod: p}
	if err := w.keep(); err != nil {
		t.Fatal(err)
	}
	more := with(p, func(p *corev1.Pod) { p.Generation, p.Spec.Containers[1].Resources = 2, amounts("1/2") })
	w.pod = more
	if got := w.held(); !equality.Semantic.DeepEqual(got.Spec, p.Spec) || got.Generation != 2 {
		t.Errorf("held without a resize let in: %+v", got.Spec)
	}
	if err := w.give(allocationOf(more)); err != nil {
		t.Fatal(err)
	}
	if err := w.keep(); err != nil { // the group is made again: it keeps what is newer
		t.Fatal(err)
	}
	a, err := readAllocation(root, "u")
	if err != nil || a.Generation != 2 || !a.same(allocationOf(more)) || a.same(first) || w.held() != more {
		t.Errorf("kept %+v, %v", a, err)
	}
	if err := os.WriteFile(allocationFile(root, "u"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if a, err := readAllocation(root, "u"); a != nil || err != nil {
		t.Errorf("of an empty file: %+v, %v", a, err)
	}
	if err := os.WriteFile(allocationFile(root, "u"), []byte("{"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := readAllocation(root, "u"); err == nil {
		t.Error("a spoilt file is taken for a good one")
	}
	if left, err := filepath.Glob(filepath.Join(filepath.Dir(allocationFile(root, "u")), "*.new")); err != nil || len(left) > 0 {
		t.Errorf("left lying: %v, %v", left, err)
	}
}

// TestReported: without its file a running container's allocation is what the status tells, one that does not run gets what the spec says.
func TestReported(t *testing.T) {
	p := sized("p", "2/2/2Gi/2Gi", "3")
	r := amounts("1/1/1Gi/1Gi")
	p.Status.ContainerStatuses = []corev1.ContainerStatus{{
		Name: "c0", State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}, AllocatedResources: r.Requests, Resources: &r,
	}, {Name: "c1", AllocatedResources: amounts("1").Requests}}
	a := reported(p)
	if want := allocationOf(sized("p", "1/1/1Gi/1Gi", "3")); !a.same(want) {
		t.Errorf("got %+v", a)
	}
}

func TestMeasured(t *testing.T) {
	c := corev1.Container{Resources: amounts("200m/500m/64Mi/128Mi")}
	z := Sizing{}
	was := z.size(amounts("100m/200m/64Mi/64Mi").Requests, amounts("100m/200m/64Mi/64Mi").Limits)
	for name, tc := range map[string]struct {
		given   Size
		has     cgroups.Actual
		noQuota bool
		want    string
	}{
		"as given":          {z.size(c.Resources.Requests, c.Resources.Limits), cgroups.Actual{Shares: 204, CPUQuota: 50_000, CPUPeriod: 100_000, Memory: 128 << 20}, false, "200m/500m/64Mi/128Mi"},
		"not resized yet":   {was, cgroups.Actual{Shares: 102, CPUQuota: 20_000, CPUPeriod: 100_000, Memory: 64 << 20}, false, "100m/200m/64Mi/64Mi"},
		"had no limits":     {Size{CPURequest: 100, MemoryRequest: 64 << 20}, cgroups.Actual{Shares: 102, CPUQuota: -1, CPUPeriod: 100_000, Memory: -1}, false, "100m//64Mi"},
		"changed by hand":   {was, cgroups.Actual{Shares: 512, CPUQuota: 70_000, CPUPeriod: 100_000, Memory: 96 << 20}, false, "500m/700m/64Mi/96Mi"},
		"limits not in use": {Size{200, 0, 64 << 20, 128 << 20}, cgroups.Actual{Shares: 204, CPUQuota: -1, CPUPeriod: 100_000, Memory: 128 << 20}, true, "200m/500m/64Mi/128Mi"},
	} {
		got, want := measured(&c, tc.given, tc.has, tc.noQuota), amounts(tc.want)
		if !equality.Semantic.DeepEqual(*got, want) {
			t.Errorf("%s: got %+v, want %+v", name, *got, want)
		}
	}
}

func TestSummary(t *testing.T) {
	p := sized("p", "100m/200m/64Mi/128Mi")
	p.Spec.InitContainers = []corev1.Container{{Name: "once"}, {Name: "side", RestartPolicy: new(corev1.ContainerRestartPolicyAlways), Resources: amounts("1")}}
	want := `{"initContainers":[{"name":"side","resources":{"requests":{"cpu":"1"}}}],` +
		`"containers":[{"name":"c0","resources":{"limits":{"cpu":"200m","memory":"128Mi"},"requests":{"cpu":"100m","memory":"64Mi"}}}],"generation":3,"error":"no room"}`
	if got := resizeSummary(p, 3, "no room"); got != want {
		t.Errorf("got %s", got)
	}
}
