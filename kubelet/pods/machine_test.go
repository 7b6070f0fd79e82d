package pods

import (
	"bufio"
	"bytes"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"pilothouse.dev/kubelet/containers"
	"pilothouse.dev/kubelet/probes"
)

var update = flag.Bool("update", false, "rewrite the transcripts in testdata")

// The transcripts: each line of a script is a command and, below it, what the machine answers, indented. The world does at once what it is told:
//
//	pod name… [init:name…] [sidecar:name…] [hooked:name] [hook:name] [all:name] [graces:name] [ephemeral:name] [policy:Never]   a new pod; the machine is asked at once
//	done KEY…        the actions under way by these keys succeed (a start makes the container run, a stop makes it exit with 143)
//	fail KEY WHY     one fails, to be tried again in 1 s
//	gone KEY…        cancelled ones end without an effect
//	exit NAME CODE   a container ends;  up NAME: its startup probe passed;  sick NAME WHY: a probe condemns it
//	fails NAME Liveness   its probe condemns it;  phase Running: as the API has it;  created NAME: it was made, not started
//	tick 5s · end SECONDS [delete|orphan|evict] · image NAME · reboot · recorded · forget (the kubelet starts anew)
func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no transcripts: %v", err)
	}
	for _, f := range files {
		t.Run(strings.TrimSuffix(filepath.Base(f), ".txt"), func(t *testing.T) {
			script, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			got := play(t, script)
			if *update {
				if err := os.WriteFile(f, got, 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if !bytes.Equal(got, script) {
				t.Errorf("the story is another now; look at the difference, then rewrite with -update. Now it is:\n%s", got)
			}
		})
	}
}

type world struct {
	w    Wish
	s    Seen
	runs int
}

func play(t *testing.T, script []byte) []byte {
	var out bytes.Buffer
	w := &world{}
	lines := bufio.NewScanner(bytes.NewReader(script))
	for n := 1; lines.Scan(); n++ {
		line := lines.Text()
		if strings.HasPrefix(line, "  ") {
			continue // a former answer
		}
		fmt.Fprintln(&out, line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if err := w.command(strings.Fields(line)); err != nil {
			t.Fatalf("line %d: %s: %v", n, line, err)
		}
		w.decide(&out)
	}
	return out.Bytes()
}

var t0 = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func (w *world) decide(out *bytes.Buffer) {
	plan := Decide(w.w, w.s, Backoff{First: time.Second, Max: 10 * time.Second, Calm: time.Minute})
	for _, key := range plan.Cancel {
		fmt.Fprintf(out, "  give up %s\n", key)
	}
	for _, a := range plan.Do {
		fmt.Fprintf(out, "  do %s", a.key())
		switch a.Verb {
		case Start:
			fmt.Fprintf(out, " start attempt %d, then wait %s", a.Attempt, a.Backoff)
		case Stop:
			fmt.Fprintf(out, " stop %s within %s", a.ID, a.Deadline.Sub(w.s.Now))
			if a.Why != "" {
				fmt.Fprintf(out, ": %s", a.Why)
			}
			if a.Least > 0 {
				fmt.Fprintf(out, ", at least %s", a.Least)
			}
			if a.NoHook {
				fmt.Fprint(out, " (hook has run)")
			}
		case Hook:
			fmt.Fprintf(out, " preStop of %s within %s", a.ID, a.Deadline.Sub(w.s.Now))
		case Remove, Rebuild:
			fmt.Fprintf(out, " %s %s", a.Verb, a.ID)
		}
		fmt.Fprintln(out)
		w.s.Doing[a.key()] = a
	}
	for _, name := range slices.Sorted(maps.Keys(plan.Waiting)) {
		fmt.Fprintf(out, "  %s waits: %s: %s\n", name, plan.Waiting[name].Reason, plan.Waiting[name].Message)
	}
	fmt.Fprintf(out, "  = %s", plan.Phase)
	if plan.Final {
		fmt.Fprint(out, " final")
		if w.w.End == nil {
			w.w.End = &End{Phase: plan.Phase}
		}
	}
	if !plan.Initialized {
		fmt.Fprint(out, " uninitialized")
	}
	if plan.Over {
		fmt.Fprint(out, " over")
	}
	if !plan.Again.IsZero() {
		fmt.Fprintf(out, ", again in %s", plan.Again.Sub(w.s.Now))
	}
	fmt.Fprintln(out)
}

func (w *world) command(words []string) error {
	switch cmd, args := words[0], words[1:]; cmd {
	case "pod":
		w.newPod(args)
	case "done":
		for _, key := range args {
			a, ok := w.s.Doing[key]
			if !ok {
				return fmt.Errorf("%s is not under way", key)
			}
			w.finish(a)
		}
	case "gone":
		for _, key := range args {
			delete(w.s.Doing, key)
		}
	case "fail":
		delete(w.s.Doing, args[0])
		w.s.Faults[args[0]] = Fault{Reason: args[1], Message: "no luck", Until: w.s.Now.Add(time.Second), Count: 1}
	case "exit":
		code, err := strconv.Atoi(args[1])
		if err != nil {
			return err
		}
		w.exit(args[0], code)
	case "up":
		w.s.Started[w.s.Records[args[0]][0].ID] = true
	case "sick":
		w.s.Sick[w.s.Records[args[0]][0].ID] = Sickness{Why: args[1]}
	case "fails": // a probe
		w.s.Sick[w.s.Records[args[0]][0].ID] = Sickness{Why: "Container " + args[0] + " failed " + args[1] + " probe", Probe: probes.Kind(args[1])}
	case "phase": // as the API has it
		w.w.Pod.Status.Phase = corev1.PodPhase(args[0])
	case "created": // a container was made and not started when the kubelet ended
		w.s.Records[args[0]] = append([]containers.Container{{ID: args[0] + "-made", SandboxID: w.s.Sandbox.ID, Name: args[0], State: containers.Created,
			Created: w.s.Now}}, w.s.Records[args[0]]...)
	case "image":
		for i := range w.w.Pod.Spec.Containers {
			if w.w.Pod.Spec.Containers[i].Name == args[0] {
				w.w.Pod.Spec.Containers[i].Image = "newer"
			}
		}
	case "tick":
		d, err := time.ParseDuration(args[0])
		if err != nil {
			return err
		}
		w.s.Now = w.s.Now.Add(d)
	case "end":
		sec, err := strconv.Atoi(args[0])
		if err != nil {
			return err
		}
		e := &End{By: w.s.Now.Add(time.Duration(sec) * time.Second), Grace: time.Duration(sec) * time.Second}
		if w.w.End != nil {
			e.Phase = w.w.End.Phase
		}
		switch args[1] {
		case "delete":
			e.Delete = true
		case "orphan":
			e.Orphan = true
		case "evict":
			e.Phase = corev1.PodFailed
		}
		w.w.End = e
	case "reboot":
		w.s.Sandbox.Ready = false
		for name := range w.s.Records {
			if w.s.Records[name][0].State == containers.Running {
				w.exit(name, 137)
			}
		}
	case "recorded":
		w.s.Recorded = true
	case "forget":
		w.s.Done, w.s.Images, w.s.Faults, w.s.Doing = map[string]bool{}, map[string]bool{}, map[string]Fault{}, map[string]Action{}
	default:
		return fmt.Errorf("no such command")
	}
	return nil
}

func (w *world) newPod(args []string) {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "p", UID: "u"}, Spec: corev1.PodSpec{RestartPolicy: corev1.RestartPolicyAlways}}
	for _, a := range args {
		kind, name, ok := strings.Cut(a, ":")
		if !ok {
			kind, name = "", a
		}
		c := corev1.Container{Name: name, Image: "img"}
		switch kind {
		case "":
			p.Spec.Containers = append(p.Spec.Containers, c)
		case "hook":
			c.Lifecycle = &corev1.Lifecycle{PostStart: &corev1.LifecycleHandler{}}
			p.Spec.Containers = append(p.Spec.Containers, c)
		case "all": // its exit code 42 starts all anew
			c.RestartPolicy = new(corev1.ContainerRestartPolicyNever)
			c.RestartPolicyRules = []corev1.ContainerRestartRule{{Action: corev1.ContainerRestartRuleActionRestartAllContainers,
				ExitCodes: &corev1.ContainerRestartRuleOnExitCodes{Operator: corev1.ContainerRestartRuleOnExitCodesOpIn, Values: []int32{42}}}}
			p.Spec.Containers = append(p.Spec.Containers, c)
		case "graces": // a liveness probe with a grace period of its own
			c.LivenessProbe = &corev1.Probe{TerminationGracePeriodSeconds: new(int64(3))}
			p.Spec.Containers = append(p.Spec.Containers, c)
		case "ephemeral":
			p.Spec.EphemeralContainers = append(p.Spec.EphemeralContainers, corev1.EphemeralContainer{EphemeralContainerCommon: corev1.EphemeralContainerCommon(c)})
		case "hooked": // a sidecar with a preStop hook
			c.RestartPolicy = new(corev1.ContainerRestartPolicyAlways)
			c.Lifecycle = &corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{}}
			p.Spec.InitContainers = append(p.Spec.InitContainers, c)
		case "sidecar":
			c.RestartPolicy = new(corev1.ContainerRestartPolicyAlways)
			p.Spec.InitContainers = append(p.Spec.InitContainers, c)
		case "init":
			p.Spec.InitContainers = append(p.Spec.InitContainers, c)
		case "policy":
			p.Spec.RestartPolicy = corev1.RestartPolicy(name)
		}
	}
	*w = world{w: Wish{Pod: p}, s: Seen{
		Now: t0, Done: map[string]bool{}, Records: map[string][]containers.Container{}, Doing: map[string]Action{}, Faults: map[string]Fault{},
		Images: map[string]bool{}, Sick: map[string]Sickness{}, Replaced: map[string]bool{}, Started: map[string]bool{}, Hooked: map[string]bool{},
	}}
}

func (w *world) finish(a Action) {
	delete(w.s.Doing, a.key())
	delete(w.s.Faults, a.key())
	switch a.Verb {
	case Step:
		w.s.Done[a.Name] = true
		if a.Name == "sandbox" && w.s.Sandbox == nil {
			w.runs++
			w.s.Sandbox = &containers.Sandbox{ID: fmt.Sprintf("box%d", w.runs), Ready: true}
		}
	case Pull:
		w.s.Images[a.Name] = true
	case Start:
		delete(w.s.Images, a.Name)
		id := fmt.Sprintf("%s-%d", a.Name, a.Attempt)
		if w.runs > 1 {
			id += "-" + w.s.Sandbox.ID
		}
		r := containers.Container{ID: id, SandboxID: w.s.Sandbox.ID, Name: a.Name, Attempt: a.Attempt, State: containers.Running,
			Created: w.s.Now, Started: w.s.Now, Labels: map[string]string{labelBackoff: a.Backoff.String(), labelImage: w.image(a.Name), labelRound: strconv.Itoa(a.Round)}}
		w.s.Records[a.Name] = append([]containers.Container{r}, w.s.Records[a.Name]...)
	case Stop:
		w.s.Hooked[a.ID], w.s.Replaced[a.ID] = true, a.Replace
		w.exit(a.Name, 143)
	case Hook:
		w.s.Hooked[a.ID] = true
	case Remove:
		w.s.Records[a.Name] = slices.DeleteFunc(w.s.Records[a.Name], func(r containers.Container) bool { return r.ID == a.ID })
	case Rebuild:
		w.s.Sandbox, w.s.Records, w.s.Done = nil, map[string][]containers.Container{}, map[string]bool{}
	case Teardown:
		w.s.Sandbox, w.s.Records, w.s.Torn = nil, map[string][]containers.Container{}, true
	case Finish:
		w.s.Asked = true
	}
}

func (w *world) image(name string) string {
	for _, c := range w.w.Pod.Spec.Containers {
		if c.Name == name {
			return c.Image
		}
	}
	return "img"
}

func (w *world) exit(name string, code int) {
	r := &w.s.Records[name][0]
	r.State, r.ExitCode, r.Finished = containers.Exited, code, w.s.Now
}
