package conformance

import (
	"fmt"
	"strings"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// attempt is a write of a Deployment with a body that has what it should not have.
type attempt struct {
	name    string
	request func(rest.Interface) *rest.Request
	body    string
	wrong   []string // what a strict server says of it
}

const deploymentBody = `{"apiVersion": "apps/v1", "kind": "Deployment",
  "metadata": {"name": "%s"%s, "labels": {"app": "nginx"}},
  "spec": {%s "selector": {"matchLabels": {"app": "nginx"}},
    "template": {"metadata": {"labels": {"app": "nginx"}}, "spec": {"containers": [{"name": "nginx", "image": "nginx:latest"%s}]}}}}`

// AM-032: unknown fields and fields said twice of a typed object are refused when the request is strict, warned of when it says so,
// and dropped in silence when it does not care; in each form of a write.
func strictTyped(r *row) {
	ns := r.namespace()
	base := r.deploymentPath(ns)
	const spec = `"unknown1": "val1", "unknownDupe": "valDupe", "unknownDupe": "valDupe2", "paused": true, "paused": false,`
	const container = `, "unknownNested": "val1", "imagePullPolicy": "Always", "imagePullPolicy": "Never"`
	known := fmt.Sprintf(deploymentBody, "known", "", "", "")
	_, err := r.kube.AppsV1().RESTClient().Post().AbsPath(base).SetHeader("Content-Type", "application/json").Body([]byte(known)).DoRaw(r.ctx)
	r.must(err, "creating a right one")
	all := []string{
		`unknown field "spec.unknown1"`, `unknown field "spec.unknownDupe"`, `duplicate field "spec.paused"`,
		`unknown field "spec.template.spec.containers[0].unknownNested"`, `duplicate field "spec.template.spec.containers[0].imagePullPolicy"`,
	}
	r.attempts([]attempt{
		{"create", func(c rest.Interface) *rest.Request {
			return c.Post().AbsPath(base).SetHeader("Content-Type", "application/json")
		},
			fmt.Sprintf(deploymentBody, "$NAME", "", spec, container), all},
		{"update", func(c rest.Interface) *rest.Request {
			return c.Put().AbsPath(base, "known").SetHeader("Content-Type", "application/json")
		},
			fmt.Sprintf(deploymentBody, "known", "", spec, container), all},
		{"merge patch", func(c rest.Interface) *rest.Request { return c.Patch(types.MergePatchType).AbsPath(base, "known") },
			`{"spec": {` + strings.TrimSuffix(spec, ",") + `}}`,
			[]string{`unknown field "spec.unknown1"`, `unknown field "spec.unknownDupe"`, `duplicate field "spec.paused"`}},
		{"strategic merge patch", func(c rest.Interface) *rest.Request {
			return c.Patch(types.StrategicMergePatchType).AbsPath(base, "known")
		},
			`{"spec": {` + strings.TrimSuffix(spec, ",") + `}}`,
			[]string{`unknown field "spec.unknown1"`, `unknown field "spec.unknownDupe"`, `duplicate field "spec.paused"`}},
		{"JSON patch", func(c rest.Interface) *rest.Request { return c.Patch(types.JSONPatchType).AbsPath(base, "known") },
			`[{"op": "add", "path": "/spec/unknown1", "value": "val1"}, {"op": "add", "path": "/spec/paused", "value": false}]`,
			[]string{`unknown field "spec.unknown1"`}},
	})
	// A server-side apply of fields that are in no schema is refused whatever the request says.
	for _, validation := range []string{metav1.FieldValidationStrict, metav1.FieldValidationWarn} {
		body := fmt.Sprintf(deploymentBody, "applied", "", `"unknown1": "val1",`, "")
		err := r.kube.AppsV1().RESTClient().Patch(types.ApplyYAMLPatchType).AbsPath(base, "applied").Param("fieldManager", "conformance").
			Param("fieldValidation", validation).Body([]byte(body)).Do(r.ctx).Error()
		if err == nil || !strings.Contains(err.Error(), ".spec.unknown1: field not declared in schema") {
			r.Errorf("applying with an unknown field, %s: got %v", validation, err)
		}
	}
}

// AM-034: so are unknown fields of the metadata, of the object and of its pod template.
func strictTypedMetadata(r *row) {
	base := r.deploymentPath(r.namespace())
	body := strings.Replace(fmt.Sprintf(deploymentBody, "$NAME", `, "unknownMeta": "foo"`, "", ""),
		`"template": {"metadata": {`, `"template": {"metadata": {"unknownNestedMeta": "bar", `, 1)
	r.attempts([]attempt{
		{"create", func(c rest.Interface) *rest.Request {
			return c.Post().AbsPath(base).SetHeader("Content-Type", "application/json")
		}, body,
			[]string{`unknown field "metadata.unknownMeta"`, `unknown field "spec.template.metadata.unknownNestedMeta"`}},
	})
}

func (r *row) deploymentPath(ns string) string {
	return "/apis/apps/v1/namespaces/" + ns + "/deployments"
}

// attempts makes each with each wish of validation.
func (r *row) attempts(list []attempt) {
	r.Helper()
	for _, a := range list {
		for _, validation := range []string{metav1.FieldValidationStrict, metav1.FieldValidationWarn, metav1.FieldValidationIgnore} {
			heard := &warnings{}
			config := rest.CopyConfig(r.config)
			config.WarningHandler = heard
			kube, err := kubernetes.NewForConfig(config)
			r.must(err, "making a client")
			body := strings.ReplaceAll(a.body, "$NAME", strings.ToLower("new-"+validation))
			result := a.request(kube.AppsV1().RESTClient()).Param("fieldValidation", validation).Body([]byte(body)).Do(r.ctx)
			err = result.Error()
			doing := a.name + " with " + validation
			said := heard.all()
			if validation == metav1.FieldValidationStrict {
				if err == nil {
					r.Errorf("%s succeeded", doing)
					continue
				}
				r.equal("reason of "+doing+" ("+err.Error()+")", apierrors.ReasonForError(err), metav1.StatusReasonBadRequest)
				said = err.Error()
				if !strings.Contains(said, "strict decoding error: ") {
					r.Errorf("%s: %s", doing, said)
				}
			} else if err != nil {
				r.Errorf("%s: %v", doing, err)
				continue
			}
			for _, wrong := range a.wrong {
				if got, want := strings.Contains(said, wrong), validation != metav1.FieldValidationIgnore; got != want {
					r.Errorf("%s: says %q, and of %q we want %t", doing, said, wrong, want)
				}
			}
		}
	}
}

// warnings are what a server warns of.
type warnings struct {
	mu   sync.Mutex
	text []string // guarded by mu
}

func (w *warnings) HandleWarningHeader(code int, _, text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if code == 299 {
		w.text = append(w.text, text)
	}
}

func (w *warnings) all() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return strings.Join(w.text, "; ")
}
