package network

import (
	"errors"
	"net/netip"
	"slices"
	"testing"

	"go.uber.org/zap/zaptest"
	corev1 "k8s.io/api/core/v1"
)

// doors is a HostPorts that writes down what it was asked, and what of the pod was there then.
type doors struct {
	t     *testing.T
	n     *Network
	shut  error
	calls []string
}

func (d *doors) Set(pod Pod, at Attachment) error {
	if !slices.Contains(links(d.t), at.HostLink) {
		d.t.Error("ports are opened before there is a link to the pod")
	}
	d.calls = append(d.calls, "set "+pod.Key+" "+at.IPs[0].Addr().String())
	return d.shut
}

func (d *doors) Remove(key string) error {
	if ip, held := d.n.pools[true].byKey[key]; !held {
		d.t.Errorf("ports are closed when the address %s may be another's", ip)
	}
	d.calls = append(d.calls, "remove "+key)
	return d.shut
}

func (d *doors) Keep(keys []string) error {
	d.calls = append(d.calls, "keep "+keys[0])
	return nil
}

func TestHostPortsOpenLastAndCloseFirst(t *testing.T) {
	inNamespace(t, func() {
		d := &doors{t: t}
		d.n = New(Config{HostPorts: d}, zaptest.NewLogger(t))
		d.n.Restore([]Held{{PodKey: "old", IP: netip.MustParseAddr("10.244.7.2")}})
		if err := d.n.SetPodCIDRs(t.Context(), []netip.Prefix{netip.MustParsePrefix("10.244.7.0/24")}); err != nil {
			t.Fatal(err)
		}
		p := newPod(t)
		pod := Pod{Key: "a", Namespace: "ns", Name: "a", NetNS: p.path, HostPorts: []HostPort{{Protocol: corev1.ProtocolTCP, Port: 80, ContainerPort: 80}}}
		before := links(t)
		d.shut = errors.New("another pod holds it")
		if _, err := d.n.Setup(t.Context(), pod); !errors.Is(err, d.shut) {
			t.Errorf("a port that cannot be had: %v", err)
		}
		if after := links(t); !slices.Equal(after, before) {
			t.Errorf("links %v remain, there were %v", after, before)
		}
		if _, held := d.n.pools[true].byKey["a"]; held {
			t.Error("the address is kept")
		}
		d.shut = nil
		if _, err := d.n.Setup(t.Context(), pod); err != nil {
			t.Fatal(err)
		}
		d.shut = errors.New("the kernel does not answer")
		if err := d.n.Teardown(t.Context(), pod.NetNS, pod.Key); !errors.Is(err, d.shut) {
			t.Errorf("a port that stays open: %v", err)
		}
		if _, held := d.n.pools[true].byKey["a"]; !held {
			t.Error("the address may be another's while its port is open")
		}
		d.shut = nil
		if err := d.n.Teardown(t.Context(), pod.NetNS, pod.Key); err != nil {
			t.Error(err)
		}
		if want := []string{"keep old", "set a 10.244.7.3", "set a 10.244.7.4", "remove a", "remove a"}; !slices.Equal(d.calls, want) {
			t.Errorf("asked %v, want %v", d.calls, want)
		}
	})
}
