package pods

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"pilothouse.dev/kubelet/containers"
)

// Which round a container is of is counted, not read off a clock: whoever sets it back does not have all containers started again and again.
func TestRoundsNeedNoClock(t *testing.T) {
	call := corev1.Container{Name: "main", Image: "i", RestartPolicy: new(corev1.ContainerRestartPolicyNever), RestartPolicyRules: []corev1.ContainerRestartRule{{
		Action:    corev1.ContainerRestartRuleActionRestartAllContainers,
		ExitCodes: &corev1.ContainerRestartRuleOnExitCodes{Operator: corev1.ContainerRestartRuleOnExitCodesOpIn, Values: []int32{42}}}}}
	p := &corev1.Pod{Spec: corev1.PodSpec{RestartPolicy: corev1.RestartPolicyNever, Containers: []corev1.Container{call, {Name: "other", Image: "i"}}}}
	p.Status.Phase = corev1.PodRunning
	box := &containers.Sandbox{ID: "box", Ready: true}
	ended := containers.Container{ID: "main-0", Name: "main", SandboxID: "box", State: containers.Exited, ExitCode: 42, Created: t0, Started: t0, Finished: t0.Add(time.Hour)}
	record := func(name string, attempt int, state containers.State, round string) containers.Container {
		return containers.Container{ID: name, Name: name, SandboxID: "box", Attempt: attempt, State: state, Created: t0.Add(time.Minute), Started: t0.Add(time.Minute), Labels: map[string]string{labelRound: round}}
	}
	s := Seen{Now: t0.Add(2 * time.Minute), Done: map[string]bool{"group": true, "volumes": true, "sandbox": true, "files": true}, Sandbox: box, Images: map[string]bool{"main": true, "other": true}}
	b := Backoff{First: time.Second, Max: time.Minute, Calm: time.Hour * 2}

	// The clock was set back by an hour between the end that called for all anew and their new beginning.
	s.Records = map[string][]containers.Container{"main": {record("main", 1, containers.Running, "1"), ended}, "other": {record("other", 1, containers.Running, "1")}}
	if plan := Decide(Wish{Pod: p}, s, b); len(plan.Do) != 0 || plan.Anew {
		t.Errorf("the new round is ended: %+v", plan)
	}
	// One that was started again just after that end, before anybody looked, is of the former round.
	s.Now = t0.Add(2 * time.Hour)
	late := record("other", 1, containers.Running, "")
	late.Created = t0.Add(time.Hour + time.Second)
	s.Records = map[string][]containers.Container{"main": {ended}, "other": {late}}
	if plan := Decide(Wish{Pod: p}, s, b); len(plan.Do) != 1 || plan.Do[0].Verb != Stop || plan.Do[0].Name != "other" {
		t.Errorf("it is left: %+v", plan)
	}
	// The new ones say which round they are of, also when the record of the call is gone.
	late.State, late.Finished = containers.Exited, t0.Add(time.Hour+time.Minute)
	s.Records = map[string][]containers.Container{"main": {ended}, "other": {late}}
	for _, a := range Decide(Wish{Pod: p}, s, b).Do {
		if a.Verb != Start || a.Round != 1 {
			t.Errorf("%+v", a)
		}
	}
	s.Records = map[string][]containers.Container{"other": {record("other", 4, containers.Running, "3")}}
	if do := Decide(Wish{Pod: p}, s, b).Do; len(do) != 1 || do[0].Verb != Start || do[0].Round != 3 {
		t.Errorf("%+v", do)
	}
}
