package attachdetach

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"pilothouse.dev/controller-manager/loop"
)

func csi(name string, modes ...corev1.PersistentVolumeAccessMode) *corev1.PersistentVolume {
	return &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.PersistentVolumeSpec{AccessModes: modes,
		PersistentVolumeSource: corev1.PersistentVolumeSource{CSI: &corev1.CSIPersistentVolumeSource{Driver: "disks.example.com", VolumeHandle: "h-" + name}}}}
}

// node is one with volumes in use and attached, by handle.
func node(ready corev1.ConditionStatus, inUse, told string, taints ...string) *corev1.Node {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}}
	n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: ready}}
	for _, v := range strings.Fields(inUse) {
		n.Status.VolumesInUse = append(n.Status.VolumesInUse, deviceName(csi(v)))
	}
	for _, v := range strings.Fields(told) {
		n.Status.VolumesAttached = append(n.Status.VolumesAttached, corev1.AttachedVolume{Name: deviceName(csi(v))})
	}
	for _, key := range taints {
		n.Spec.Taints = append(n.Spec.Taints, corev1.Taint{Key: key, Effect: corev1.TaintEffectNoExecute})
	}
	return n
}

const (
	ready   = corev1.ConditionTrue
	silent  = corev1.ConditionUnknown
	service = corev1.TaintNodeOutOfService
)

// have is an attachment: a volume's name, with + when it is attached, - when it is going, ? when its volume is gone.
func have(s seen, words string, unwanted time.Duration) map[string]*attached {
	out := map[string]*attached{}
	for _, w := range strings.Fields(words) {
		v := csi(strings.Trim(w, "+-?"))
		id := attachmentName(v.Spec.CSI.VolumeHandle, v.Spec.CSI.Driver, "n1")
		a := &attached{VolumeAttachment: &storagev1.VolumeAttachment{ObjectMeta: metav1.ObjectMeta{Name: id, UID: types.UID(v.Name)}}, volume: v, going: strings.Contains(w, "-")}
		a.Spec.Attacher, a.Status.Attached = v.Spec.CSI.Driver, strings.Contains(w, "+")
		if strings.Contains(w, "?") {
			a.volume = nil
		}
		if s.wants[id] == nil {
			a.since = s.now.Add(-unwanted)
		}
		out[id] = a
	}
	return out
}

func TestDecide(t *testing.T) {
	for name, c := range map[string]struct {
		node      *corev1.Node
		lastInUse []corev1.UniqueVolumeName
		wants     string
		have      string
		unwanted  time.Duration
		patient   bool
		want      string // attach, detach with why, report, fresh
		again     time.Duration
	}{
		"nothing":                         {node: node(ready, "", ""), want: "[] [] [] []"},
		"wanted":                          {node: node(ready, "", ""), wants: "a b", want: "[a b] [] [] []"},
		"being attached":                  {node: node(ready, "", ""), wants: "a", have: "a", want: "[] [] [] []"},
		"attached":                        {node: node(ready, "", ""), wants: "a", have: "a+", want: "[] [] [a] [a]"},
		"attached, and told":              {node: node(ready, "a", "a"), wants: "a", have: "a+", want: "[] [] [a] []"},
		"wanted again while it goes":      {node: node(ready, "", "a"), wants: "a", have: "a+-", want: "[] [] [] []"},
		"unwanted, unmounted":             {node: node(ready, "", "a"), have: "a+", want: "[] [a:] [] []"},
		"unwanted, one of two":            {node: node(ready, "b", "a b"), wants: "b", have: "a+ b+", want: "[] [a:] [b] []"},
		"unwanted, never attached":        {node: node(ready, "", ""), have: "a", want: "[] [a:] [] []"},
		"unwanted, mounted":               {node: node(ready, "a", "a"), have: "a+", unwanted: time.Hour, want: "[] [] [a] []"},
		"unwanted, mounted, not told yet": {node: node(ready, "a", ""), have: "a+", want: "[] [] [a] []"},
		"going":                           {node: node(ready, "", ""), have: "a+-", want: "[] [] [] []"},
		"silent for a minute":             {node: node(silent, "a", "a"), have: "a+", unwanted: time.Minute, want: "[] [] [a] []", again: 5 * time.Minute},
		"silent for six":                  {node: node(silent, "a", "a"), have: "a+", unwanted: 6 * time.Minute, want: "[] [a:timeout] [] []"},
		"silent for six, with patience":   {node: node(silent, "a", "a"), have: "a+", unwanted: 6 * time.Minute, patient: true, want: "[] [] [a] []"},
		"not ready":                       {node: node(corev1.ConditionFalse, "a", "a"), have: "a+", unwanted: 7 * time.Minute, want: "[] [a:timeout] [] []"},
		"silent, but wanted":              {node: node(silent, "a", "a"), wants: "a", have: "a+", unwanted: time.Hour, want: "[] [] [a] []"},
		"silent, unmounted":               {node: node(silent, "", "a"), have: "a+", want: "[] [a:] [] []"},
		"out of service":                  {node: node(silent, "a", "a", service), have: "a+", want: "[] [a:out-of-service] [] []"},
		"out of service, with patience":   {node: node(silent, "a", "a", service), have: "a+", patient: true, want: "[] [a:out-of-service] [] []"},
		"out of service, wanted":          {node: node(silent, "a", "a", service), wants: "a", have: "a+", want: "[] [] [a] []"},
		"gone, wanted":                    {wants: "a", want: "[] [] [] []"},
		"gone, nobody heard it":           {have: "a+", unwanted: time.Minute, want: "[] [] [a] []", again: 5 * time.Minute},
		"gone for six minutes":            {have: "a+", unwanted: 6 * time.Minute, want: "[] [a:timeout] [] []"},
		"gone, it had unmounted":          {lastInUse: []corev1.UniqueVolumeName{}, have: "a+", want: "[] [a:] [] []"},
		"gone, it had not":                {lastInUse: []corev1.UniqueVolumeName{deviceName(csi("a"))}, have: "a+", unwanted: time.Minute, want: "[] [] [a] []", again: 5 * time.Minute},
		"without its volume, in use":      {node: node(ready, "other", ""), have: "a+?", want: "[] [] [] []"},
		"without its volume":              {node: node(ready, "", ""), have: "a+?", want: "[] [a:] [] []"},
	} {
		t.Run(name, func(t *testing.T) {
			s := seen{node: c.node, lastInUse: c.lastInUse, wants: map[string]*want{}, now: time.Unix(1e6, 0), patient: c.patient}
			short := map[string]string{}
			for _, v := range []string{"a", "b"} {
				short[attachmentName("h-"+v, "disks.example.com", "n1")] = v
			}
			for _, v := range strings.Fields(c.wants) {
				s.wants[attachmentName("h-"+v, "disks.example.com", "n1")] = &want{volume: csi(v)}
			}
			s.have = have(s, c.have, c.unwanted)
			p := decide(s)
			var attach, detached, report, fresh []string
			for _, n := range p.attach {
				attach = append(attach, short[n])
			}
			for _, d := range p.detach {
				detached = append(detached, short[d.Name]+":"+d.forced)
			}
			for _, v := range p.report {
				report = append(report, string(v.Name[len(v.Name)-1:]))
			}
			for _, n := range p.fresh {
				fresh = append(fresh, short[n])
			}
			slices.Sort(attach)
			if got := fmt.Sprint(attach, detached, report, fresh); got != c.want || p.again != c.again {
				t.Errorf("got %s again %v, want %s again %v", got, p.again, c.want, c.again)
			}
		})
	}
}

func TestNames(t *testing.T) {
	// What every driver's attacher computes: the sum of handle, driver and node.
	const want = "csi-4af94228ee9d441e02225497584706bfc975bdb4d2db3571d8c5db2668c1e969" // of "voldrivernode"
	got := attachmentName("vol", "driver", "node")
	if got != want {
		t.Errorf("%s", got)
	}
	volume := "pv"
	for name, is := range map[string]bool{got: true, "csi-abc": false, "mine": false, "csi-" + strings.Repeat("g", 64): false} {
		a := &storagev1.VolumeAttachment{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: storagev1.VolumeAttachmentSpec{Source: storagev1.VolumeAttachmentSource{PersistentVolumeName: &volume}}}
		if ours(a) != is {
			t.Errorf("%s: %v", name, !is)
		}
		if a.Spec.Source.PersistentVolumeName = nil; ours(a) {
			t.Errorf("%s without a volume", name)
		}
	}
	if n := deviceName(csi("a")); n != "kubernetes.io/csi/disks.example.com^h-a" {
		t.Error(n)
	}
}

func TestShared(t *testing.T) {
	for _, c := range []struct {
		modes []corev1.PersistentVolumeAccessMode
		want  bool
	}{
		{nil, true}, {[]corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}, false}, {[]corev1.PersistentVolumeAccessMode{corev1.ReadWriteOncePod}, false},
		{[]corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce, corev1.ReadWriteMany}, true}, {[]corev1.PersistentVolumeAccessMode{corev1.ReadOnlyMany}, true},
	} {
		if got := shared(csi("a", c.modes...)); got != c.want {
			t.Errorf("%v: %v", c.modes, got)
		}
	}
}

func TestBlocked(t *testing.T) {
	p := func(ns, name string) *corev1.Pod {
		return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name}}
	}
	for _, c := range []struct {
		users []*corev1.Pod
		want  string
	}{
		{nil, `Multi-Attach error for volume "pv" Volume is already exclusively attached to one node and can't be attached to another`},
		{[]*corev1.Pod{p("a", "y"), p("a", "x")}, `Multi-Attach error for volume "pv" Volume is already used by pod(s) x, y`},
		{[]*corev1.Pod{p("a", "x"), p("b", "secret")}, `Multi-Attach error for volume "pv" Volume is already used by pod(s) x and 1 pod(s) in different namespaces`},
		{[]*corev1.Pod{p("b", "secret"), p("c", "secret")}, `Multi-Attach error for volume "pv" Volume is already used by 2 pod(s) in different namespaces`},
	} {
		if got := blocked("pv", p("a", "me"), c.users); got != c.want {
			t.Errorf("got %q, want %q", got, c.want)
		}
	}
}

func TestPodMoved(t *testing.T) {
	p := func(node string, phase corev1.PodPhase, claims bool) *corev1.Pod {
		p := &corev1.Pod{Spec: corev1.PodSpec{NodeName: node}, Status: corev1.PodStatus{Phase: phase}}
		if claims {
			p.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "c"}}}}
		}
		return p
	}
	other := p("n1", corev1.PodPending, true)
	other.UID = "other"
	for name, c := range map[string]struct {
		e    loop.Event
		want []loop.Key
	}{
		"another by then": {loop.Event{Old: p("n1", corev1.PodRunning, true), New: other}, []loop.Key{{Name: "n1"}}},
		"bound":           {loop.Event{Old: p("", corev1.PodPending, true), New: p("n1", corev1.PodPending, true)}, []loop.Key{{Name: "n1"}}},
		"found bound":     {loop.Event{New: p("n1", corev1.PodRunning, true)}, []loop.Key{{Name: "n1"}}},
		"runs":            {loop.Event{Old: p("n1", corev1.PodPending, true), New: p("n1", corev1.PodRunning, true)}, nil},
		"over":            {loop.Event{Old: p("n1", corev1.PodRunning, true), New: p("n1", corev1.PodSucceeded, true)}, []loop.Key{{Name: "n1"}}},
		"gone":            {loop.Event{Old: p("n1", corev1.PodRunning, true)}, []loop.Key{{Name: "n1"}}},
		"gone after over": {loop.Event{Old: p("n1", corev1.PodFailed, true)}, nil},
		"has no claims":   {loop.Event{New: p("n1", corev1.PodRunning, false)}, nil},
		"has no node":     {loop.Event{New: p("", corev1.PodPending, true)}, nil},
	} {
		if got := podMoved(c.e); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}
