package statefulset

import (
	"maps"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

func TestClaims(t *testing.T) {
	all := "web-0@a web-1@a web-2@a"
	decided(t, []decision{
		{name: "made before the pod", set: web(claiming("www")), want: "claim www-web-0; create web-0@a"},
		{name: "all that it has", set: web(claiming("www", "log")), claims: "log-web-0", want: "claim www-web-0; create web-0@a"},
		{name: "one that is there is used", set: web(claiming("www")), claims: "www-web-0", want: "create web-0@a"},
		{name: "owned by the set from the beginning", set: web(claiming("www"), goneDeleted), want: "claim www-web-0 web; create web-0@a"},
		{name: "for a pod that cannot start without", set: web(claiming("www"), size(1)), pods: "web-0@a:pending", want: "claim www-web-0"},
		{name: "not for one that runs", set: web(claiming("www"), size(1)), pods: "web-0@a"},
		{name: "not for one that is leaving", set: web(claiming("www"), size(1)), pods: "web-0@a:pending,leaving"},
		{name: "not for one too many", set: web(claiming("www"), size(0)), pods: "web-0@a:pending", want: "remove web-0"},
		{name: "one that is going is waited for", set: web(claiming("www")), claims: "www-web-0:leaving", want: "web-0: pvc www-web-0 is being deleted"},
		{name: "at once, it hinders no other", set: web(claiming("www"), parallel, size(2)), claims: "www-web-0:leaving www-web-1",
			want: "web-0: pvc www-web-0 is being deleted; create web-1@a"},
		{name: "one that goes with a former pod is waited for", set: web(claiming("www")), claims: "www-web-0:old-web-0"},
		{name: "and one that goes with a former set", set: web(claiming("www")), claims: "www-web-0:old-web"},

		{name: "retained by all, nobody owns it", set: web(claiming("www")), pods: all, claims: "www-web-0 www-web-1 www-web-2"},
		{name: "a set without a policy retains", set: web(claiming("www"), noPolicy), pods: all, claims: "www-web-0:web www-web-1 www-web-2", want: "own www-web-0"},
		{name: "no longer to go with the set", set: web(claiming("www")), pods: all, claims: "www-web-0:web www-web-1:web www-web-2:web",
			want: "own www-web-0; own www-web-1; own www-web-2"},
		{name: "to go with the set from now on", set: web(claiming("www"), goneDeleted), pods: all, claims: "www-web-0:web www-web-1 www-web-2",
			want: "own www-web-1 web; own www-web-2 web"},
		{name: "an owner that does not control becomes one that does", set: web(claiming("www"), goneDeleted, size(1)), pods: "web-0@a", claims: "www-web-0:loose",
			want: "own www-web-0 web"},
		{name: "scaled away, retained", set: web(claiming("www"), size(2)), pods: all, claims: "www-web-0 www-web-1 www-web-2", want: "remove web-2"},
		{name: "scaled away, it goes with the pod", set: web(claiming("www"), size(2), goneScaled), pods: all, claims: "www-web-0 www-web-1 www-web-2",
			want: "own www-web-2 web-2; remove web-2"},
		{name: "known before the first is ended", set: web(claiming("www"), size(1), goneScaled), pods: all, claims: "www-web-0 www-web-1 www-web-2",
			want: "own www-web-2 web-2; remove web-2; own www-web-1 web-1"},
		{name: "at once too", set: web(claiming("www"), size(1), goneScaled, parallel), pods: all, claims: "www-web-0 www-web-1 www-web-2",
			want: "own www-web-2 web-2; remove web-2; own www-web-1 web-1; remove web-1"},
		{name: "in place of the set", set: web(claiming("www"), size(2), goneScaled, goneDeleted), pods: all, claims: "www-web-0:web www-web-1:web www-web-2:web",
			want: "own www-web-2 web-2; remove web-2"},
		{name: "scaled away, it stays the set's", set: web(claiming("www"), size(2), goneDeleted), pods: all, claims: "www-web-0:web www-web-1:web www-web-2:web",
			want: "remove web-2"},
		{name: "one that is leaving takes it along", set: web(claiming("www"), size(2), goneScaled), pods: "web-0@a web-1@a web-2@a:leaving", claims: "www-web-0 www-web-1 www-web-2",
			want: "own www-web-2 web-2"},
		{name: "wished for again in time, it is saved", set: web(claiming("www"), goneScaled), pods: "web-0@a web-1@a web-2@a:leaving", claims: "www-web-0 www-web-1 www-web-2:web-2",
			want: "own www-web-2"},
		{name: "a pod that is updated keeps it", set: web(claiming("www"), goneScaled, goneDeleted), revs: "a b", pods: all, claims: "www-web-0:web www-web-1:web www-web-2:web",
			want: "remove web-2"},
		{name: "the owners of others stay", set: web(claiming("www"), goneDeleted, size(1)), pods: "web-0@a", claims: "www-web-0:friend", want: "own www-web-0 friend+web"},
		{name: "beside another controller there is none of ours", set: web(claiming("www"), goneDeleted, size(1)), pods: "web-0@a", claims: "www-web-0:other"},
		{name: "and ours goes", set: web(claiming("www"), goneDeleted, size(1)), pods: "web-0@a", claims: "www-web-0:other,web", want: "own www-web-0 other"},
		{name: "which is told when the pod is made", set: web(claiming("www"), goneDeleted, size(1)), claims: "www-web-0:other", want: "contested www-web-0; create web-0@a"},
		{name: "of a former owner's nothing is touched", set: web(claiming("www"), goneDeleted, size(1)), pods: "web-0@a", claims: "www-web-0:old-web"},
		{name: "of one that is going nothing is touched", set: web(claiming("www"), goneDeleted, size(1)), pods: "web-0@a", claims: "www-web-0:leaving"},
		{name: "a pod without its claims is replaced in its turn", set: web(claiming("www")), pods: "web-0@a:storeless web-1@a web-2@a", claims: "www-web-0 www-web-1 www-web-2",
			want: "remove web-0"},
		{name: "at once when it is not ready", set: web(claiming("www")), pods: "web-0@a web-1@a:storeless,unready web-2@a", claims: "www-web-0 www-web-1 www-web-2",
			want: "remove web-1"},
		{name: "but not below the partition", set: web(claiming("www"), parted(1)), pods: "web-0@a:storeless web-1@a web-2@a", claims: "www-web-0 www-web-1 www-web-2"},
	})
}

func TestNewPod(t *testing.T) {
	set := web(claiming("www", "log"))
	set.Spec.Template.Spec.Volumes = []corev1.Volume{{Name: "www"}, {Name: "tmp"}}
	p := newPod(set, revision{"web-abc", &set.Spec.Template}, 4)
	if p.Name != "web-4" || p.Namespace != "ns" || p.Spec.Hostname != "web-4" || p.Spec.Subdomain != "peers" {
		t.Errorf("name %s/%s, host %s.%s", p.Namespace, p.Name, p.Spec.Hostname, p.Spec.Subdomain)
	}
	labels := map[string]string{"app": "web", "statefulset.kubernetes.io/pod-name": "web-4", "apps.kubernetes.io/pod-index": "4", "controller-revision-hash": "web-abc"}
	if !maps.Equal(p.Labels, labels) {
		t.Errorf("labels %v", p.Labels)
	}
	var volumes []string
	for _, v := range p.Spec.Volumes {
		name := v.Name
		if v.PersistentVolumeClaim != nil {
			name += "=" + v.PersistentVolumeClaim.ClaimName
		}
		volumes = append(volumes, name)
	}
	if want := []string{"www=www-web-4", "log=log-web-4", "tmp"}; !slices.Equal(volumes, want) {
		t.Errorf("volumes %v, want %v", volumes, want)
	}
	if ref := p.OwnerReferences; len(ref) != 1 || ref[0].UID != set.UID || ref[0].Kind != "StatefulSet" || !*ref[0].Controller {
		t.Errorf("owners %v", ref)
	}
	if len(set.Spec.Template.Labels) != 1 {
		t.Errorf("the template's labels are now %v", set.Spec.Template.Labels)
	}
	c := newClaim(set, 0, 4)
	if c.Name != "www-web-4" || c.Namespace != "ns" || !maps.Equal(c.Labels, map[string]string{"of": "www", "app": "web"}) {
		t.Errorf("claim %s/%s with labels %v", c.Namespace, c.Name, c.Labels)
	}
}

func TestNames(t *testing.T) {
	for name, want := range map[string]struct {
		set     string
		ordinal int
		ok      bool
	}{
		"web-0":           {"web", 0, true},
		"a-b-12":          {"a-b", 12, true},
		"web-01":          {},
		"web-":            {},
		"web":             {},
		"-1":              {},
		"web--1":          {"web-", 1, true}, // no set is named so
		"web-x":           {},
		"web-9999999999":  {},
		"web-2147483647":  {"web", 2147483647, true},
		"web-7d9f8-x2x4z": {},
	} {
		if set, n, ok := split(name); set != want.set || n != want.ordinal || ok != want.ok {
			t.Errorf("%s is %q %d %v, want %v", name, set, n, ok, want)
		}
	}
	set := web(claiming("www", "data-x"))
	for name, want := range map[string]bool{
		"www-web-0": true, "data-x-web-11": true, "www-web": false, "www-webb-0": false, "data-web-0": false, "www-a-web-0": false,
	} {
		if got := claimOf(set, name); got != want {
			t.Errorf("claim %s is of the set: %v, want %v", name, got, want)
		}
	}
}
