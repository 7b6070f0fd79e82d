package resolve

import (
	"net"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// Services makes the variables by which a pod finds services without DNS: those of its own namespace if it wants them
// (enableServiceLinks), and always those of the API server. Sorted by name, so that two starts see the same.
func Services(pod *corev1.Pod, all []*corev1.Service) []string {
	links := pod.Spec.EnableServiceLinks == nil || *pod.Spec.EnableServiceLinks
	seen := map[string]*corev1.Service{}
	for _, s := range all {
		if s.Spec.ClusterIP == "" || s.Spec.ClusterIP == corev1.ClusterIPNone || len(s.Spec.Ports) == 0 {
			continue
		}
		switch {
		case s.Namespace == pod.Namespace && links:
			seen[s.Name] = s
		case s.Namespace == corev1.NamespaceDefault && s.Name == "kubernetes" && seen[s.Name] == nil:
			seen[s.Name] = s
		}
	}
	names := make([]string, 0, len(seen))
	for n := range seen {
		names = append(names, n)
	}
	slices.Sort(names)
	var env []string
	for _, n := range names {
		env = append(env, variablesOf(seen[n])...)
	}
	return env
}

func variablesOf(s *corev1.Service) []string {
	upper := func(name string) string { return strings.ToUpper(strings.ReplaceAll(name, "-", "_")) }
	ip, prefix := s.Spec.ClusterIP, upper(s.Name)
	env := []string{
		prefix + "_SERVICE_HOST=" + ip,
		prefix + "_SERVICE_PORT=" + strconv.Itoa(int(s.Spec.Ports[0].Port)),
	}
	for _, p := range s.Spec.Ports {
		if p.Name != "" {
			env = append(env, prefix+"_SERVICE_PORT_"+upper(p.Name)+"="+strconv.Itoa(int(p.Port)))
		}
	}
	for i, p := range s.Spec.Ports {
		proto, port := string(p.Protocol), strconv.Itoa(int(p.Port))
		if proto == "" {
			proto = string(corev1.ProtocolTCP)
		}
		url := strings.ToLower(proto) + "://" + net.JoinHostPort(ip, port)
		if i == 0 {
			env = append(env, prefix+"_PORT="+url)
		}
		one := prefix + "_PORT_" + port + "_" + proto
		env = append(env, one+"="+url, one+"_PROTO="+strings.ToLower(proto), one+"_PORT="+port, one+"_ADDR="+ip)
	}
	return env
}
