package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/dynamic"

	"pilothouse.dev/hack/manifests"
	"pilothouse.dev/pkg/client"
)

// The names that every cluster's name server has.
const (
	dnsDeployment = "coredns"
	dnsService    = "kube-dns"
)

// closedCorefile is for a cluster without a way out: nobody could be asked for other names, so there are none. That is said at once, as a
// pod's resolver, which tries its search path first, would otherwise wait for each.
const closedCorefile = `.:53 {
    errors
    health {
        lameduck 5s
    }
    ready
    prometheus :9153
    template ANY ANY {
        rcode NXDOMAIN
    }
    reload
}
cluster.local:53 in-addr.arpa:53 ip6.arpa:53 {
    errors
    ready
    kubernetes cluster.local in-addr.arpa ip6.arpa {
        pods insecure
        ttl 5
    }
    prometheus :9153
    loadbalance
}
`

// resolvConf is the file of this machine's name servers that pods can be told: the second where the first only leads to this machine itself, as it
// does under systemd-resolved, which writes whom it asks into the second.
func resolvConf(first, second string) string {
	data, err := os.ReadFile(first)
	if err != nil {
		return first
	}
	if _, err := os.Stat(second); err != nil {
		return first
	}
	for line := range strings.Lines(string(data)) {
		words := strings.Fields(line)
		if len(words) < 2 || words[0] != "nameserver" {
			continue
		}
		if ip, err := netip.ParseAddr(words[1]); err != nil || !ip.IsLoopback() {
			return first
		}
	}
	return second
}

// dnsObjects are the objects of the manifest as this cluster has them, in their order.
func dnsObjects(address netip.Addr, uplink bool) ([]*unstructured.Unstructured, error) {
	var list []*unstructured.Unstructured
	for d := yaml.NewYAMLOrJSONDecoder(strings.NewReader(manifests.DNS), 4096); ; {
		o := &unstructured.Unstructured{}
		err := d.Decode(&o.Object)
		if errors.Is(err, io.EOF) {
			return list, nil
		}
		if err != nil {
			return nil, fmt.Errorf("reading the name server's manifest: %w", err)
		}
		switch {
		case o.GetKind() == "Service":
			err = unstructured.SetNestedField(o.Object, address.String(), "spec", "clusterIP")
		case o.GetKind() == "ConfigMap" && !uplink:
			err = unstructured.SetNestedField(o.Object, closedCorefile, "data", "Corefile")
		}
		if err != nil {
			return nil, fmt.Errorf("adapting the name server's %s: %w", o.GetKind(), err)
		}
		list = append(list, o)
	}
}

// dnsImage is the image that the name server's pods have.
func dnsImage(objects []*unstructured.Unstructured) (string, error) {
	for _, o := range objects {
		containers, _, err := unstructured.NestedSlice(o.Object, "spec", "template", "spec", "containers")
		if err != nil || len(containers) == 0 {
			continue
		}
		if image, _, err := unstructured.NestedString(containers[0].(map[string]any), "image"); err == nil {
			return image, nil
		}
	}
	return "", errors.New("the name server's manifest has no image")
}

// apply makes the objects what they should be, by server-side apply: what is missing comes back, and an object of which somebody else has
// changed what is said here stays theirs; it is told of.
func (c *cluster) apply(ctx context.Context, api dynamic.Interface, objects []*unstructured.Unstructured) error {
	for _, o := range objects {
		plural, _ := meta.UnsafeGuessKindToResource(o.GroupVersionKind())
		var to dynamic.ResourceInterface = api.Resource(plural)
		if o.GetNamespace() != "" {
			to = api.Resource(plural).Namespace(o.GetNamespace())
		}
		_, err := to.Apply(ctx, o.GetName(), o, metav1.ApplyOptions{FieldManager: "cluster"})
		if apierrors.IsConflict(err) {
			c.say("  %s %s stays as it is: somebody else has changed it", o.GetKind(), o.GetName())
			continue
		}
		if err != nil {
			return fmt.Errorf("applying %s %s: %w", o.GetKind(), o.GetName(), err)
		}
	}
	return nil
}

// raiseDNS gives the cluster its name server, unless it shall have none, and returns when every node is answered; it says what came of it. It
// comes after the nodes, so that the replicas find more than one to choose from.
func (c *cluster) raiseDNS(ctx context.Context, began time.Time) (told string, err error) {
	switch {
	case c.state.NoDNS:
		return "no DNS: it was started with -dns=false", nil
	case len(c.running()) == 0:
		return "no DNS: there is no node for it; after adding one, say up again", nil
	}
	address := c.addr().dns()
	objects, err := dnsObjects(address, c.state.Uplink)
	if err != nil {
		return "", err
	}
	image, err := dnsImage(objects)
	if err != nil {
		return "", err
	}
	switch there, err := c.hasImage(ctx, image); {
	case err != nil:
		return "", err
	case !there:
		return fmt.Sprintf("no DNS: there is no image %s in the cluster's registry (make images builds it)", image), nil
	}
	cfg, err := client.Load(c.adminKubeconfig(), "cluster")
	if err != nil {
		return "", err
	}
	clients, err := client.New(cfg)
	if err != nil {
		return "", err
	}
	if err := c.apply(ctx, clients.Dynamic, objects); err != nil {
		return "", fmt.Errorf("deploying DNS: %w", err)
	}
	if err := c.awaitDNS(ctx, clients.Kube, address); err != nil {
		return "", err
	}
	return fmt.Sprintf("DNS answers at %s after %.1f s", address, time.Since(began).Seconds()), nil
}

// hasImage says whether the cluster's registry has an image, named as in a manifest without a host.
func (c *cluster) hasImage(ctx context.Context, image string) (bool, error) {
	name, tag, _ := strings.Cut(image, ":")
	req, err := http.NewRequestWithContext(ctx, http.MethodHead, "http://"+c.registryAddress()+"/v2/"+name+"/manifests/"+tag, nil)
	if err != nil {
		return false, fmt.Errorf("asking for the image %s: %w", image, err)
	}
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	if err != nil {
		return false, fmt.Errorf("asking for the image %s: %w", image, err)
	}
	return resp.StatusCode == http.StatusOK, resp.Body.Close()
}
