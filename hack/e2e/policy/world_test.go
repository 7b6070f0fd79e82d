package policy

import (
	"context"
	"fmt"
	"maps"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/rand"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/kubernetes"
)

// pod is one of the nine, by the letters of its namespace and of itself.
type pod struct{ ns, name string }

func (p pod) String() string { return p.ns + "/" + p.name }

// door is one of the three ports of every pod.
type door struct {
	number   int32
	protocol corev1.Protocol
}

func (d door) String() string {
	return fmt.Sprintf("%d/%s", d.number, strings.ToLower(string(d.protocol)))
}

// name is the port's in the pod's spec.
func (d door) name() string {
	return fmt.Sprintf("serve-%d-%s", d.number, strings.ToLower(string(d.protocol)))
}

var (
	letters = []string{"w", "x", "z"} // none of which YAML takes for more than a letter, as it does y and n
	names   = []string{"a", "b", "c"}
	web     = door{80, corev1.ProtocolTCP}
	other   = door{81, corev1.ProtocolTCP}
	packets = door{80, corev1.ProtocolUDP}
	doors   = []door{web, other, packets}
)

// rule says whether one pod should reach a door of another one. Of itself it is not asked: a pod always does.
type rule func(from, to pod, at door) bool

func everything(pod, pod, door) bool { return true }
func nothing(pod, pod, door) bool    { return false }

// in is a policy of a namespace: its spec as YAML, in which ${x/a} is the block of one pod's address, ${all} that of all, and ${x} the
// namespace's whole name.
type in struct{ ns, spec string }

// example is policies and what they should allow.
type example struct {
	name     string
	policies []in
	through  bool // the pods' services are called, on ports of their own
	allowed  rule
}

// world is the nine pods with a service each.
type world struct {
	kube   kubernetes.Interface
	prefix string // of the namespaces
	nodes  []string
	pods   map[pod]*standing
}

// standing is a pod that runs.
type standing struct {
	ip, service string
	asker       *asker
}

const (
	patience = 15 * time.Second // until policies must be at work
	// A look that comes before they are costs a whole round of what can't be reached, so it waits as long as they usually take.
	settling = 100 * time.Millisecond
	starting = 2 * time.Minute // until pods must be ready: images are pulled
)

func newWorld(t *testing.T) *world {
	t.Helper()
	kube, err := kubernetes.NewForConfig(suite)
	check(t, err, "making a client")
	w := &world{kube: kube, prefix: "netpol-" + rand.String(5) + "-", pods: map[pod]*standing{}}
	list, err := kube.CoreV1().Nodes().List(t.Context(), metav1.ListOptions{})
	check(t, err, "listing nodes")
	for _, n := range list.Items {
		if !n.Spec.Unschedulable && len(n.Spec.Taints) == 0 {
			w.nodes = append(w.nodes, n.Name)
		}
	}
	if len(w.nodes) == 0 {
		t.Fatal("no node can have a pod")
	}
	for _, ns := range letters {
		_, err := kube.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: w.prefix + ns, Labels: map[string]string{"ns": ns}}}, metav1.CreateOptions{})
		check(t, err, "creating a namespace")
		t.Cleanup(func() {
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			if err := kube.CoreV1().Namespaces().Delete(ctx, w.prefix+ns, metav1.DeleteOptions{}); err != nil {
				t.Errorf("deleting namespace %s: %v", w.prefix+ns, err)
			}
		})
		within(t, patience, "a service account default in "+w.prefix+ns, func() error {
			_, err := kube.CoreV1().ServiceAccounts(w.prefix+ns).Get(t.Context(), "default", metav1.GetOptions{})
			return err
		})
	}
	for p := range all() {
		w.start(t, p)
		w.serve(t, p)
	}
	t.Cleanup(func() { // whoever is asked then
		for _, s := range w.pods {
			if s.asker != nil {
				s.asker.close()
			}
		}
	})
	for p := range all() {
		w.await(t, p)
	}
	return w
}

// all are the nine.
func all() func(yield func(pod) bool) {
	return func(yield func(pod) bool) {
		for _, ns := range letters {
			for _, name := range names {
				if !yield(pod{ns, name}) {
					return
				}
			}
		}
	}
}

// start makes a pod. The pods of a namespace are on different nodes, and so are those of the same name.
func (w *world) start(t *testing.T, p pod) {
	t.Helper()
	c := corev1.Container{Name: "c", Image: "testapp", Args: []string{"ports"}, ReadinessProbe: &corev1.Probe{PeriodSeconds: 1, FailureThreshold: 2,
		ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Port: intstr.FromInt32(web.number)}}}}
	for _, d := range doors {
		c.Args = append(c.Args, map[corev1.Protocol]string{corev1.ProtocolTCP: "", corev1.ProtocolUDP: "udp:"}[d.protocol]+strconv.Itoa(int(d.number)))
		c.Ports = append(c.Ports, corev1.ContainerPort{Name: d.name(), ContainerPort: d.number, Protocol: d.protocol})
	}
	node := w.nodes[w.nodeOf(p)]
	_, err := w.kube.CoreV1().Pods(w.prefix+p.ns).Create(t.Context(), &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: p.name, Labels: map[string]string{"pod": p.name}},
		Spec: corev1.PodSpec{
			Containers: []corev1.Container{c}, TerminationGracePeriodSeconds: new(int64), NodeSelector: map[string]string{corev1.LabelHostname: node},
		},
	}, metav1.CreateOptions{})
	check(t, err, "creating pod "+p.String())
}

// nodeOf is the node that a pod is on, as an index.
func (w *world) nodeOf(p pod) int {
	return (slices.Index(letters, p.ns) + slices.Index(names, p.name)) % len(w.nodes)
}

// serve makes a pod's service: its ports are a thousand more than the pod's.
func (w *world) serve(t *testing.T, p pod) {
	t.Helper()
	s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: p.name}, Spec: corev1.ServiceSpec{Selector: map[string]string{"pod": p.name}}}
	for _, d := range doors {
		s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{Name: d.name(), Port: 1000 + d.number, TargetPort: intstr.FromInt32(d.number), Protocol: d.protocol})
	}
	made, err := w.kube.CoreV1().Services(w.prefix+p.ns).Create(t.Context(), s, metav1.CreateOptions{})
	check(t, err, "creating the service of "+p.String())
	w.pods[p] = &standing{service: made.Spec.ClusterIP}
}

// await waits until a pod is ready, and begins to ask it.
func (w *world) await(t *testing.T, p pod) {
	t.Helper()
	within(t, starting, "pod "+p.String()+" is ready", func() error {
		got, err := w.kube.CoreV1().Pods(w.prefix+p.ns).Get(t.Context(), p.name, metav1.GetOptions{})
		if err != nil || !ready(got) {
			return fmt.Errorf("it is not: %w", err)
		}
		w.pods[p].ip = got.Status.PodIP
		return nil
	})
	a, err := ask(t.Context(), suite, w.prefix+p.ns, p.name)
	check(t, err, "beginning to ask "+p.String())
	w.pods[p].asker = a
}

func ready(p *corev1.Pod) bool {
	return p.Status.PodIP != "" && slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

// apply makes policies, and deletes them at the test's end.
func (w *world) apply(t *testing.T, policies ...in) {
	t.Helper()
	for i, p := range policies {
		name := fmt.Sprintf("policy-%d", i+1)
		made := &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: w.spec(t, p)}
		_, err := w.kube.NetworkingV1().NetworkPolicies(w.prefix+p.ns).Create(t.Context(), made, metav1.CreateOptions{})
		check(t, err, "creating a policy of "+p.spec)
		t.Cleanup(func() {
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			if err := w.kube.NetworkingV1().NetworkPolicies(w.prefix+p.ns).Delete(ctx, name, metav1.DeleteOptions{}); err != nil {
				t.Errorf("deleting policy %s of %s: %v", name, p.ns, err)
			}
		})
	}
}

// spec reads a policy's, with the names that it has for namespaces and addresses.
func (w *world) spec(t *testing.T, p in) (spec networkingv1.NetworkPolicySpec) {
	t.Helper()
	text := os.Expand(p.spec, func(name string) string {
		ns, one, isPod := strings.Cut(name, "/")
		switch {
		case isPod:
			return block(w.pods[pod{ns, one}].ip)
		case name == "all" && strings.Contains(w.pods[pod{"x", "a"}].ip, ":"):
			return "::/0"
		case name == "all":
			return "0.0.0.0/0"
		}
		return w.prefix + ns
	})
	check(t, yaml.UnmarshalStrict([]byte(text), &spec), "reading "+text)
	return spec
}

// block is one address.
func block(ip string) string {
	if strings.Contains(ip, ":") {
		return ip + "/128"
	}
	return ip + "/32"
}

// becomes waits until the matrix is as the rule says; else it prints it. Where the rule allows everything it looks for a second longer: so it
// would also be before the policies are at work.
func (w *world) becomes(t *testing.T, when string, through bool, allowed rule) {
	t.Helper()
	began := time.Now()
	for {
		time.Sleep(settling)
		got := w.look(t, through)
		wrong, denied := 0, 0
		for from := range all() {
			for to := range all() {
				for _, at := range doors {
					should := from == to || allowed(from, to, at)
					if !should {
						denied++
					}
					if got[from][cell(to, at)] != should {
						wrong++
					}
				}
			}
		}
		if wrong == 0 && (denied > 0 || time.Since(began) > time.Second) {
			t.Logf("%s: as it should be after %v", when, time.Since(began).Round(time.Millisecond))
			return
		}
		if wrong > 0 && time.Since(began) > patience {
			t.Fatalf("%s: %d of %d are not as they should be after %v\n%s", when, wrong, 9*9*len(doors), patience, picture(got, allowed))
		}
	}
}

// cell is how a target is called in questions.
func cell(to pod, at door) string { return to.String() + ":" + at.String() }

// question is all doors of all pods.
func (w *world) question(through bool) (targets []string) {
	for to := range all() {
		for _, at := range doors {
			host, number := w.pods[to].ip, at.number
			if through {
				host, number = w.pods[to].service, 1000+at.number
			}
			targets = append(targets, fmt.Sprintf("%s=%s://%s", cell(to, at), strings.ToLower(string(at.protocol)), net.JoinHostPort(host, strconv.Itoa(int(number)))))
		}
	}
	return targets
}

// look asks all pods at once what they reach.
func (w *world) look(t *testing.T, through bool) map[pod]map[string]bool {
	t.Helper()
	question := w.question(through)
	type answer struct {
		from    pod
		reaches map[string]bool
		err     error
	}
	answers := make(chan answer, len(w.pods))
	for from, s := range w.pods {
		go func() {
			reaches, err := s.asker.reaches(question)
			answers <- answer{from, reaches, err}
		}()
	}
	got := map[pod]map[string]bool{}
	for range w.pods {
		a := <-answers
		check(t, a.err, "asking "+a.from.String())
		if len(a.reaches) != len(question) {
			t.Fatalf("%s was asked of %d targets and told of %v", a.from, len(question), slices.Sorted(maps.Keys(a.reaches)))
		}
		got[a.from] = a.reaches
	}
	return got
}

// picture is the matrix, a table a door, and what is wrong with it: who asks is in the rows.
func picture(got map[pod]map[string]bool, allowed rule) string {
	var b strings.Builder
	b.WriteString("· reached   # denied, both as they should be   ! reached though denied   - not reached though allowed\n")
	for _, at := range doors {
		fmt.Fprintf(&b, "%-8s", at)
		for to := range all() {
			fmt.Fprintf(&b, " %s", to)
		}
		for from := range all() {
			fmt.Fprintf(&b, "\n     %s", from)
			for to := range all() {
				is, should := got[from][cell(to, at)], from == to || allowed(from, to, at)
				fmt.Fprintf(&b, "  %s ", map[[2]bool]string{{true, true}: "·", {false, false}: "#", {true, false}: "!", {false, true}: "-"}[[2]bool{is, should}])
			}
		}
		b.WriteString("\n")
	}
	return b.String()
}

// staysReady looks at the pods for longer than a probe of theirs takes to fail.
func (w *world) staysReady(t *testing.T) {
	t.Helper()
	for deadline := time.Now().Add(4 * time.Second); time.Now().Before(deadline); time.Sleep(500 * time.Millisecond) {
		for p := range all() {
			got, err := w.kube.CoreV1().Pods(w.prefix+p.ns).Get(t.Context(), p.name, metav1.GetOptions{})
			check(t, err, "getting pod "+p.String())
			if !ready(got) {
				t.Fatalf("%s is not ready any more: its node's probe does not reach it", p)
			}
		}
	}
}

func check(t *testing.T, err error, doing string) {
	t.Helper()
	if err != nil {
		t.Fatalf("%s: %v", doing, err)
	}
}

// within repeats until there is no error.
func within(t *testing.T, most time.Duration, what string, try func() error) {
	t.Helper()
	for deadline := time.Now().Add(most); ; time.Sleep(50 * time.Millisecond) {
		err := try()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s: %v", most, what, err)
		}
	}
}
