package pods

import (
	"fmt"
	"math/rand"
	"net/netip"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/randfill"

	"pilothouse.dev/kubelet/containers"
	"pilothouse.dev/kubelet/resolve"
	"pilothouse.dev/kubelet/status"
	"pilothouse.dev/kubelet/volumes"
	"pilothouse.dev/pkg/logging"
)

// wild makes a pod of anything that the API's types can hold, much of it nonsense, with names that can be names of files: the API server sees to
// those. Of half of all enumerated fields the value is one of the real ones.
func wild(seed int64) *corev1.Pod {
	r := rand.New(rand.NewSource(seed))
	pick := func(words ...string) string {
		if r.Intn(2) == 0 {
			return words[r.Intn(len(words))]
		}
		return strings.Repeat("x$(Y)", r.Intn(3))
	}
	f := randfill.NewWithSeed(seed).NilChance(0.4).NumElements(0, 3).MaxDepth(14).Funcs(
		func(q *resource.Quantity, _ randfill.Continue) {
			*q = *resource.NewMilliQuantity(r.Int63()-r.Int63(), resource.BinarySI)
		},
		func(t *metav1.Time, _ randfill.Continue) { *t = metav1.Unix(r.Int63n(4e9), 0) },
		func(v *intstr.IntOrString, _ randfill.Continue) {
			*v = intstr.IntOrString{Type: intstr.Type(r.Intn(3)), IntVal: int32(r.Uint32()), StrVal: pick("web", "80")}
		},
		func(f *metav1.FieldsV1, _ randfill.Continue) {},
		func(p *corev1.RestartPolicy, _ randfill.Continue) {
			*p = corev1.RestartPolicy(pick("Always", "Never", "OnFailure"))
		},
		func(p *corev1.ContainerRestartPolicy, _ randfill.Continue) {
			*p = corev1.ContainerRestartPolicy(pick("Always", "Never", "OnFailure"))
		},
		func(p *corev1.ContainerRestartRuleAction, _ randfill.Continue) {
			*p = corev1.ContainerRestartRuleAction(pick("Restart", "RestartAllContainers"))
		},
		func(p *corev1.PodPhase, _ randfill.Continue) {
			*p = corev1.PodPhase(pick("Pending", "Running", "Failed", "Succeeded"))
		},
		func(p *corev1.ResourceName, _ randfill.Continue) {
			*p = corev1.ResourceName(pick("cpu", "memory", "ephemeral-storage", "hugepages-2Mi", "hugepages-", "x.io/y"))
		},
		func(p *corev1.DNSPolicy, _ randfill.Continue) {
			*p = corev1.DNSPolicy(pick("None", "Default", "ClusterFirst"))
		},
		func(s *corev1.ObjectFieldSelector, _ randfill.Continue) {
			s.FieldPath = pick("metadata.name", "status.podIP", "metadata.labels['", "metadata.annotations[]", "status.hostIPs")
		},
		func(s *corev1.ResourceFieldSelector, c randfill.Continue) {
			s.Resource, s.ContainerName = pick("limits.cpu", "requests.memory", "limits.", "limits.hugepages-2Mi"), pick("a", "")
			c.Fill(&s.Divisor)
		},
	)
	p := &corev1.Pod{}
	f.Fill(&p.ObjectMeta)
	f.Fill(&p.Spec)
	f.Fill(&p.Status)
	p.Namespace, p.Name, p.UID = "shop", "wild", "u"
	n := 0
	name := func(s *string) { *s = fmt.Sprintf("c%d", n); n++ }
	for i := range p.Spec.InitContainers {
		name(&p.Spec.InitContainers[i].Name)
	}
	for i := range p.Spec.Containers {
		name(&p.Spec.Containers[i].Name)
	}
	for i := range p.Spec.EphemeralContainers {
		name(&p.Spec.EphemeralContainers[i].Name)
	}
	for i := range p.Spec.Volumes {
		p.Spec.Volumes[i].Name = fmt.Sprintf("v%d", i)
	}
	return p
}

// nothing knows no object.
type nothing struct{ Objects }

func (nothing) ConfigMap(_, name string) (*corev1.ConfigMap, error) {
	return nil, apierrors.NewNotFound(corev1.Resource("configmaps"), name)
}
func (nothing) Secret(_, name string) (*corev1.Secret, error) {
	return nil, apierrors.NewNotFound(corev1.Resource("secrets"), name)
}

// sights are what may be seen of a pod's containers: none, one or two records of any state.
func sights(r *rand.Rand, p *corev1.Pod) Seen {
	s := Seen{
		Now: t0, Done: map[string]bool{}, Doing: map[string]Action{}, Faults: map[string]Fault{}, Images: map[string]bool{}, Sick: map[string]Sickness{},
		Replaced: map[string]bool{}, Started: map[string]bool{}, Hooked: map[string]bool{}, Sizes: map[string]Size{}, Records: map[string][]containers.Container{},
		Recorded: r.Intn(2) == 0,
	}
	for _, st := range steps {
		s.Done[st.name] = r.Intn(4) > 0
	}
	if r.Intn(4) > 0 {
		s.Sandbox = &containers.Sandbox{ID: "box", Ready: r.Intn(4) > 0, IPs: []netip.Addr{netip.MustParseAddr("10.0.0.1")}}
	}
	names := []string{"stranger"}
	for i := range 10 {
		names = append(names, fmt.Sprintf("c%d", i))
	}
	for _, name := range names {
		for i := range r.Intn(3) {
			id := fmt.Sprintf("%s-%d", name, i)
			at := t0.Add(-time.Duration(r.Intn(1000)) * time.Second)
			s.Records[name] = append(s.Records[name], containers.Container{ID: id, SandboxID: "box", Name: name, Attempt: 2 - i, ExitCode: r.Intn(3),
				State: []containers.State{containers.Created, containers.Running, containers.Exited, ""}[r.Intn(4)], Created: at, Started: at, Finished: at.Add(time.Second)})
			s.Started[id], s.Images[name] = r.Intn(2) == 0, r.Intn(2) == 0
			if r.Intn(5) == 0 {
				s.Sick[id] = Sickness{Why: "x", Probe: "Liveness"}
			}
		}
	}
	return s
}

// Whatever a pod says, nothing that looks at it panics. A failure names the seed; put it in as the only one to see it again.
func TestWildPods(t *testing.T) {
	root := t.TempDir()
	cfg := &Config{Node: "n", Root: root, Logs: root, DNS: DNS{Cluster: []string{"10.96.0.10"}, Domain: "cluster.local", NodeFile: "/nowhere"}}
	w := &worker{uid: "u", cfg: cfg, log: logging.ForTest(t), parts: &Parts{
		Objects: nothing{}, Node: func() *corev1.Node { return nil },
		Services: func() ([]*corev1.Service, error) { return nil, nil },
	}}
	node := &corev1.Node{Status: corev1.NodeStatus{Allocatable: corev1.ResourceList{"cpu": resource.MustParse("4")}}}
	for seed := range int64(400) {
		p := wild(seed)
		r := rand.New(rand.NewSource(seed))
		for _, look := range []struct {
			at string
			do func()
		}{
			{"machine", func() {
				plan := Decide(Wish{Pod: p}, sights(r, p), Backoff{First: time.Second, Max: time.Minute, Calm: time.Minute})
				f := status.Facts{Pod: p, Now: t0, Phase: plan.Phase, Containers: sights(r, p).Records}
				st := status.Compute(f)
				status.WithOthers(&st, &p.Status)
			}},
			{"end", func() {
				Decide(Wish{Pod: p, End: &End{By: t0.Add(time.Minute), Delete: r.Intn(2) == 0}}, sights(r, p), Backoff{})
			}},
			{"admission", func() {
				if no := admit(cfg, p, node, []*corev1.Pod{wild(seed + 1)}, nil); no != nil && no.reason == "" {
					t.Errorf("seed %d: refused without a reason", seed)
				}
			}},
			{"size", func() { cfg.Sizing.podSize(p) }},
			{"start", func() { newState(p) }},
			{"files", func() {
				hosts(p, nil, "cluster.local")
				if _, _, err := cfg.DNS.resolvConf(p); err != nil {
					t.Errorf("seed %d: %v", seed, err)
				}
			}},
			{"container", func() {
				in := input{pod: p, sandbox: &containers.Sandbox{ID: "box"}, volumes: map[string]volumes.Volume{}, facts: resolve.Facts{NodeName: "n"}}
				for i := range p.Spec.Containers {
					c := &p.Spec.Containers[i]
					if _, err := w.containerSpec(t.Context(), in, c, Action{}); err != nil && err.Error() == "" {
						t.Errorf("seed %d: an error that says nothing", seed)
					}
					c.VolumeMounts, c.VolumeDevices, c.Env, c.EnvFrom, c.SecurityContext = nil, nil, nil, nil, nil // what mostly fails first
					w.containerSpec(t.Context(), in, c, Action{})
				}
			}},
		} {
			if err := calmly(func() error { look.do(); return nil }); err != nil {
				t.Fatalf("seed %d, %s: %v\n%s", seed, look.at, err, err.(panicked).stack)
			}
		}
	}
}
