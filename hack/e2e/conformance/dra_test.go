package conformance

import resourcev1 "k8s.io/api/resource/v1"

// devices is the engine for a kind of that group, whose spec is what edit changes unless it never may.
func (r *row) devices(plural, kind string, namespaced bool, manifest string) *crud {
	return &crud{row: r, operations: operations{
		gvr: resourcev1.SchemeGroupVersion.WithResource(plural), kind: kind, namespaced: namespaced, manifest: manifest,
		edit: `{metadata: {labels: {test.resource.example.com: test}}}`,
	}, jsonEdit: `[{"op": "add", "path": "/metadata/labels/test.resource.example.com", "value": "test"}]`}
}

// DRA-001
func deviceClasses(r *row) {
	c := r.devices("deviceclasses", "DeviceClass", false,
		`{spec: {selectors: [{cel: {expression: 'device.driver == "dra.example.com"'}}]}}`)
	c.edit = `{spec: {selectors: [{cel: {expression: 'device.driver == "other.example.com"'}}]}}`
	c.jsonEdit = `[{"op": "replace", "path": "/spec/selectors/0/cel/expression", "value": "device.driver == \"other.example.com\""}]`
	c.run()
}

// DRA-002: the rule selects a driver that nobody has.
func deviceTaintRules(r *row) {
	c := r.devices("devicetaintrules", "DeviceTaintRule", false, `
spec:
  deviceSelector: {driver: nobody.conformance.example.com}
  taint: {key: example.com/unhealthy, value: "yes", effect: NoSchedule, timeAdded: "2026-01-01T00:00:00Z"}`)
	c.status = `{status: {conditions: [{type: EvictionInProgress, status: "False", reason: Tested, message: done,
  lastTransitionTime: "2026-01-01T00:00:00Z"}]}}`
	c.jsonStatus = `[{"op": "add", "path": "/status/conditions", "value": [{"type": "EvictionInProgress", "status": "False", "reason": "Tested",
  "message": "done", "lastTransitionTime": "2026-01-01T00:00:00Z"}]}]`
	c.run()
}

// DRA-003: a claim says what it wants once; its status says what it got.
func resourceClaims(r *row) {
	c := r.devices("resourceclaims", "ResourceClaim", true,
		`{spec: {devices: {requests: [{name: gpu, exactly: {deviceClassName: nobody.conformance.example.com}}]}}}`)
	c.status = `
status:
  allocation:
    devices:
      results: [{request: gpu, driver: dra.example.com, pool: pool, device: device-0}]`
	c.jsonStatus = `[{"op": "add", "path": "/status/allocation", "value": {"devices": {"results": [
  {"request": "gpu", "driver": "dra.example.com", "pool": "pool", "device": "device-0"}]}}}]`
	c.run()
}

// DRA-004
func resourceClaimTemplates(r *row) {
	r.devices("resourceclaimtemplates", "ResourceClaimTemplate", true, `
spec:
  metadata: {labels: {of: template}}
  spec: {devices: {requests: [{name: gpu, exactly: {deviceClassName: nobody.conformance.example.com}}]}}`).run()
}

// DRA-005
func resourceSlices(r *row) {
	c := r.devices("resourceslices", "ResourceSlice", false, `
spec:
  driver: dra.example.com
  nodeName: nobody.conformance.example.com
  pool: {name: `+r.unique()+`, generation: 1, resourceSliceCount: 1}
  devices: [{name: device-0}]`)
	c.edit = `{spec: {devices: [{name: device-0, attributes: {model: {string: large}}}]}}`
	c.jsonEdit = `[{"op": "add", "path": "/spec/devices/0/attributes", "value": {"model": {"string": "large"}}}]`
	c.run()
}
