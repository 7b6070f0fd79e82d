package e2e

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/rand"
	"k8s.io/apimachinery/pkg/util/yaml"
)

// TestKinds drives kubectl's commands over every kind: testdata/kinds has a small valid manifest of each, in which $NS stands for the
// namespace of the test. Most commands take all manifests at once, and say something of each. A kind that the server has and the
// folder has not is a failure, and the other way round.
func TestKinds(t *testing.T) {
	bin := os.Getenv("E2E_BIN")
	if bin == "" {
		t.Skip("no cluster was given")
	}
	u := &user{T: t, bin: bin, ns: "e2e-kinds-" + rand.String(5), failures: map[string][]string{}}
	u.kubectl("create", "namespace", u.ns)
	t.Cleanup(func() {
		if _, stderr, err := u.run("delete", "namespace", u.ns, "--wait=false"); err != nil {
			t.Errorf("deleting the namespace: %v: %s", err, stderr)
		}
	})
	u.kubectl("wait", "--for=create", "serviceaccount/default", "--timeout=30s")
	u.readManifests(filepath.Join("testdata", "kinds"))
	t.Cleanup(func() {
		if _, stderr, err := u.run("delete", "-f", u.dir, "--ignore-not-found", "--wait=false"); err != nil {
			t.Errorf("deleting what is left: %v: %s", err, stderr)
		}
	})

	u.each("create", `created`, "create", "-f", u.dir)
	u.read()
	u.explain()
	u.change()
	u.each("delete", `"NAME" deleted( from \S+ namespace)?`, "delete", "-f", u.dir, "--timeout=60s")
	if left := u.kubectl("get", "-f", u.dir, "--ignore-not-found", "-o", "name"); left != "" {
		t.Errorf("left after delete:\n%s", left)
	}
	u.apply()
	u.each("delete", `"NAME" deleted( from \S+ namespace)?`, "delete", "-f", u.dir, "--wait=false")
	u.kubectl("wait", "--for=delete", "-f", u.dir, "--timeout=60s")

	for _, k := range u.kinds {
		t.Run(k.resource, func(t *testing.T) {
			for _, failure := range u.failures[k.resource] {
				t.Error(failure)
			}
		})
	}
}

// user runs kubectl in a namespace, with the manifests.
type user struct {
	*testing.T
	bin, ns  string
	dir      string // of the manifests, with the namespace put in
	kinds    []kind // sorted by resource, as kubectl goes through the folder
	failures map[string][]string
}

// kind is one of them with its object.
type kind struct {
	resource string // plural.group
	name     string // of the object
	gvk      schema.GroupVersionKind
}

// object is how kubectl names the object in what it says.
func (k kind) object() string {
	kind := strings.ToLower(k.gvk.Kind)
	if k.gvk.Group != "" {
		kind += "." + k.gvk.Group
	}
	return kind + "/" + k.name
}

// readManifests puts the manifests of kinds that the server knows into a folder of the test's own.
func (u *user) readManifests(from string) {
	u.Helper()
	files, err := filepath.Glob(filepath.Join(from, "*.yaml"))
	if err != nil || len(files) == 0 {
		u.Fatalf("no manifests (%v)", err)
	}
	served := strings.Fields(u.kubectl("api-resources", "--verbs=create,get,delete", "-o", "name"))
	u.dir = u.TempDir()
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			u.Fatal(err)
		}
		text = bytes.ReplaceAll(text, []byte("$NS"), []byte(u.ns))
		var o unstructured.Unstructured
		if err := yaml.Unmarshal(text, &o.Object); err != nil {
			u.Fatalf("reading %s: %v", file, err)
		}
		k := kind{resource: strings.TrimSuffix(filepath.Base(file), ".yaml"), name: o.GetName(), gvk: o.GroupVersionKind()}
		at := slices.Index(served, k.resource)
		if at < 0 {
			u.Errorf("the server has no %s", k.resource)
			continue
		}
		served = slices.Delete(served, at, at+1)
		u.kinds = append(u.kinds, k)
		if err := os.WriteFile(filepath.Join(u.dir, filepath.Base(file)), text, 0o600); err != nil {
			u.Fatal(err)
		}
	}
	for _, resource := range served {
		if !strings.HasSuffix(resource, ".example.com") {
			u.Errorf("%s has no manifest of %s", from, resource)
		}
	}
}

func (u *user) run(args ...string) (stdout, stderr string, err error) {
	var out, errs bytes.Buffer
	cmd := exec.Command(filepath.Join(u.bin, "kubectl"), append([]string{"--namespace", u.ns}, args...)...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	err = cmd.Run()
	return out.String(), errs.String(), err
}

// kubectl runs a command that must succeed.
func (u *user) kubectl(args ...string) string {
	u.Helper()
	stdout, stderr, err := u.run(args...)
	if err != nil {
		u.Errorf("kubectl %s: %v\n%s", strings.Join(args, " "), err, stderr)
	}
	return stdout
}

func (u *user) failf(k kind, format string, args ...any) {
	u.failures[k.resource] = append(u.failures[k.resource], fmt.Sprintf(format, args...))
}

// each runs a command that must say of every object what the pattern matches after the object's name, or, with NAME in the pattern,
// after its kind.
func (u *user) each(doing, pattern string, args ...string) {
	u.Helper()
	u.have(doing, u.kubectl(args...), u.kinds, pattern)
}

// have looks in what a command printed for a line of each kind.
func (u *user) have(doing, stdout string, kinds []kind, pattern string) {
	u.Helper()
	for _, k := range kinds {
		want := regexp.QuoteMeta(k.object()) + " " + pattern
		if strings.Contains(pattern, "NAME") {
			of, _, _ := strings.Cut(k.object(), "/")
			want = regexp.QuoteMeta(of) + " " + strings.ReplaceAll(pattern, "NAME", regexp.QuoteMeta(k.name))
		}
		if !regexp.MustCompile(`(?m)^` + strings.TrimSuffix(want, " ") + `$`).MatchString(stdout) {
			u.failf(k, "%s: no line %s", doing, want)
		}
	}
}

// read prints the objects in each form, and describes them.
func (u *user) read() {
	get := func(form ...string) string { return u.kubectl(append([]string{"get", "-f", u.dir}, form...)...) }
	for _, form := range [][]string{nil, {"-o", "wide"}, {"--show-labels"}, {"-L", "app"}} {
		tables := strings.Split(strings.TrimSpace(get(form...)), "\n\n")
		if len(tables) != len(u.kinds) {
			u.Errorf("get %v: %d tables, want %d:\n%s", form, len(tables), len(u.kinds), strings.Join(tables, "\n\n"))
			continue
		}
		for i, k := range u.kinds {
			heading, line, _ := strings.Cut(tables[i], "\n")
			if !regexp.MustCompile(`^[A-Z]`).MatchString(heading) || !strings.Contains(line, k.name) && k.gvk.Kind != "Event" || strings.Contains(line, "\n") {
				u.failf(k, "get %v: no table with one line of %s:\n%s", form, k.name, tables[i])
			}
		}
	}
	for _, form := range []string{"yaml", "json"} {
		var list unstructured.UnstructuredList
		if err := yaml.Unmarshal([]byte(get("-o", form)), &list); err != nil {
			u.Errorf("get -o %s: %v", form, err)
		}
		for _, k := range u.kinds {
			if !slices.ContainsFunc(list.Items, func(o unstructured.Unstructured) bool {
				return o.GroupVersionKind() == k.gvk && o.GetName() == k.name && o.GetUID() != "" && o.GetManagedFields() == nil
			}) {
				u.failf(k, "get -o %s: no %s", form, k.object())
			}
		}
	}
	u.have("get -o name", get("-o", "name"), u.kinds, "")
	lines := map[string]string{
		"jsonpath":                            get("-o", `jsonpath={range .items[*]}{.kind} {.apiVersion} {.metadata.name}{"\n"}{end}`),
		"go-template":                         get("-o", `go-template={{range .items}}{{.kind}} {{.apiVersion}} {{.metadata.name}}{{"\n"}}{{end}}`),
		"custom-columns":                      get("-o", "custom-columns=KIND:.kind,OF:.apiVersion,NAME:.metadata.name"),
		"custom-columns without its headings": get("--no-headers", "-o", "custom-columns=KIND:.kind,OF:.apiVersion,NAME:.metadata.name"),
	}
	for form, text := range lines {
		for _, k := range u.kinds {
			want := fmt.Sprintf(`(?m)^%s +%s +%s$`, k.gvk.Kind, regexp.QuoteMeta(k.gvk.GroupVersion().String()), regexp.QuoteMeta(k.name))
			if !regexp.MustCompile(want).MatchString(text) {
				u.failf(k, "get -o %s: no line %s", form, want)
			}
		}
	}
	u.kubectl("wait", "-f", u.dir, "--for=jsonpath={.metadata.name}", "--timeout=10s")
	described, want := u.kubectl("describe", "-f", u.dir), map[string]int{}
	for _, k := range u.kinds {
		want[k.name]++
	}
	for name, n := range want {
		if got := len(regexp.MustCompile(`(?m)^Name:\s+`+regexp.QuoteMeta(name)+`$`).FindAllString(described, -1)); got < n {
			u.Errorf("describe tells of %d objects with the name %s, want %d", got, name, n)
		}
	}
}

// explain asks for the documentation of each kind, of a field that all have, and of all fields.
func (u *user) explain() {
	for _, k := range u.kinds {
		plural, _, _ := strings.Cut(k.resource, ".")
		version := "--api-version=" + k.gvk.GroupVersion().String()
		if out := u.kubectl("explain", plural, "--recursive", version); !regexp.MustCompile(`(?s)^(GROUP: +\S+\n)?KIND: +` + k.gvk.Kind + `\n.*\n    creationTimestamp\s`).MatchString(out) {
			u.failf(k, "explain --recursive says:\n%s", out)
		}
	}
	for _, field := range []string{"pods.spec.containers.livenessProbe.httpGet", "deployments.spec.strategy.rollingUpdate.maxSurge"} {
		if out := u.kubectl("explain", field); !regexp.MustCompile(`(?s)\nFIELD: \w+ <\w+>\n.*\nDESCRIPTION:\n +\w+`).MatchString(out) {
			u.Errorf("explain %s says:\n%s", field, out)
		}
	}
}

// change labels, annotates, patches in each form and replaces the objects, and looks what is there in the end.
func (u *user) change() {
	u.each("label", "labeled", "label", "-f", u.dir, "labelled=yes")
	u.each("annotate", "annotated", "annotate", "-f", u.dir, "annotated=yes")
	merge := `{"metadata":{"annotations":{"merge":"yes"}}}`
	u.each("patch --type=merge", "patched", "patch", "-f", u.dir, "--type=merge", "-p", merge)
	u.each("patch --type=strategic", "patched", "patch", "-f", u.dir, "--type=strategic", "-p", `{"metadata":{"annotations":{"strategic":"yes"}}}`)
	u.each("patch --type=json", "patched", "patch", "-f", u.dir, "--type=json", "-p", `[{"op":"add","path":"/metadata/annotations/json","value":"yes"}]`)
	if out := u.kubectl("patch", "configmap", "kinds", "--type=merge", "-p", merge); out != "configmap/kinds patched (no change)\n" {
		u.Errorf("a patch that changes nothing says: %s", out)
	}
	u.replace()
	all := u.kubectl("get", "-f", u.dir, "-o",
		`jsonpath={range .items[*]}{.kind} {.apiVersion} {.metadata.labels.labelled} {.metadata.annotations['annotated','merge','strategic','json']}{"\n"}{end}`)
	for _, k := range u.kinds {
		if want := k.gvk.Kind + " " + k.gvk.GroupVersion().String() + " yes again yes yes yes\n"; !strings.Contains(all, want) {
			u.failf(k, "after all changes: no line %q", want)
		}
	}
}

// replace puts the objects back as they were read, as who edits a file does. Where a controller writes between reading and replacing
// the server says so, and the object is read again.
func (u *user) replace() {
	file := filepath.Join(u.TempDir(), "live.yaml")
	var replaced, stderr string
	for range 5 {
		live := u.kubectl("get", "-f", u.dir, "-o", "yaml")
		if err := os.WriteFile(file, []byte(strings.ReplaceAll(live, `annotated: "yes"`, "annotated: again")), 0o600); err != nil {
			u.Fatal(err)
		}
		var stdout string
		var err error
		stdout, stderr, err = u.run("replace", "-f", file)
		replaced += stdout
		if err == nil || !strings.Contains(stderr, "the object has been modified") {
			break
		}
	}
	u.have("replace ("+stderr+")", replaced, u.kinds, "replaced")
}

// apply makes the objects by apply on the client's side, finds nothing to do the second time, neither by diff, and hands over to
// apply on the server's side.
func (u *user) apply() {
	u.each("apply", "created", "apply", "-f", u.dir)
	// The selector of a PodDisruptionBudget is of those that kubectl replaces in each patch: it always finds something to send.
	usual := slices.DeleteFunc(slices.Clone(u.kinds), func(k kind) bool { return k.gvk.Kind == "PodDisruptionBudget" })
	u.have("apply again", u.kubectl("apply", "-f", u.dir), usual, "unchanged")
	if out, stderr, err := u.run("diff", "-f", u.dir); err != nil || out != "" {
		u.Errorf("a difference to what was applied: %v\n%s%s", err, stderr, out)
	}
	u.each("apply --server-side", "serverside-applied", "apply", "--server-side", "-f", u.dir)
	all := u.kubectl("get", "-f", u.dir, "--show-managed-fields", "-o",
		`jsonpath={range .items[*]}{.kind} {.apiVersion}:{range .metadata.managedFields[*]} {.manager}={.operation}{end}{"\n"}{end}`)
	for _, k := range u.kinds {
		want := fmt.Sprintf(`(?m)^%s %s:.* kubectl=Apply( |$)`, k.gvk.Kind, regexp.QuoteMeta(k.gvk.GroupVersion().String()))
		if !regexp.MustCompile(want).MatchString(all) {
			u.failf(k, "managers after apply --server-side: no %s in\n%s", want, all)
		}
	}
}
