//lint:file-ignore SA1019 Endpoints are deprecated for users; this room serves those who still write them.

package endpointslicemirror

import (
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/leaderelection/resourcelock"

	"pilothouse.dev/controller-manager/loop"
)

// endpoints is made of subsets like "10.0.0.1 10.0.0.2 | 10.0.0.3 : 80/http": ready addresses, others, ports.
func endpoints(subsets ...string) *corev1.Endpoints {
	e := &corev1.Endpoints{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "ext", UID: "u", Labels: map[string]string{"app": "x"},
		Annotations: map[string]string{"note": "n", corev1.LastAppliedConfigAnnotation: "{}", corev1.EndpointsLastChangeTriggerTime: "then"}}}
	for _, text := range subsets {
		addresses, ports, _ := strings.Cut(text, ":p")
		ready, other, _ := strings.Cut(addresses, "|")
		var s corev1.EndpointSubset
		for _, a := range strings.Fields(ready) {
			s.Addresses = append(s.Addresses, corev1.EndpointAddress{IP: a})
		}
		for _, a := range strings.Fields(other) {
			s.NotReadyAddresses = append(s.NotReadyAddresses, corev1.EndpointAddress{IP: a})
		}
		for _, p := range strings.Fields(ports) {
			var n int32
			var name string
			fmt.Sscanf(p, "%d/%s", &n, &name)
			s.Ports = append(s.Ports, corev1.EndpointPort{Name: name, Port: n, Protocol: corev1.ProtocolTCP})
		}
		e.Subsets = append(e.Subsets, s)
	}
	return e
}

// text is slices as "IPv4 10.0.0.1 -10.0.0.3 :80/http": what is not ready with a dash.
func text(slices []*discoveryv1.EndpointSlice) string {
	var out []string
	for _, s := range slices {
		part := []string{string(s.AddressType)}
		if s.Name != "" {
			part = []string{s.Name, string(s.AddressType)}
		}
		for _, e := range s.Endpoints {
			dash := ""
			if !*e.Conditions.Ready {
				dash = "-"
			}
			part = append(part, dash+e.Addresses[0])
		}
		for _, p := range s.Ports {
			part = append(part, fmt.Sprintf(":%d/%s", *p.Port, *p.Name))
		}
		out = append(out, strings.Join(part, " "))
	}
	return strings.Join(out, "; ")
}

func TestDesired(t *testing.T) {
	for name, tc := range map[string]struct {
		e    *corev1.Endpoints
		want string
		skip skipped
	}{
		"ready and not":          {endpoints("10.0.0.1 | 10.0.0.2 :p 80/http"), "IPv4 10.0.0.1 -10.0.0.2 :80/http", skipped{}},
		"two families":           {endpoints("10.0.0.1 fd00::1 :p 80/http"), "IPv4 10.0.0.1 :80/http; IPv6 fd00::1 :80/http", skipped{}},
		"two sets of ports":      {endpoints("10.0.0.1 :p 80/a 81/b", "10.0.0.2 :p 82/c"), "IPv4 10.0.0.1 :80/a :81/b; IPv4 10.0.0.2 :82/c", skipped{}},
		"one set of ports twice": {endpoints("10.0.0.1 :p 80/a", "10.0.0.2 10.0.0.1 :p 80/a"), "IPv4 10.0.0.1 10.0.0.2 :80/a", skipped{}},
		"no ports":               {endpoints("10.0.0.1"), "IPv4 10.0.0.1", skipped{}},
		"nothing":                {endpoints(), "", skipped{}},
		"ports without address":  {endpoints(" :p 80/a"), "", skipped{}},
		"no address":             {endpoints("10.0.0.1 nonsense :p 80/a"), "IPv4 10.0.0.1 :80/a", skipped{invalid: 1}},
		"too many":               {endpoints("10.0.0.1 10.0.0.2 10.0.0.3 | 10.0.0.4 :p 80/a", "10.0.0.9 :p 81/a"), "IPv4 10.0.0.1 10.0.0.2 10.0.0.3 :80/a; IPv4 10.0.0.9 :81/a", skipped{many: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			got, skip := desired(tc.e, 3)
			if text(got) != tc.want || skip != tc.skip {
				t.Errorf("got  %s %+v\nwant %s %+v", text(got), skip, tc.want, tc.skip)
			}
		})
	}
}

func TestDesiredMetadata(t *testing.T) {
	got, _ := desired(endpoints("10.0.0.1"), 3)
	s := got[0]
	if l := s.Labels; l["app"] != "x" || l[discoveryv1.LabelServiceName] != "ext" || l[discoveryv1.LabelManagedBy] != managedBy || len(l) != 3 {
		t.Errorf("labels %v", l)
	}
	if a := s.Annotations; a["note"] != "n" || len(a) != 1 {
		t.Errorf("annotations %v", a)
	}
	if o := s.OwnerReferences; len(o) != 1 || o[0].Kind != "Endpoints" || o[0].UID != "u" || !*o[0].Controller {
		t.Errorf("owners %v", o)
	}
	if s.GenerateName != "ext-" {
		t.Errorf("named by %s", s.GenerateName)
	}
}

// there gives slices names a, b, c, as if they had been created.
func there(e *corev1.Endpoints) []*discoveryv1.EndpointSlice {
	list, _ := desired(e, 1000)
	for i, s := range list {
		s.Name = string(rune('a' + i))
	}
	return list
}

func TestCompare(t *testing.T) {
	noted := endpoints("10.0.0.1 :p 80/a")
	noted.Annotations["note"] = "another"
	foreign := there(endpoints("10.0.0.1 :p 80/a"))
	foreign[0].OwnerReferences[0].UID = "of a former one"
	for name, tc := range map[string]struct {
		have                   []*discoveryv1.EndpointSlice
		want                   *corev1.Endpoints
		create, update, remove string
	}{
		"new":                        {nil, endpoints("10.0.0.1 :p 80/a"), "IPv4 10.0.0.1 :80/a", "", ""},
		"the same":                   {there(endpoints("10.0.0.1 fd00::1 :p 80/a")), endpoints("10.0.0.1 fd00::1 :p 80/a"), "", "", ""},
		"one changes of two":         {there(endpoints("10.0.0.1 :p 80/a", "10.0.0.2 :p 81/a")), endpoints("10.0.0.1 :p 80/a", "10.0.0.3 :p 81/a"), "", "b IPv4 10.0.0.3 :81/a", ""},
		"other ports":                {there(endpoints("10.0.0.1 :p 80/a")), endpoints("10.0.0.1 :p 81/a"), "", "a IPv4 10.0.0.1 :81/a", ""},
		"other family":               {there(endpoints("10.0.0.1 :p 80/a")), endpoints("fd00::1 :p 80/a"), "IPv6 fd00::1 :80/a", "", "a IPv4 10.0.0.1 :80/a"},
		"all gone":                   {there(endpoints("10.0.0.1 fd00::1 :p 80/a")), endpoints(), "", "", "a IPv4 10.0.0.1 :80/a; b IPv6 fd00::1 :80/a"},
		"twice there":                {append(there(endpoints("10.0.0.1 :p 80/a")), named("b", "10.0.0.1 :p 80/a")), endpoints("10.0.0.1 :p 80/a"), "", "", "b IPv4 10.0.0.1 :80/a"},
		"annotations":                {there(endpoints("10.0.0.1 :p 80/a")), noted, "", "a IPv4 10.0.0.1 :80/a", ""},
		"of Endpoints made anew":     {foreign, endpoints("10.0.0.1 :p 80/a"), "", "a IPv4 10.0.0.1 :80/a", ""},
		"ready becomes not":          {there(endpoints("10.0.0.1 :p 80/a")), endpoints("| 10.0.0.1 :p 80/a"), "", "a IPv4 -10.0.0.1 :80/a", ""},
		"the order of ports is none": {there(endpoints("10.0.0.1 :p 80/a 81/b")), endpoints("10.0.0.1 :p 81/b 80/a"), "", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			want, _ := desired(tc.want, 1000)
			p := compare(tc.have, want)
			if text(p.create) != tc.create || text(p.update) != tc.update || text(p.remove) != tc.remove {
				t.Errorf("create %q update %q remove %q\nwant   %q        %q        %q", text(p.create), text(p.update), text(p.remove), tc.create, tc.update, tc.remove)
			}
		})
	}
}

func named(name string, subsets ...string) *discoveryv1.EndpointSlice {
	s := there(endpoints(subsets...))[0]
	s.Name = name
	return s
}

func TestChanges(t *testing.T) {
	have := there(endpoints("10.0.0.1 10.0.0.2 10.0.0.3 :p 80/a"))
	want, _ := desired(endpoints("10.0.0.1 10.0.0.5 | 10.0.0.2 :p 80/a", "10.0.0.7 :p 81/a"), 1000)
	if a, u, r := compare(have, want).changes(have); a != 2 || u != 1 || r != 1 {
		t.Errorf("added %d, updated %d, removed %d; want 2, 1, 1", a, u, r)
	}
}

func TestMirrored(t *testing.T) {
	skip, lock := endpoints(), endpoints()
	skip.Labels[discoveryv1.LabelSkipMirror] = "true"
	lock.Annotations[resourcelock.LeaderElectionRecordAnnotationKey] = "{}"
	for e, want := range map[*corev1.Endpoints]bool{endpoints(): true, skip: false, lock: false} {
		if mirrored(e) != want {
			t.Errorf("%v: mirrored %v", e, !want)
		}
	}
	if len(worth(loop.Event{Old: endpoints(), New: skip})) != 1 || len(worth(loop.Event{Old: lock, New: lock})) != 0 {
		t.Error("wakes for what was never mirrored, or not for what was")
	}
}
