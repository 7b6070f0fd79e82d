package configuration

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Known is a flag of upstream's kubelet that this daemon has no use for: it is accepted, unless it asks for something that would be missed.
type Known struct {
	Name string
	Bool bool
	Why  string
	rule func(value) error
	kind kind
}

// Check says what is wrong with a value given.
func (k Known) Check(text string) error {
	if k.rule == nil {
		return nil
	}
	v := value{text: text}
	switch k.kind {
	case list, numbers, taints, pairs, gates:
		v = value{list: split(text)}
	}
	if err := k.rule(v); err != nil {
		return fmt.Errorf("--%s: %w", k.Name, err)
	}
	return nil
}

// Others are the flags of upstream's kubelet that the daemon does not have itself, by name.
func Others(has func(name string) bool) []Known {
	var all []Known
	seen := map[string]bool{}
	add := func(k Known) {
		if !has(k.Name) && !seen[k.Name] {
			seen[k.Name] = true
			all = append(all, k)
		}
	}
	for _, path := range slices.Sorted(maps.Keys(table)) {
		if f := table[path]; f.flag != "" {
			add(Known{Name: f.flag, Bool: f.kind == boolean, Why: "accepted as upstream's " + path + ", without effect", rule: f.rule, kind: f.kind})
		}
	}
	for _, name := range slices.Sorted(maps.Keys(bygone)) {
		b := bygone[name]
		add(Known{Name: name, Bool: b.is, Why: "accepted, without effect", rule: b.rule})
	}
	return all
}

// bygone are flags that are in nobody's file: what older kubelets took, and what installers still pass.
var bygone = map[string]struct {
	is   bool
	rule func(value) error
}{
	"cloud-provider":                           {rule: only("", "external")}, // taints are registered by --register-with-taints
	"cloud-config":                             {rule: none("there are no built-in cloud providers")},
	"container-runtime":                        {rule: only("remote")},
	"pod-infra-container-image":                {}, // there is no pause container to keep from removal
	"network-plugin":                           {rule: only("", "cni")},
	"allow-privileged":                         {is: true, rule: only("true")},
	"lock-file":                                {rule: none("this kubelet takes no lock file")},
	"exit-on-lock-contention":                  {is: true, rule: only("false")},
	"experimental-mounter-path":                {rule: none("mounts are made by this kubelet itself")},
	"experimental-allocatable-ignore-eviction": {is: true, rule: only("false")},
	"keep-terminated-pod-volumes":              {is: true, rule: only("false")},
	"master-service-namespace":                 {rule: only("", "default")},
	"maximum-dead-containers":                  {}, // one dead container of each is kept, for its log
	"maximum-dead-containers-per-container":    {},
	"minimum-container-ttl-duration":           {},
	"register-schedulable":                     {is: true, rule: only("true")},
	"log-dir":                                  {},
	"logtostderr":                              {is: true},
	"alsologtostderr":                          {is: true},
	"stderrthreshold":                          {},
	"really-crash-for-testing":                 {is: true, rule: only("false")},
	"cadvisor-port":                            {rule: only("0")},
	"docker-endpoint":                          {rule: none("containers are run by containerd alone")},
	"dynamic-config-dir":                       {rule: none("the kubelet's configuration is a file, see --config")},
	"housekeeping-interval":                    {}, // numbers are read when somebody asks
	"global-housekeeping-interval":             {},
	"enable-load-reader":                       {is: true},
	"runtime-cgroups":                          {},
}

// Configz is the configuration in force as /configz shows it: what flag says of each flag that the daemon has, and upstream's default or what was
// given for the others.
func Configz(flag func(name string) (text string, ok bool)) map[string]any {
	root := map[string]any{"kind": Kind, "apiVersion": APIVersion}
	for path, f := range table {
		v := f.fallback
		if text, ok := flag(f.flag); ok && (text != "" || f.fallback == nil) {
			if f.from != nil {
				text = f.from(text)
			}
			v = f.kind.json(text)
		}
		if path == "staticPodURLHeader" && v != nil { // headers say who asks: they are secret
			v = map[string]any{"<masked>": []string{"<masked>"}}
		}
		if v == nil {
			continue
		}
		at := root
		parts := strings.Split(path, ".")
		for _, part := range parts[:len(parts)-1] {
			below, ok := at[part].(map[string]any)
			if !ok {
				below = map[string]any{}
				at[part] = below
			}
			at = below
		}
		at[parts[len(parts)-1]] = v
	}
	return map[string]any{"kubeletconfig": root}
}
