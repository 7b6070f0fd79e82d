package containers

import (
	"encoding/json"
	"testing"

	"pilothouse.dev/kubelet/cgroups"
)

func TestLinuxResources(t *testing.T) {
	all := cgroups.Limits(100, 200, 64<<20)
	all.PIDs, all.MemoryMin, all.MemoryHigh, all.MemoryLow, all.NoSwap = 10, 4096, 8192, -1, true
	all.HugePages = map[int64]int64{1 << 30: 0, 2 << 20: 4 << 20}
	for name, c := range map[string]struct {
		res  cgroups.Resources
		want string
	}{
		"nothing": {cgroups.Resources{}, `{"cpu":{}}`},
		"all": {all, `{"memory":{"limit":67108864,"swap":67108864},"cpu":{"shares":102,"quota":20000,"period":100000},"pids":{"limit":10},` +
			`"hugepageLimits":[{"pageSize":"2MB","limit":4194304},{"pageSize":"1GB","limit":0}],` +
			`"unified":{"memory.high":"8192","memory.min":"4096","memory.swap.max":"0"}}`},
	} {
		got, err := json.Marshal(linuxResources(c.res))
		if err != nil || string(got) != c.want {
			t.Errorf("%s: got %s, %v", name, got, err)
		}
	}
}
