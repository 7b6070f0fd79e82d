//lint:file-ignore SA1019 Endpoints are deprecated, and served as long as Kubernetes serves them.

package core

import (
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"pilothouse.dev/apiserver/registry"
)

// brief is errors as «path: type», sorted.
func brief(errs field.ErrorList) []string {
	out := make([]string, 0, len(errs))
	for _, e := range errs {
		out = append(out, e.Field+": "+e.Type.String())
	}
	slices.Sort(out)
	return out
}

func TestValidate(t *testing.T) {
	service := func(change func(*corev1.Service)) *corev1.Service {
		s := &corev1.Service{Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}}}
		change(s)
		return s
	}
	big := map[string]string{"k": strings.Repeat("x", corev1.MaxSecretSize+1)}
	for _, c := range []struct {
		name string
		of   *registry.Resource
		obj  registry.Object
		want []string
	}{
		{"config map", ConfigMaps, &corev1.ConfigMap{Data: map[string]string{"a.b_c-D": "x"}}, nil},
		{"config map with a bad key, and one twice", ConfigMaps, &corev1.ConfigMap{Data: map[string]string{"a/b": "", "c": ""}, BinaryData: map[string][]byte{"c": nil}},
			[]string{"binaryData[c]: Invalid value", "data[a/b]: Invalid value", "data[c]: Invalid value"}},
		{"config map that is too big", ConfigMaps, &corev1.ConfigMap{Data: big}, []string{"[]: Too long"}},
		{"secret", Secrets, &corev1.Secret{StringData: map[string]string{"a": "b"}}, nil},
		{"secret that is too big", Secrets, &corev1.Secret{StringData: big}, []string{"data: Too long"}},
		{"certificate without its key", Secrets, &corev1.Secret{Type: corev1.SecretTypeTLS, Data: map[string][]byte{"tls.crt": nil}}, []string{"data[tls.key]: Required value"}},
		{"pull secret that is no JSON", Secrets, &corev1.Secret{Type: corev1.SecretTypeDockerConfigJson, Data: map[string][]byte{".dockerconfigjson": []byte("{")}},
			[]string{"data[.dockerconfigjson]: Invalid value"}},
		{"login without anything", Secrets, &corev1.Secret{Type: corev1.SecretTypeBasicAuth}, []string{"data[password]: Required value", "data[username]: Required value"}},
		{"token of nobody", Secrets, &corev1.Secret{Type: corev1.SecretTypeServiceAccountToken}, []string{"metadata.annotations[kubernetes.io/service-account.name]: Required value"}},

		{"service", Services, service(func(*corev1.Service) {}), nil},
		{"service without ports", Services, service(func(s *corev1.Service) { s.Spec.Ports = nil }), []string{"spec.ports: Required value"}},
		{"headless service without ports", Services, service(func(s *corev1.Service) {
			s.Spec.Ports, s.Spec.ClusterIP, s.Spec.ClusterIPs = nil, "None", []string{"None"}
		}), nil},
		{"service with bad ports", Services, service(func(s *corev1.Service) {
			s.Spec.Ports = []corev1.ServicePort{{Port: 0, Protocol: "X"}, {Name: "Y", Port: 1, NodePort: 30000, TargetPort: intstr.FromString("a--b")}}
		}), []string{"spec.ports[0].name: Required value", "spec.ports[0].port: Invalid value", "spec.ports[0].protocol: Unsupported value", "spec.ports[0].targetPort: Invalid value",
			"spec.ports[1].name: Invalid value", "spec.ports[1].nodePort: Forbidden", "spec.ports[1].targetPort: Invalid value"}},
		{"service with one port twice", Services, service(func(s *corev1.Service) {
			s.Spec.Type = "NodePort"
			s.Spec.Ports = []corev1.ServicePort{{Name: "a", Port: 80, NodePort: 30000}, {Name: "a", Port: 80, NodePort: 30000}}
		}), []string{"spec.ports[1].name: Duplicate value", "spec.ports[1].nodePort: Duplicate value", "spec.ports[1]: Duplicate value"}},
		{"service of no type", Services, service(func(s *corev1.Service) { s.Spec.Type = "Magic" }), []string{"spec.type: Unsupported value"}},
		{"service elsewhere without a name", Services, service(func(s *corev1.Service) { s.Spec.Type = "ExternalName" }), []string{"spec.externalName: Required value"}},
		{"service elsewhere with an address", Services, service(func(s *corev1.Service) {
			s.Spec.Type, s.Spec.ExternalName, s.Spec.ClusterIP, s.Spec.ClusterIPs = "ExternalName", "a.b.", "10.0.0.1", []string{"10.0.0.1"}
		}), []string{"spec.clusterIP: Forbidden", "spec.clusterIPs: Forbidden"}},
		{"service with addresses that differ", Services, service(func(s *corev1.Service) { s.Spec.ClusterIP, s.Spec.ClusterIPs = "10.0.0.1", []string{"10.0.0.2"} }),
			[]string{"spec.clusterIPs: Invalid value"}},
		{"service with a bad address", Services, service(func(s *corev1.Service) { s.Spec.ClusterIP, s.Spec.ClusterIPs = "x", []string{"x"} }),
			[]string{"spec.clusterIPs[0]: Invalid value"}},
		{"service with an address of the other family", Services, service(func(s *corev1.Service) {
			s.Spec.ClusterIP, s.Spec.ClusterIPs, s.Spec.IPFamilies = "10.0.0.1", []string{"10.0.0.1"}, []corev1.IPFamily{"IPv6"}
		}), []string{"spec.clusterIPs[0]: Invalid value"}},
		{"service that sticks for ever", Services, service(func(s *corev1.Service) {
			s.Spec.SessionAffinity = "ClientIP"
			s.Spec.SessionAffinityConfig = &corev1.SessionAffinityConfig{ClientIP: &corev1.ClientIPConfig{TimeoutSeconds: ptr.To[int32](90000)}}
		}), []string{"spec.sessionAffinityConfig.clientIP.timeoutSeconds: Invalid value"}},
		{"service with a policy for nobody", Services, service(func(s *corev1.Service) { s.Spec.ExternalTrafficPolicy = "Local" }), []string{"spec.externalTrafficPolicy: Invalid value"}},
		{"service with balancer's fields", Services, service(func(s *corev1.Service) {
			s.Spec.LoadBalancerSourceRanges, s.Spec.LoadBalancerClass, s.Spec.HealthCheckNodePort = []string{"10.0.0.0/8"}, ptr.To("a/b"), 5
		}), []string{"spec.healthCheckNodePort: Invalid value", "spec.loadBalancerClass: Forbidden", "spec.loadBalancerSourceRanges: Forbidden"}},
		{"service with odd annotations", Services, service(func(s *corev1.Service) {
			s.Annotations = map[string]string{"service.beta.kubernetes.io/load-balancer-source-ranges": "10.0.0.0/8, x", "service.kubernetes.io/topology-mode": "a", "service.kubernetes.io/topology-aware-hints": "b"}
		}), []string{"metadata.annotations[service.beta.kubernetes.io/load-balancer-source-ranges]: Forbidden", "metadata.annotations[service.beta.kubernetes.io/load-balancer-source-ranges]: Invalid value",
			"metadata.annotations[service.kubernetes.io/topology-mode]: Invalid value"}},
		{"balanced service without a port for health", Services, service(func(s *corev1.Service) { s.Spec.Type, s.Spec.ExternalTrafficPolicy = "LoadBalancer", "Local" }), []string{"spec.healthCheckNodePort: Required value"}},
		{"key for SSH without one", Secrets, &corev1.Secret{Type: corev1.SecretTypeSSHAuth, Data: map[string][]byte{"ssh-privatekey": nil}}, []string{"data[ssh-privatekey]: Required value"}},
		{"service at a loopback address", Services, service(func(s *corev1.Service) { s.Spec.ExternalIPs = []string{"127.0.0.1"} }), []string{"spec.externalIPs[0]: Invalid value"}},

		{"node with bad taints", Nodes, &corev1.Node{Spec: corev1.NodeSpec{Taints: []corev1.Taint{{Key: "a", Effect: "Go"}, {Key: "b", Effect: "NoSchedule"}, {Key: "b", Effect: "NoSchedule"}}}},
			[]string{"metadata.taints[0].effect: Unsupported value", "metadata.taints[2]: Duplicate value"}},
		{"node with bad ranges", Nodes, &corev1.Node{Spec: corev1.NodeSpec{PodCIDR: "x", PodCIDRs: []string{"x", "10.0.0.0/24", "10.0.1.0/24"}}},
			[]string{"spec.podCIDRs: Invalid value", "spec.podCIDRs[0]: Invalid value"}},
		{"namespace with an odd finalizer", Namespaces, &corev1.Namespace{Spec: corev1.NamespaceSpec{Finalizers: []corev1.FinalizerName{"me"}}}, []string{"spec.finalizers[0]: Invalid value"}},
		{"endpoints of nothing", Endpoints, &corev1.Endpoints{Subsets: []corev1.EndpointSubset{{}}}, []string{"subsets[0]: Required value"}},
		{"endpoints nowhere", Endpoints, &corev1.Endpoints{Subsets: []corev1.EndpointSubset{{Addresses: []corev1.EndpointAddress{{IP: "127.0.0.1"}, {IP: "x"}}, Ports: []corev1.EndpointPort{{Port: 0}}}}},
			[]string{"subsets[0].addresses[0].ip: Invalid value", "subsets[0].addresses[1].ip: Invalid value", "subsets[0].ports[0].port: Invalid value"}},
		{"event of another namespace", Events, &corev1.Event{ObjectMeta: metav1.ObjectMeta{Namespace: "a"}, InvolvedObject: corev1.ObjectReference{Namespace: "b"}},
			[]string{"involvedObject.namespace: Invalid value"}},
		{"event of a node", Events, &corev1.Event{ObjectMeta: metav1.ObjectMeta{Namespace: "default"}, InvolvedObject: corev1.ObjectReference{Kind: "Node"}}, nil},
		{"newer event that says little", Events, &corev1.Event{ObjectMeta: metav1.ObjectMeta{Namespace: "default"}, EventTime: metav1.NowMicro(), ReportingController: "a/b"},
			[]string{"action: Required value", "reason: Required value", "reportingInstance: Required value"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.of.Default(c.obj)
			if got := brief(c.of.Validate(c.obj)); !slices.Equal(got, c.want) && len(got)+len(c.want) > 0 {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestValidateUpdate(t *testing.T) {
	yes := ptr.To(true)
	for _, c := range []struct {
		name     string
		of       *registry.Resource
		obj, old registry.Object
		want     []string
	}{
		{"frozen config map", ConfigMaps, &corev1.ConfigMap{Data: map[string]string{"a": "c"}}, &corev1.ConfigMap{Immutable: yes, Data: map[string]string{"a": "b"}},
			[]string{"data: Forbidden", "immutable: Forbidden"}},
		{"freezing a config map", ConfigMaps, &corev1.ConfigMap{Immutable: yes, Data: map[string]string{"a": "c"}}, &corev1.ConfigMap{Data: map[string]string{"a": "b"}}, nil},
		{"frozen secret", Secrets, &corev1.Secret{Immutable: yes, Data: map[string][]byte{"a": nil}}, &corev1.Secret{Immutable: yes}, []string{"data: Forbidden"}},
		{"a secret's type", Secrets, &corev1.Secret{Type: "a"}, &corev1.Secret{Type: "b"}, []string{"type: Invalid value"}},
		{"a service's address", Services, &corev1.Service{Spec: corev1.ServiceSpec{ClusterIPs: []string{"a"}}}, &corev1.Service{Spec: corev1.ServiceSpec{ClusterIPs: []string{"b"}}},
			[]string{"spec.clusterIPs[0]: Invalid value"}},
		{"a service's address given up", Services, &corev1.Service{Spec: corev1.ServiceSpec{Type: "ExternalName"}}, &corev1.Service{Spec: corev1.ServiceSpec{ClusterIP: "b"}}, nil},
		{"a service without its address", Services, &corev1.Service{}, &corev1.Service{Spec: corev1.ServiceSpec{ClusterIPs: []string{"b"}}}, []string{"spec.clusterIPs[0]: Invalid value"}},
		{"a service's second address given up", Services, &corev1.Service{Spec: corev1.ServiceSpec{ClusterIPs: []string{"a"}, IPFamilies: []corev1.IPFamily{"IPv4"}}},
			&corev1.Service{Spec: corev1.ServiceSpec{ClusterIPs: []string{"a", "b"}, IPFamilies: []corev1.IPFamily{"IPv4", "IPv6"}}}, []string{"spec.ipFamilyPolicy: Invalid value", "spec.ipFamilyPolicy: Invalid value"}},
		{"a balanced service's class and port", Services, &corev1.Service{Spec: corev1.ServiceSpec{Type: "LoadBalancer", ExternalTrafficPolicy: "Local", HealthCheckNodePort: 1, LoadBalancerClass: ptr.To("a/b")}},
			&corev1.Service{Spec: corev1.ServiceSpec{Type: "LoadBalancer", ExternalTrafficPolicy: "Local", HealthCheckNodePort: 2}}, []string{"spec.healthCheckNodePort: Forbidden", "spec.loadBalancerClass: Invalid value"}},
		{"a node's range", Nodes, &corev1.Node{}, &corev1.Node{Spec: corev1.NodeSpec{PodCIDRs: []string{"a"}, ProviderID: "p"}},
			[]string{"spec.podCIDRs: Forbidden", "spec.providerID: Forbidden"}},
		{"a node's first range", Nodes, &corev1.Node{Spec: corev1.NodeSpec{PodCIDRs: []string{"a"}}}, &corev1.Node{}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := brief(c.of.ValidateUpdate(c.obj, c.old)); !slices.Equal(got, c.want) && len(got)+len(c.want) > 0 {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestServiceDefaults(t *testing.T) {
	s := &corev1.Service{Spec: corev1.ServiceSpec{Type: "LoadBalancer", SessionAffinity: "ClientIP", Ports: []corev1.ServicePort{{Port: 80}}}}
	Services.Default(s)
	if p := s.Spec.Ports[0]; p.Protocol != "TCP" || p.TargetPort.IntValue() != 80 {
		t.Errorf("port %+v", p)
	}
	if s.Spec.ExternalTrafficPolicy != "Cluster" || *s.Spec.InternalTrafficPolicy != "Cluster" || !*s.Spec.AllocateLoadBalancerNodePorts ||
		*s.Spec.SessionAffinityConfig.ClientIP.TimeoutSeconds != 10800 {
		t.Errorf("spec %+v", s.Spec)
	}
	plain := &corev1.Service{}
	Services.Default(plain)
	if plain.Spec.Type != "ClusterIP" || plain.Spec.SessionAffinity != "None" || plain.Spec.ExternalTrafficPolicy != "" || plain.Spec.AllocateLoadBalancerNodePorts != nil {
		t.Errorf("spec %+v", plain.Spec)
	}
}

func TestSecretDefaults(t *testing.T) {
	s := &corev1.Secret{Data: map[string][]byte{"a": []byte("old"), "b": []byte("b")}, StringData: map[string]string{"a": "new"}}
	Secrets.Default(s)
	if s.Type != corev1.SecretTypeOpaque || string(s.Data["a"]) != "new" || string(s.Data["b"]) != "b" || s.StringData != nil {
		t.Errorf("secret %+v", s)
	}
}

func TestNamespaceLife(t *testing.T) {
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "a"}, Status: corev1.NamespaceStatus{Phase: "Mine"}}
	Namespaces.Default(ns)
	Namespaces.BeforeCreate(ns)
	if ns.Labels["kubernetes.io/metadata.name"] != "a" || ns.Status.Phase != "Active" || len(ns.Spec.Finalizers) != 1 {
		t.Fatalf("namespace %+v", ns)
	}
	if !Namespaces.Hold(ns) {
		t.Error("it is not held by its finalizer")
	}
	changed := ns.DeepCopy()
	changed.Spec.Finalizers = nil
	Namespaces.BeforeUpdate(changed, ns)
	if len(changed.Spec.Finalizers) != 1 {
		t.Error("an update took its finalizer")
	}
	Namespaces.OnDelete(ns)
	if ns.Status.Phase != corev1.NamespaceTerminating {
		t.Errorf("phase %s", ns.Status.Phase)
	}
	if errs := Namespaces.ValidateStatus(ns, ns); len(errs) != 1 {
		t.Errorf("terminating without a deletion is let pass: %v", errs)
	}
}

func TestPodLife(t *testing.T) {
	p := &corev1.Pod{Spec: corev1.PodSpec{SchedulingGates: []corev1.PodSchedulingGate{{Name: "g"}}}, Status: corev1.PodStatus{Phase: "Running", PodIP: "1.2.3.4"}}
	Pods.BeforeCreate(p)
	if p.Status.Phase != corev1.PodPending || p.Status.PodIP != "" || p.Status.QOSClass != corev1.PodQOSBestEffort || len(p.Status.Conditions) != 1 {
		t.Errorf("status %+v", p.Status)
	}
	p.Status.PodIP = "10.0.0.1"
	p.Status.QOSClass = ""
	Pods.BeforeStatus(p, &corev1.Pod{Status: corev1.PodStatus{QOSClass: corev1.PodQOSBestEffort}})
	if len(p.Status.PodIPs) != 1 || p.Status.QOSClass != corev1.PodQOSBestEffort {
		t.Errorf("status %+v", p.Status)
	}
	if f := Pods.Fields(p); f["status.podIP"] != "10.0.0.1" || f["spec.hostNetwork"] != "false" {
		t.Errorf("fields %v", f)
	}
}

func TestPodGrace(t *testing.T) {
	now := metav1.Now()
	for _, c := range []struct {
		name   string
		change func(*corev1.Pod)
		asked  *int64
		want   int64
	}{
		{"as the spec says", nil, nil, 20},
		{"as asked", nil, ptr.To[int64](5), 5},
		{"at once", nil, ptr.To[int64](0), 0},
		{"by default", func(p *corev1.Pod) { p.Spec.TerminationGracePeriodSeconds = nil }, nil, 30},
		{"on no node", func(p *corev1.Pod) { p.Spec.NodeName = "" }, ptr.To[int64](5), 0},
		{"over", func(p *corev1.Pod) { p.Status.Phase = corev1.PodSucceeded }, nil, 0},
		{"shorter than before", func(p *corev1.Pod) { p.DeletionTimestamp, p.DeletionGracePeriodSeconds = &now, ptr.To[int64](10) }, ptr.To[int64](5), 5},
		{"never longer than before", func(p *corev1.Pod) { p.DeletionTimestamp, p.DeletionGracePeriodSeconds = &now, ptr.To[int64](10) }, ptr.To[int64](60), 10},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := &corev1.Pod{Spec: corev1.PodSpec{NodeName: "n", TerminationGracePeriodSeconds: ptr.To[int64](20)}}
			if c.change != nil {
				c.change(p)
			}
			if got := Pods.Grace(p, &metav1.DeleteOptions{GracePeriodSeconds: c.asked}); got != c.want {
				t.Errorf("%d s, want %d", got, c.want)
			}
		})
	}
}
