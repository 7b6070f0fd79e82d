package resource

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	resourcev1 "k8s.io/api/resource/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/yaml"

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

func expect(t *testing.T, errs field.ErrorList, want []string) {
	t.Helper()
	slices.Sort(want)
	if got := brief(errs); !slices.Equal(got, want) && len(got)+len(want) > 0 {
		t.Errorf("got %q\nwant %q\n(%v)", got, want, errs.ToAggregate())
	}
}

// read makes a defaulted object named a of YAML.
func read(t *testing.T, kind *registry.Resource, text string) registry.Object {
	t.Helper()
	obj := kind.New()
	if err := yaml.UnmarshalStrict([]byte(text), obj); err != nil {
		t.Fatal(err)
	}
	obj.SetName("a")
	kind.Default(obj)
	return obj
}

func under(path string, want []string) []string {
	var out []string
	for _, w := range want {
		out = append(out, path+w)
	}
	return out
}

var long = strings.Repeat("x", 10<<10)

// A claim and the template of one are checked alike.
func TestValidateClaim(t *testing.T) {
	for _, c := range []struct {
		name, devices string
		want          []string
	}{
		{"nothing", `{}`, nil},
		{"good", `{requests: [{name: a, exactly: {deviceClassName: c, selectors: [{cel: {expression: "true"}}], tolerations: [{key: k, value: v}], capacity: {requests: {memory: 1Gi, example.com/cores: 2}}}},
			{name: b, firstAvailable: [{name: x, deviceClassName: c}, {name: y, deviceClassName: c, allocationMode: All}]}],
			constraints: [{requests: [a, b/x], matchAttribute: example.com/numa}], config: [{requests: [b], opaque: {driver: example.com, parameters: {a: b}}}]}`, nil},
		{"neither and both", `{requests: [{name: a}, {name: A, exactly: {deviceClassName: c}, firstAvailable: [{name: x, deviceClassName: c}]}]}`,
			[]string{".requests[0]: Required value", ".requests[1]: Invalid value", ".requests[1].name: Invalid value"}},
		{"amounts", `{requests: [{name: a, exactly: {deviceClassName: c, allocationMode: All, count: 2}}, {name: b, exactly: {deviceClassName: c, count: -1}}, {name: c, exactly: {deviceClassName: c, allocationMode: Some}}]}`,
			[]string{".requests[0].exactly.count: Invalid value", ".requests[1].exactly.count: Invalid value", ".requests[2].exactly.allocationMode: Unsupported value"}},
		{"selectors", `{requests: [{name: a, exactly: {selectors: [{}, {cel: {expression: ""}}, {cel: {expression: ` + long + `x}}], deviceClassName: C}}, {name: a, firstAvailable: [{name: x}, {name: x, deviceClassName: c}]}]}`, []string{
			".requests[0].exactly.selectors[0].cel: Required value", ".requests[0].exactly.selectors[1].cel.expression: Required value", ".requests[0].exactly.selectors[2].cel.expression: Too long",
			".requests[0].exactly.deviceClassName: Invalid value", ".requests[1]: Duplicate value", ".requests[1].firstAvailable[0].deviceClassName: Required value", ".requests[1].firstAvailable[1]: Duplicate value"}},
		{"tolerations", `{requests: [{name: a, exactly: {deviceClassName: c, tolerations: [{operator: Exists, value: v}, {operator: X, effect: Y}, {key: "?", value: "?"}]}}]}`, []string{
			".requests[0].exactly.tolerations[0].value: Invalid value", ".requests[0].exactly.tolerations[1].operator: Unsupported value", ".requests[0].exactly.tolerations[1].effect: Unsupported value",
			".requests[0].exactly.tolerations[2].key: Invalid value", ".requests[0].exactly.tolerations[2].value: Invalid value"}},
		{"capacity and derived", `{requests: [{name: a, exactly: {deviceClassName: c, capacity: {requests: {a-b: 1}}, derivedAttributes: [{name: a, expression: ""}, {name: d/a, expression: "1"}, {name: d/a, expression: "1"}, {expression: "1"}]}}]}`, []string{
			".requests[0].exactly.capacity.requests[a-b]: Invalid value", ".requests[0].exactly.derivedAttributes[0].name: Invalid value", ".requests[0].exactly.derivedAttributes[0].expression: Required value",
			".requests[0].exactly.derivedAttributes[2]: Duplicate value", ".requests[0].exactly.derivedAttributes[3].name: Required value"}},
		{"constraints", `{requests: [{name: a, exactly: {deviceClassName: c}}], constraints: [{}, {requests: [a, a, b, a/b/c], matchAttribute: numa}, {matchAttribute: /a, distinctAttribute: d/a}, {distinctAttribute: d/1}]}`, []string{
			".constraints[0]: Required value", ".constraints[1].requests[1]: Duplicate value", ".constraints[1].requests[2]: Invalid value", ".constraints[1].requests[3]: Invalid value",
			".constraints[1].matchAttribute: Invalid value", ".constraints[2]: Required value", ".constraints[3].distinctAttribute: Invalid value"}},
		{"configurations", `{config: [{}, {opaque: {driver: "", parameters: {}}}, {opaque: {driver: a_b, parameters: [1]}}, {opaque: {driver: a, parameters: {a: ` + long + `}}}, {opaque: {driver: ` + long[:64] + `, parameters: null}}]}`, []string{
			".config[0].opaque: Required value", ".config[1].opaque.driver: Required value", ".config[2].opaque.driver: Invalid value", ".config[2].opaque.parameters: Invalid value",
			".config[3].opaque.parameters: Too long", ".config[4].opaque.driver: Too long", ".config[4].opaque.parameters: Required value"}},
		{"too many", `{constraints: [` + strings.Repeat(`{},`, 33) + `]}`, []string{".constraints: Too many"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			expect(t, ResourceClaims.Validate(read(t, ResourceClaims, `spec: {devices: `+c.devices+`}`)), under("spec.devices", c.want))
			expect(t, ResourceClaimTemplates.Validate(read(t, ResourceClaimTemplates, `spec: {spec: {devices: `+c.devices+`}}`)), under("spec.spec.devices", c.want))
		})
	}
	expect(t, ResourceClaimTemplates.Validate(read(t, ResourceClaimTemplates, `spec: {metadata: {labels: {a: "?"}, annotations: {"?": b}}}`)),
		[]string{"spec.metadata.labels: Invalid value", "spec.metadata.annotations: Invalid value"})
	one, other := read(t, ResourceClaims, `spec: {devices: {requests: [{name: a}]}}`), read(t, ResourceClaims, `{}`)
	expect(t, ResourceClaims.ValidateUpdate(one, other), []string{"spec: Invalid value"})
}

func TestDefaults(t *testing.T) {
	c := read(t, ResourceClaims, `spec: {devices: {requests: [{name: a, exactly: {tolerations: [{}]}}, {name: b, firstAvailable: [{}, {allocationMode: All}]}]}}`).(*resourcev1.ResourceClaim)
	e, f := c.Spec.Devices.Requests[0].Exactly, c.Spec.Devices.Requests[1].FirstAvailable
	got := fmt.Sprintln(e.AllocationMode, e.Count, e.Tolerations[0].Operator, f[0].AllocationMode, f[0].Count, f[1].AllocationMode, f[1].Count)
	if got != "ExactCount 1 Equal ExactCount 1 All 0\n" {
		t.Errorf("got %s", got)
	}
	r := read(t, DeviceTaintRules, `{}`).(*resourcev1.DeviceTaintRule)
	if r.Spec.Taint.TimeAdded == nil {
		t.Error("a taint without a time")
	}
}

const allocation = `allocation: {devices: {results: [{request: a, driver: d, pool: p, device: x}]}}`

func TestClaimStatus(t *testing.T) {
	const spec = `spec: {devices: {requests: [{name: a, exactly: {deviceClassName: c}}]}}, status: `
	const user = `{resource: pods, name: n, uid: u}`
	for _, c := range []struct {
		name, old, is string
		want          []string
	}{
		{"allocate", `{}`, `{` + allocation + `, reservedFor: [` + user + `]}`, nil},
		{"reserve nothing", `{}`, `{reservedFor: [` + user + `]}`, []string{"status.reservedFor: Forbidden"}},
		{"reserve twice", `{}`, `{` + allocation + `, reservedFor: [` + user + `, ` + user + `, {}]}`, []string{
			"status.reservedFor[1]: Duplicate value", "status.reservedFor[2].resource: Required value", "status.reservedFor[2].name: Required value", "status.reservedFor[2].uid: Required value"}},
		{"allocate anew", `{` + allocation + `}`, `{allocation: {devices: {results: [{request: a, driver: d, pool: p, device: z}]}}}`, []string{"status.allocation: Invalid value"}},
		{"deallocate", `{` + allocation + `}`, `{}`, nil},
		{"bad results", `{}`, `{allocation: {nodeSelector: {}, devices: {results: [{request: b, driver: "", pool: A, device: "", shareID: x, bindingConditions: [r, r], skipNodeOperations: [NodePrepareResources, X]}],
			config: [{}, {source: X, opaque: {driver: d, parameters: {}}}]}}}`, []string{
			"status.allocation.nodeSelector.nodeSelectorTerms: Required value", "status.allocation.devices.results[0].request: Invalid value", "status.allocation.devices.results[0].driver: Required value",
			"status.allocation.devices.results[0].pool: Invalid value", "status.allocation.devices.results[0].device: Invalid value", "status.allocation.devices.results[0].shareID: Invalid value",
			"status.allocation.devices.results[0].bindingConditions[1]: Duplicate value", "status.allocation.devices.results[0].bindingFailureConditions: Invalid value",
			"status.allocation.devices.results[0].skipNodeOperations: Invalid value", "status.allocation.devices.results[0].skipNodeOperations[1]: Unsupported value",
			"status.allocation.devices.config[0].opaque: Required value", "status.allocation.devices.config[0].source: Required value", "status.allocation.devices.config[1].source: Unsupported value"}},
		{"report", `{` + allocation + `}`, `{` + allocation + `, devices: [{driver: d, pool: p, device: x, data: {a: b}, networkData: {ips: [10.0.0.1/24]}}]}`, nil},
		{"report of others", `{` + allocation + `}`, `{` + allocation + `, devices: [{driver: d, pool: p, device: z, data: [1], networkData: {ips: [x, 10.0.0.1/24, 10.0.0.1/24], interfaceName: ` + long[:257] + `, hardwareAddress: ` + long[:129] + `}, conditions: [{type: A, status: "True"}]}]}`, []string{
			"status.devices[0]: Invalid value", "status.devices[0].data: Invalid value", "status.devices[0].networkData.ips[0]: Invalid value", "status.devices[0].networkData.ips[2]: Duplicate value",
			"status.devices[0].networkData.interfaceName: Too long", "status.devices[0].networkData.hardwareAddress: Too long", "status.devices[0].conditions[0].reason: Required value",
			"status.devices[0].conditions[0].lastTransitionTime: Required value"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			is, old := read(t, ResourceClaims, `{`+spec+c.is+`}`), read(t, ResourceClaims, `{`+spec+c.old+`}`)
			ResourceClaims.BeforeStatus(is, old)
			expect(t, ResourceClaims.ValidateStatus(is, old), c.want)
		})
	}
	old := read(t, ResourceClaims, `{`+spec+`{`+allocation+`}}`).(*resourcev1.ResourceClaim)
	late := read(t, ResourceClaims, `{`+spec+`{`+allocation+`, reservedFor: [`+user+`]}}`).(*resourcev1.ResourceClaim)
	late.DeletionTimestamp = &metav1.Time{}
	expect(t, ResourceClaims.ValidateStatus(late, old), []string{"status.reservedFor: Forbidden"})

	gone := read(t, ResourceClaims, `{`+spec+`{devices: [{driver: d, pool: p, device: x}]}}`).(*resourcev1.ResourceClaim)
	ResourceClaims.BeforeStatus(gone, old)
	if len(gone.Status.Devices) != 0 {
		t.Error("what was reported of a device outlives its allocation")
	}
	for want, text := range map[string]string{"pending": `{}`, "allocated": `{` + allocation + `}`, "allocated,reserved": `{` + allocation + `, reservedFor: [` + user + `]}`} {
		if got := claimState(read(t, ResourceClaims, `{status: `+text+`}`).(*resourcev1.ResourceClaim)); got != want {
			t.Errorf("state %s, want %s", got, want)
		}
	}
}

func TestValidateSlice(t *testing.T) {
	const head = `driver: d, pool: {name: p, resourceSliceCount: 1}, `
	const near = head + `nodeName: n, `
	for _, c := range []struct {
		name, spec string
		want       []string
	}{
		{"good", near + `devices: [{name: a, attributes: {model: {string: x}, example.com/v: {version: 1.2.3-a+b}}, capacity: {memory: {value: 1Gi}}}]`, nil},
		{"nothing", ``, []string{"spec.driver: Required value", "spec.pool.name: Required value", "spec.pool.resourceSliceCount: Invalid value", "spec: Required value"}},
		{"everywhere", head + `nodeName: n, allNodes: true, nodeSelector: {nodeSelectorTerms: []}`, []string{"spec: Invalid value", "spec.nodeSelector.nodeSelectorTerms: Invalid value", "spec.nodeSelector.nodeSelectorTerms: Required value"}},
		{"nowhere", head + `nodeName: "", allNodes: false, perDeviceNodeSelection: false`, []string{"spec: Required value", "spec.nodeName: Invalid value", "spec.allNodes: Invalid value", "spec.perDeviceNodeSelection: Invalid value"}},
		{"counters and devices", near + `devices: [], sharedCounters: [{name: a, counters: {c: {value: 1}}}, {name: a, counters: {C: {value: 1}}}, {}]`, []string{
			"spec: Invalid value", "spec.sharedCounters[1]: Duplicate value", "spec.sharedCounters[1].counters[C]: Invalid value", "spec.sharedCounters[2].counters: Required value", "spec.sharedCounters[2].name: Required value"}},
		{"attributes", near + `devices: [{name: a, attributes: {a: {}, b: {int: 1, bool: true}, c: {version: "1"}, d: {string: ` + long[:65] + `}, "1": {int: 1}, /e: {int: 1}, a/: {int: 1}, f: {ints: [1, 2]}, g: {versions: [1.0.0, x]}}}]`, []string{
			"spec.devices[0].attributes[a]: Invalid value", "spec.devices[0].attributes[b]: Invalid value", "spec.devices[0].attributes[c].version: Invalid value", "spec.devices[0].attributes[d].string: Too long",
			"spec.devices[0].attributes[1]: Invalid value", "spec.devices[0].attributes[/e]: Invalid value", "spec.devices[0].attributes[a/]: Invalid value", "spec.devices[0].attributes[g].versions[1]: Invalid value"}},
		{"devices twice, tainted", near + `devices: [{name: a}, {name: a, taints: [{key: k, effect: NoSchedule}, {}, {key: k, effect: X}]}, {name: A, nodeName: n}]`, []string{
			"spec.devices[1]: Duplicate value", "spec.devices[1].taints[1].key: Invalid value", "spec.devices[1].taints[1].key: Invalid value", "spec.devices[1].taints[1].effect: Required value", "spec.devices[1].taints[2].effect: Unsupported value",
			"spec.devices[2]: Invalid value", "spec.devices[2].name: Invalid value"}},
		{"places", head + `perDeviceNodeSelection: true, devices: [{name: a}, {name: b, nodeName: n}, {name: c, nodeName: n, allNodes: true}, {name: d, nodeName: "", allNodes: false}]`, []string{
			"spec.devices[0]: Required value", "spec.devices[2]: Invalid value", "spec.devices[3]: Required value", "spec.devices[3].nodeName: Invalid value", "spec.devices[3].allNodes: Invalid value"}},
		{"bindings", near + `devices: [{name: a, bindingFailureConditions: [a]}, {name: b, bindingConditions: [a, b], bindingFailureConditions: [a]}]`, []string{
			"spec.devices[0].bindingConditions: Invalid value", "spec.devices[1].bindingFailureConditions[0]: Invalid value"}},
		{"consumption", near + `devices: [{name: a, consumesCounters: [{counterSet: s, counters: {c: {value: 1}}}, {counterSet: s, counters: {c: {value: 1}}, compatibilityGroups: [g, g]}]}, {name: b, consumesCounters: [{}]}]`, []string{
			"spec.devices[0].consumesCounters[1]: Duplicate value", "spec.devices[0].consumesCounters[1].compatibilityGroups[1]: Duplicate value",
			"spec.devices[1].consumesCounters[0].counterSet: Required value", "spec.devices[1].consumesCounters[0].counters: Required value"}},
		{"policies", near + `devices: [{name: a, capacity: {m: {value: 10, requestPolicy: {}}}}, {name: b, allowMultipleAllocations: true, capacity: {a: {value: 10, requestPolicy: {default: 1, validValues: [1, 4]}},
			b: {value: 10, requestPolicy: {validValues: [1]}}, c: {value: 10, requestPolicy: {default: 3, validValues: [4, 1, 11]}}, d: {value: 10, requestPolicy: {default: 4, validRange: {min: 2, max: 8, step: 2}}},
			e: {value: 10, requestPolicy: {default: 1, validRange: {min: 2, max: 11, step: 20}}}, f: {value: 10, requestPolicy: {default: 1, validRange: {}}}, g: {value: 1, requestPolicy: {validValues: [1], validRange: {}}},
			h: {value: 10, requestPolicy: {default: 3, validRange: {min: 2, step: 0}}}, i: {value: 10, requestPolicy: {validRange: {min: 1}}}}}]`, []string{
			"spec.devices[0].capacity[m].requestPolicy: Forbidden", "spec.devices[1].capacity[b].requestPolicy.default: Required value",
			"spec.devices[1].capacity[c].requestPolicy.validValues: Invalid value", "spec.devices[1].capacity[c].requestPolicy.validValues[1]: Invalid value", "spec.devices[1].capacity[c].requestPolicy.validValues[2]: Invalid value",
			"spec.devices[1].capacity[e].requestPolicy.validRange.min: Invalid value", "spec.devices[1].capacity[e].requestPolicy.validRange.max: Invalid value", "spec.devices[1].capacity[e].requestPolicy.validRange.step: Invalid value",
			"spec.devices[1].capacity[e].requestPolicy.validRange.step: Invalid value", "spec.devices[1].capacity[e].requestPolicy.validRange.step: Invalid value", "spec.devices[1].capacity[f].requestPolicy.validRange.min: Required value",
			"spec.devices[1].capacity[g].requestPolicy: Forbidden", "spec.devices[1].capacity[h].requestPolicy.validRange.step: Invalid value", "spec.devices[1].capacity[i].requestPolicy.default: Required value"}},
		{"many devices", near + `devices: [` + strings.Repeat(`{},`, 129) + `]`, []string{"spec.devices: Too many"}},
		{"many tainted devices", near + `devices: [` + strings.Repeat(`{},`, 64) + `{taints: [{}]}]`, []string{"spec.devices: Too many"}},
		{"partitions", near + `partitionTypeAttribute: a, skipNodeOperations: ["*", "*"]`, []string{"spec.partitionTypeAttribute: Invalid value", "spec.skipNodeOperations[1]: Duplicate value"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			expect(t, ResourceSlices.Validate(read(t, ResourceSlices, `spec: {`+c.spec+`}`)), c.want)
		})
	}
	one, other := read(t, ResourceSlices, `spec: {driver: a, nodeName: a, pool: {name: a}}`), read(t, ResourceSlices, `spec: {driver: b, nodeName: b, pool: {name: b}}`)
	expect(t, ResourceSlices.ValidateUpdate(one, other), []string{"spec.driver: Invalid value", "spec.nodeName: Invalid value", "spec.pool.name: Invalid value"})
	if got := fmt.Sprint(ResourceSlices.Cells(one)[:4], ResourceSlices.Fields(one)); got != "[a a a a] spec.driver=a,spec.nodeName=a,spec.pool.name=a" {
		t.Errorf("cells and fields: %s", got)
	}
}

func TestClassesAndRules(t *testing.T) {
	for text, want := range map[string][]string{
		`spec: {selectors: [{cel: {expression: "true"}}], config: [{opaque: {driver: d, parameters: {a: b}}}], extendedResourceName: example.com/gpu}`: nil,
		`spec: {selectors: [{}], config: [{}], extendedResourceName: cpu}`:                                                                             {"spec.selectors[0].cel: Required value", "spec.config[0].opaque: Required value", "spec.extendedResourceName: Invalid value"},
		`spec: {extendedResourceName: kubernetes.io/gpu}`:                                                                                              {"spec.extendedResourceName: Invalid value"},
	} {
		expect(t, DeviceClasses.Validate(read(t, DeviceClasses, text)), want)
	}
	for text, want := range map[string][]string{
		`spec: {deviceSelector: {driver: d, pool: p/q, device: x}, taint: {key: a/b, value: c, effect: NoExecute}}`: nil,
		`spec: {deviceSelector: {driver: "", pool: "", device: X}, taint: {value: "?"}}`: {"spec.deviceSelector.driver: Required value", "spec.deviceSelector.pool: Required value",
			"spec.deviceSelector.device: Invalid value", "spec.taint.key: Invalid value", "spec.taint.key: Invalid value", "spec.taint.value: Invalid value", "spec.taint.effect: Required value"},
	} {
		expect(t, DeviceTaintRules.Validate(read(t, DeviceTaintRules, text)), want)
	}
	r := read(t, DeviceTaintRules, `status: {conditions: [`+strings.Repeat(`{type: A, status: "True", reason: R, lastTransitionTime: "2020-01-01T00:00:00Z"},`, 9)+`]}`)
	got := brief(DeviceTaintRules.ValidateStatus(r, r))
	if !slices.Contains(got, "status.conditions: Too many") {
		t.Errorf("status: %q", got)
	}
}
