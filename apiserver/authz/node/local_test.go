package node

import (
	"testing"

	corev1 "k8s.io/api/core/v1"

	"pilothouse.dev/apiserver/authz"
	"pilothouse.dev/apiserver/request"
	"pilothouse.dev/pkg/localvolume"
)

// TestLocalVolumes: a kubelet follows and lets go the volumes that are folders of its node, and gets at no other by that.
func TestLocalVolumes(t *testing.T) {
	w := newWorld(t)
	local := func(name, on string) *corev1.PersistentVolume {
		v := &corev1.PersistentVolume{ObjectMeta: meta("", name)}
		v.Labels = map[string]string{localvolume.NodeLabel: on}
		return v
	}
	w.volumes.Put(local("mine", "n1"))
	w.volumes.Put(local("theirs", "n2"))
	w.volumes.Put(&corev1.PersistentVolume{ObjectMeta: meta("", "free")})
	const (
		narrow = "can only list/watch persistentvolumes with label selector pilothouse.dev/local-volume-node=n1"
		single = "can only get individual resources of this type"
	)
	for _, c := range []struct{ ask, fields, labels, want string }{
		{"list core/persistentvolumes", "", "pilothouse.dev/local-volume-node=n1", yes},
		{"watch core/persistentvolumes", "", "pilothouse.dev/local-volume-node==n1", yes},
		{"watch core/persistentvolumes", "", "pilothouse.dev/local-volume-node in (n1)", yes},
		{"watch core/persistentvolumes", "", "pilothouse.dev/local-volume-node=n1,tier=gold", yes},
		{"watch core/persistentvolumes - mine", "metadata.name=mine", "pilothouse.dev/local-volume-node=n1", yes},
		{"list core/persistentvolumes", "", "", narrow},
		{"watch core/persistentvolumes", "", "", narrow},
		{"list core/persistentvolumes", "", "pilothouse.dev/local-volume-node=n2", narrow},
		{"list core/persistentvolumes", "", "pilothouse.dev/local-volume-node", narrow},
		{"list core/persistentvolumes", "", "!pilothouse.dev/local-volume-node", narrow},
		{"list core/persistentvolumes", "", "pilothouse.dev/local-volume-node!=n2", narrow},
		{"list core/persistentvolumes", "", "pilothouse.dev/local-volume-node notin (n1)", narrow},
		{"list core/persistentvolumes", "", "pilothouse.dev/local-volume-node in (n1,n2)", narrow},
		{"list core/persistentvolumes", "", "pilothouse.dev/local-volume-node=", narrow},
		{"list core/persistentvolumes", "", "other=n1", narrow},
		{"list core/persistentvolumes", "", "pilothouse.dev/local-volume-node=n1,(", narrow}, // it cannot be read
		{"list core/persistentvolumes", "pilothouse.dev/local-volume-node=n1", "", narrow},
		{"list core/persistentvolumes", "spec.nodeName=n1", "", narrow},
		{"watch core/persistentvolumes - mine", "metadata.name=mine", "", narrow},
		{"list core/persistentvolumes/status", "", "pilothouse.dev/local-volume-node=n1", single},
		{"deletecollection core/persistentvolumes", "", "pilothouse.dev/local-volume-node=n1", single},
		{"patch core/persistentvolumes - mine", "", "", yes},
		{"patch core/persistentvolumes - theirs", "", "", none},
		{"patch core/persistentvolumes - theirs", "", "pilothouse.dev/local-volume-node=n1", none},
		{"patch core/persistentvolumes - free", "", "", none},
		{"patch core/persistentvolumes - nothing", "", "", none},
		{"patch core/persistentvolumes", "", "", "No Object name found"},
		{"patch core/persistentvolumes/status - mine", "", "", single},
		{"update core/persistentvolumes - mine", "", "", single},
		{"delete core/persistentvolumes - mine", "", "", single},
		{"create core/persistentvolumes - mine", "", "", single},
		{"get core/persistentvolumes - mine", "", "", none}, // of no pod of the node
	} {
		t.Run(c.ask+" "+c.labels, func(t *testing.T) {
			i := ask(c.ask)
			i.Selects, _, _ = request.ReadSelectors(c.fields, c.labels)
			d, why, err := w.Decide(t.Context(), kubelet("n1"), i)
			if d == authz.Allowed && why == "" {
				why = yes
			}
			if why != c.want || d == authz.Denied || err != nil {
				t.Errorf("got %v %q %v, want %q", d, why, err, c.want)
			}
		})
	}
	may := func(what, node string, want bool) {
		t.Helper()
		if d, _, err := w.Decide(t.Context(), kubelet(node), ask("patch core/persistentvolumes - mine")); (d == authz.Allowed) != want || err != nil {
			t.Errorf("%s: %v %v", what, d, err)
		}
	}
	w.volumes.Put(local("mine", "n2"))
	may("it has moved", "n1", false)
	may("it has moved here", "n2", true)
	w.volumes.Drop("", "mine")
	w.volumes.Drop("", "theirs")
	may("it is gone", "n2", false)
	if n := len(w.graph.own[ofLocalVolumes]); n != 0 {
		t.Errorf("%d volumes are remembered", n)
	}
}
