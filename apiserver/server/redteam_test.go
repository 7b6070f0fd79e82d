package server_test

import (
	"net/http"
	"strconv"
	"strings"
	"testing"

	"pilothouse.dev/pkg/testcluster"
)

// TestHoles: ways round the rules that were open once, or that one might think are.
func TestHoles(t *testing.T) {
	c := testcluster.Start(t)
	a := &api{c, &http.Client{Transport: &http.Transport{TLSClientConfig: c.TLS(), ForceAttemptHTTP2: true}}}
	t.Cleanup(a.http.CloseIdleConnections)
	for _, test := range []struct {
		name string
		run  func(*testing.T, *api)
	}{
		{"namespaces in namespaces", holesOfNamespaces}, {"reading verbs that do", holesOfVerbs}, {"strange methods", holesOfMethods},
		{"lists by name", holesOfLists}, {"names with slashes", holesOfNames}, {"what nobody counts", holesOfMetrics}, {"reviews of elsewhere", holesOfReviews},
		{"states told at creation", holesOfStates},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, a) })
	}
}

const everything = `{"apiGroups":["*"],"resources":["*"],"verbs":["*"]}`

// Who rules in one namespace has no right on what is in none, and on no other namespace, however he writes the path.
func holesOfNamespaces(t *testing.T, a *api) {
	ns, other := a.namespace(t), a.namespace(t)
	m := a.mallory(t, ns, "olga", everything)
	in := "/api/v1/namespaces/" + ns
	m.must(t, 200, "GET", in, "")
	m.no(t, 403, "", "GET", "/api/v1/namespaces/"+other, "")
	for _, path := range []string{"/namespaces/" + other, "/namespaces/" + other + "/status", "/namespaces", "/namespaces/" + ns, "/nodes", "/persistentvolumes"} {
		for _, method := range []string{"GET", "PUT", "PATCH", "DELETE", "POST"} {
			r := m.do(t, method, in+path, `{"metadata":{"name":"`+other+`","labels":{"pod-security.kubernetes.io/enforce":"privileged"}}}`, "Content-Type", map[string]string{"PATCH": patchType}[method])
			if r.code != 404 {
				t.Errorf("%s %s: got %d %.200s", method, path, r.code, r.body)
			}
		}
	}
	m.no(t, 404, "", "PUT", in+"/namespaces/"+other+"/finalize", `{"metadata":{"name":"`+other+`"}}`)
	m.no(t, 404, "", "GET", "/api/v1/watch/namespaces/"+ns+"/namespaces/"+other+"?timeoutSeconds=1", "")
	m.no(t, 404, "", "GET", "/api/v1/watch/namespaces/"+ns+"/namespaces?timeoutSeconds=1", "")
	m.no(t, 404, "", "GET", in+"/namespaces?fieldSelector=metadata.name%3D"+ns, "")
	m.no(t, 404, "", "GET", roles+"/namespaces/"+ns+"/clusterroles/cluster-admin", "")
	m.no(t, 404, "", "POST", roles+"/namespaces/"+ns+"/clusterrolebindings", `{"metadata":{"name":"x"},"roleRef":{"apiGroup":"rbac.authorization.k8s.io","kind":"ClusterRole","name":"cluster-admin"}}`)
	if s := a.must(t, 200, "GET", "/api/v1/namespaces/"+other, ""); at(s, "metadata.labels.pod-security.kubernetes.io/enforce") != nil || at(s, "status.phase") != "Active" {
		t.Errorf("the other namespace was changed: %v", s)
	}
}

// Who may only read does nothing: no token, no eviction, no binding, nothing run in a container.
func holesOfVerbs(t *testing.T, a *api) {
	ns := a.namespace(t)
	base := "/api/v1/namespaces/" + ns
	pod := `{"spec":{"containers":[{"name":"c","image":"i"}]},"metadata":{"name":"`
	a.must(t, 201, "POST", base+"/pods", pod+`p"}}`)
	a.must(t, 201, "POST", base+"/pods", strings.Replace(pod, `{"spec":{`, `{"spec":{"nodeName":"gone",`, 1)+`placed"}}`)
	m := a.mallory(t, ns, "rita", `{"apiGroups":["*"],"resources":["*"],"verbs":["get","list","watch"]}`)
	for _, c := range []struct{ path, body string }{
		{"/serviceaccounts/default/token", `{"spec":{}}`},
		{"/pods/p/binding", `{"target":{"kind":"Node","name":"n"}}`},
		{"/pods/p/eviction", `{"metadata":{"name":"p"}}`},
		{"/bindings", `{"metadata":{"name":"p"},"target":{"kind":"Node","name":"n"}}`},
	} {
		m.no(t, 405, "", "GET", base+c.path, c.body)
		m.no(t, 403, "", "POST", base+c.path, c.body)
		m.no(t, 405, "", "GET", strings.Replace(base, "/v1/", "/v1/watch/", 1)+c.path+"?timeoutSeconds=1", c.body)
	}
	m.no(t, 405, "", "GET", base+"/finalize", `{"metadata":{"name":"`+ns+`"},"spec":{}}`)
	for _, sub := range []string{"exec?command=sh&stdout=1", "attach?stdout=1", "portforward?ports=80"} {
		m.no(t, 403, "cannot create resource", "GET", base+"/pods/placed/"+sub, "", "Connection", "Upgrade", "Upgrade", "websocket")
		m.no(t, 403, "cannot create resource", "GET", base+"/pods/placed/"+sub, "")
	}
	// Nor through a kubelet, who takes the API server for whom it trusts.
	a.must(t, 201, "POST", "/api/v1/nodes", `{"metadata":{"name":"deaf"}}`)
	a.must(t, 201, "POST", roles+"/clusterrolebindings", `{"metadata":{"name":"rita"},"roleRef":{"apiGroup":"rbac.authorization.k8s.io","kind":"ClusterRole","name":"reads-nodes"},"subjects":[{"kind":"User","apiGroup":"rbac.authorization.k8s.io","name":"rita"}]}`)
	a.must(t, 201, "POST", roles+"/clusterroles", `{"metadata":{"name":"reads-nodes"},"rules":[{"apiGroups":[""],"resources":["nodes","nodes/proxy"],"verbs":["get"]}]}`)
	m.eventually(t, 200, "GET", "/api/v1/nodes/deaf")
	m.no(t, 503, "has no address", "GET", "/api/v1/nodes/deaf/proxy/pods", "")
	for _, path := range []string{"/exec/n/p/c?command=sh", "/%65xec/n/p/c?command=sh", "/x"} {
		m.no(t, 403, `cannot create resource "nodes/proxy"`, "GET", "/api/v1/nodes/deaf/proxy"+path, "", "Connection", "Upgrade", "Upgrade", "websocket")
	}
	m.must(t, 200, "GET", base+"/pods/p", "")
	for _, path := range []string{"/pods//log/x", "/serviceaccounts//token/x", "/pods//binding/x", "/pods/p/status/x", "/pods/p/log/x"} {
		m.no(t, 404, "", "GET", base+path, "")
	}
	if p := a.must(t, 200, "GET", base+"/pods/p", ""); at(p, "spec.nodeName") != nil || at(p, "metadata.deletionTimestamp") != nil {
		t.Errorf("the pod was changed: %v", p)
	}
}

// Methods that HTTP does not know are no other way to say a verb.
func holesOfMethods(t *testing.T, a *api) {
	base := "/api/v1/namespaces/" + a.namespace(t)
	a.must(t, 201, "POST", base+"/secrets", `{"metadata":{"name":"s"}}`)
	for _, method := range []string{"get", "delete", "LIST", "WATCH", "CREATE", "UPDATE", "DELETECOLLECTION", "*"} {
		for _, path := range []string{"/secrets", "/secrets/s", "/pods/p/log"} {
			a.no(t, 405, "", method, base+path, `{"metadata":{"name":"s"}}`)
		}
	}
	a.must(t, 200, "GET", base+"/secrets/s", "")
}

// Who may see one object by its name sees no other in a list or watch, whatever else the query says.
func holesOfLists(t *testing.T, a *api) {
	ns, other := a.namespace(t), a.namespace(t)
	base := "/api/v1/namespaces/" + ns
	for _, name := range []string{"mine", "theirs", "zz"} {
		a.must(t, 201, "POST", base+"/secrets", `{"metadata":{"name":"`+name+`","labels":{"l":"x"}},"stringData":{"k":"hidden-`+name+`"}}`)
	}
	a.must(t, 201, "POST", "/api/v1/namespaces/"+other+"/secrets", `{"metadata":{"name":"mine"},"stringData":{"k":"hidden-other"}}`)
	token, _ := at(a.must(t, 200, "GET", base+"/secrets?limit=1", ""), "metadata.continue").(string)
	if token == "" {
		t.Fatal("no second page")
	}
	m := a.mallory(t, ns, "lena", `{"apiGroups":[""],"resources":["secrets"],"resourceNames":["mine"],"verbs":["get","list","watch","deletecollection"]},{"apiGroups":[""],"resources":["pods"],"verbs":["get","list"]}`)
	forms := []string{"application/json", "application/vnd.kubernetes.protobuf", "application/cbor", "application/yaml", "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1", "application/json;as=Table;g=meta.k8s.io;v=v1"}
	for _, query := range []string{
		"?fieldSelector=metadata.name%3Dmine", "?fieldSelector=metadata.name%3D%3Dmine,metadata.namespace%3D" + ns,
		"?fieldSelector=metadata.name%3Dmine&fieldSelector=metadata.name%3Dtheirs", "?fieldSelector=metadata.name%3Dmine&limit=1",
		"?fieldSelector=metadata.name%3Dmine&limit=5&continue=" + token, "?fieldSelector=metadata.name%3Dmine&resourceVersion=0",
		"?fieldSelector=metadata.name%3Dmine&watch=1&timeoutSeconds=1", "?fieldSelector=metadata.name%3Dmine&watch=1&resourceVersion=1&timeoutSeconds=1",
		"?fieldSelector=metadata.name%3Dmine&labelSelector=l%3Dx&includeObject=Object", "?fieldSelector=metadata.name%3Dtheirs,metadata.name%3Dmine",
	} {
		for _, form := range forms {
			if r, err := m.try(t.Context(), "GET", base+"/secrets"+query, "", "Accept", form); err != nil || r.code >= 500 || strings.Contains(r.body, "theirs") || strings.Contains(r.body, "zz") {
				t.Errorf("%s as %s: %v %d %.300s", query, form, err, r.code, r.body)
			}
			if strings.Contains(query, "watch") {
				break // each takes a second
			}
		}
	}
	for _, query := range []string{
		"", "?fieldSelector=metadata.name!%3Dmine", "?fieldSelector=metadata.name%3Dtheirs", "?fieldSelector=metadata.name%3Dtheirs&fieldSelector=metadata.name%3Dmine",
		"?fieldselector=metadata.name%3Dmine", "?labelSelector=l%3Dx", "?continue=" + token, "?watch=1", "?fieldSelector=metadata.name%3Dmine;",
	} {
		m.no(t, 403, "", "GET", base+"/secrets"+query, "")
	}
	m.no(t, 403, "", "GET", "/api/v1/secrets?fieldSelector=metadata.name%3Dmine", "")
	m.no(t, 403, "", "GET", "/api/v1/namespaces/"+other+"/secrets?fieldSelector=metadata.name%3Dmine", "")
	m.no(t, 403, "", "DELETE", base+"/secrets?fieldSelector=metadata.name%3Dmine", "")
	m.no(t, 400, "", "GET", "/api/v1/watch/namespaces/"+ns+"/secrets/mine?fieldSelector=metadata.name%3Dtheirs&timeoutSeconds=1", "")
	m.no(t, 403, "", "GET", "/api/v1/watch/namespaces/"+ns+"/secrets?timeoutSeconds=1", "")
	if r, err := m.try(t.Context(), "GET", "/api/v1/watch/namespaces/"+ns+"/secrets/mine?timeoutSeconds=1", ""); err != nil || r.code != 200 || !strings.Contains(r.body, "mine") || strings.Contains(r.body, "theirs") {
		t.Errorf("an old watch of one object: %v %d %.300s", err, r.code, r.body)
	}
}

// Names in bodies lead nowhere outside of what the path names.
func holesOfNames(t *testing.T, a *api) {
	ns, other := a.namespace(t), a.namespace(t)
	base := "/api/v1/namespaces/" + ns
	a.must(t, 201, "POST", "/api/v1/namespaces/"+other+"/secrets", `{"metadata":{"name":"s"}}`)
	for _, name := range []string{"../" + other + "/s", "/" + other + "/s", other + "/s", `s\u0000`, "..", ".", "%2e%2e", `\ud800`} {
		for _, c := range []struct{ path, body string }{
			{"/serviceaccounts/default/token", `{"spec":{"boundObjectRef":{"apiVersion":"v1","kind":"Secret","name":"NAME"}}}`},
			{"/serviceaccounts/default/token", `{"spec":{"boundObjectRef":{"apiVersion":"v1","kind":"Pod","name":"NAME"}}}`},
			{"/serviceaccounts/default/token", `{"spec":{"boundObjectRef":{"apiVersion":"v1","kind":"Node","name":"NAME"}}}`},
			{"/bindings", `{"metadata":{"name":"NAME"},"target":{"kind":"Node","name":"n"}}`},
			{"/secrets", `{"metadata":{"name":"NAME"}}`}, {"/secrets", `{"metadata":{"name":"x","namespace":"NAME"}}`},
			{"/pods", `{"metadata":{"name":"x"},"spec":{"serviceAccountName":"NAME","containers":[{"name":"c","image":"i"}]}}`},
			{"/pods", `{"metadata":{"name":"x"},"spec":{"priorityClassName":"NAME","containers":[{"name":"c","image":"i"}]}}`},
			{"/pods", `{"metadata":{"name":"x"},"spec":{"runtimeClassName":"NAME","containers":[{"name":"c","image":"i"}]}}`},
		} {
			if r := a.do(t, "POST", base+c.path, strings.ReplaceAll(c.body, "NAME", name)); r.code < 400 || r.code >= 500 {
				t.Errorf("%q in %s: %d %.200s", name, c.body, r.code, r.body)
			}
		}
	}
}

// What strangers ask for makes no series of metrics: there would be no end to them.
func holesOfMetrics(t *testing.T, a *api) {
	stranger, some := a.nobody(t), a.as(t, "some")
	for _, path := range []string{"/apis/x/v1/invented-one?timeout=x", "/apis/x/v1/invented-two", "/api/v1/nodes/n/invented-three?timeout=x", "/api/v1/nodes/n/invented-four"} {
		stranger.do(t, "GET", path, "")
		some.do(t, "GET", path, "", "Impersonate-Uid", "1")
		a.do(t, "GET", path, "", "Impersonate-Uid", "1")
		a.do(t, "POST", path, "")
	}
	a.do(t, "GET", "/api/v1/nodes/%25/invented-five", "")
	if r := a.do(t, "GET", "/metrics", ""); r.code != 200 || strings.Contains(r.body, "invented") {
		at := strings.Index(r.body, "invented")
		t.Errorf("%d: %.300s", r.code, r.body[max(at-200, 0):])
	}
}

// A review in a namespace answers for that namespace alone.
func holesOfReviews(t *testing.T, a *api) {
	ns, other := a.namespace(t), a.namespace(t)
	m := a.mallory(t, ns, "rene", everything)
	at := accessReviews + "namespaces/" + ns + "/localsubjectaccessreviews"
	ask := func(spec string) string { return `{"spec":{"user":"admin","groups":["x"],` + spec + `}}` }
	m.must(t, 201, "POST", at, ask(`"resourceAttributes":{"namespace":"`+ns+`","verb":"get","resource":"pods"}`))
	for _, spec := range []string{
		`"resourceAttributes":{"namespace":"` + other + `","verb":"get","resource":"pods"}`, `"resourceAttributes":{"verb":"get","resource":"pods"}`,
		`"nonResourceAttributes":{"verb":"get","path":"/metrics"}`,
	} {
		if r := m.do(t, "POST", at, ask(spec)); r.code != 422 && r.code != 400 {
			t.Errorf("%s: %d %.200s", spec, r.code, r.body)
		}
	}
	m.no(t, 403, "", "POST", accessReviews+"subjectaccessreviews", ask(`"resourceAttributes":{"verb":"get","resource":"pods"}`))
	m.no(t, 403, "", "POST", tokenReviews, `{"spec":{"token":"x"}}`)
	for _, path := range []string{strings.Replace(accessReviews, "v1/", "v1/namespaces/"+ns+"/", 1) + "subjectaccessreviews", strings.Replace(tokenReviews, "v1/", "v1/namespaces/"+ns+"/", 1)} {
		m.no(t, 404, "", "POST", path, ask(`"resourceAttributes":{"verb":"get","resource":"pods"}`))
	}
}

// What has a state has none yet when it is made, whatever its maker says: others act by it.
func holesOfStates(t *testing.T, a *api) {
	ns := a.namespace(t)
	core, name := "/api/v1/namespaces/"+ns, `{"metadata":{"name":"x"},`
	for _, c := range []struct{ path, body, lie string }{
		{core + "/pods", `"spec":{"containers":[{"name":"c","image":"i"}]},"status":{"podIP":"10.9.9.9","podIPs":[{"ip":"10.9.9.9"}],"nominatedNodeName":"lie","resourceClaimStatuses":[{"name":"a","resourceClaimName":"lie"}],"extendedResourceClaimStatus":{"resourceClaimName":"lie"}}}`, "10.9.9.9"},
		{core + "/services", `"spec":{"ports":[{"port":80}]},"status":{"loadBalancer":{"ingress":[{"ip":"10.9.9.9"}]}}}`, "10.9.9.9"},
		{core + "/persistentvolumeclaims", `"spec":{"accessModes":["ReadWriteOnce"],"resources":{"requests":{"storage":"1Gi"}}},"status":{"phase":"Bound","capacity":{"storage":"99Gi"}}}`, "99Gi"},
		{core + "/resourcequotas", `"spec":{"hard":{"pods":"1"}},"status":{"hard":{"pods":"987654"},"used":{"pods":"0"}}}`, "987654"},
		{"/apis/networking.k8s.io/v1/namespaces/" + ns + "/ingresses", `"spec":{"defaultBackend":{"service":{"name":"s","port":{"number":80}}}},"status":{"loadBalancer":{"ingress":[{"ip":"10.9.9.9"}]}}}`, "10.9.9.9"},
		{"/apis/policy/v1/namespaces/" + ns + "/poddisruptionbudgets", `"spec":{"maxUnavailable":0,"selector":{}},"status":{"disruptionsAllowed":987654,"currentHealthy":1,"desiredHealthy":1,"expectedPods":1}}`, "987654"},
		{"/apis/apps/v1/namespaces/" + ns + "/deployments", `"spec":{"selector":{"matchLabels":{"a":"b"}},"template":{"metadata":{"labels":{"a":"b"}},"spec":{"containers":[{"name":"c","image":"i"}]}}},"status":{"readyReplicas":987654}}`, "987654"},
		{"/apis/batch/v1/namespaces/" + ns + "/jobs", `"spec":{"template":{"spec":{"restartPolicy":"Never","containers":[{"name":"c","image":"i"}]}}},"status":{"succeeded":987654}}`, "987654"},
		{"/apis/autoscaling/v2/namespaces/" + ns + "/horizontalpodautoscalers", `"spec":{"maxReplicas":2,"scaleTargetRef":{"kind":"Deployment","name":"x","apiVersion":"apps/v1"}},"status":{"currentReplicas":987654,"desiredReplicas":987654}}`, "987654"},
		{"/apis/resource.k8s.io/v1/namespaces/" + ns + "/resourceclaims", `"spec":{"devices":{}},"status":{"reservedFor":[{"resource":"pods","name":"lie","uid":"1"}],"allocation":{"devices":{}}}}`, "reservedFor"},
		{"/apis/storage.k8s.io/v1/volumeattachments", `"spec":{"attacher":"a","nodeName":"n","source":{"persistentVolumeName":"v"}},"status":{"attached":true}}`, `"attached":true`},
		{"/api/v1/persistentvolumes", `"spec":{"capacity":{"storage":"1Gi"},"accessModes":["ReadWriteOnce"],"hostPath":{"path":"/x"}},"status":{"phase":"Bound"}}`, "Bound"},
		{"/api/v1/namespaces", `"status":{"phase":"Terminating"}}`, "Terminating"},
		{"/apis/flowcontrol.apiserver.k8s.io/v1/prioritylevelconfigurations", `"spec":{"type":"Limited","limited":{"limitResponse":{"type":"Reject"}}},"status":{"conditions":[{"type":"untrue","status":"True"}]}}`, "untrue"},
	} {
		for _, query := range []string{"", "?dryRun=All"} {
			r := a.do(t, "POST", c.path+query, strings.Replace(name, `"x"`, `"x`+strconv.Itoa(len(query))+`"`, 1)+c.body)
			if r.code != 201 || strings.Contains(r.body, c.lie) {
				t.Errorf("%s%s: %s is believed: %d %.900s", c.path, query, c.lie, r.code, r.body)
			}
		}
	}
}
