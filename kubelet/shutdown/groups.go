package shutdown

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"pilothouse.dev/pkg/pod"
)

// Group is how long pods of a priority, up to that of the next group, have to end.
type Group struct {
	Priority int32
	Grace    time.Duration
}

// Groups reads what --shutdown-grace-period and --shutdown-grace-period-critical-pods say, or the list by priority of a configuration file (JSON, as
// shutdownGracePeriodByPodPriority of KubeletConfiguration), which excludes them. None: a shutdown is not watched for.
func Groups(all, critical time.Duration, byPriority string) ([]Group, error) {
	if byPriority != "" {
		if all != 0 || critical != 0 {
			return nil, errors.New("shutdownGracePeriodByPodPriority must not be set together with shutdownGracePeriod or shutdownGracePeriodCriticalPods")
		}
		var list []struct {
			Priority int32 `json:"priority"`
			Seconds  int64 `json:"shutdownGracePeriodSeconds"`
		}
		if err := json.Unmarshal([]byte(byPriority), &list); err != nil {
			return nil, fmt.Errorf("decoding shutdownGracePeriodByPodPriority: %w", err)
		}
		var out []Group
		for _, g := range list {
			if g.Seconds < 0 {
				return nil, fmt.Errorf("shutdownGracePeriodByPodPriority: priority %d: %d seconds must not be negative", g.Priority, g.Seconds)
			}
			out = append(out, Group{g.Priority, time.Duration(g.Seconds) * time.Second})
		}
		slices.SortFunc(out, func(a, b Group) int { return cmp.Compare(a.Priority, b.Priority) })
		for i := 1; i < len(out); i++ {
			if out[i].Priority == out[i-1].Priority {
				return nil, fmt.Errorf("shutdownGracePeriodByPodPriority: priority %d is there twice", out[i].Priority)
			}
		}
		return out, nil
	}
	switch {
	case all < 0 || all > 0 && all < time.Second:
		return nil, fmt.Errorf("shutdownGracePeriod %s must be either zero or otherwise >= 1 sec", all)
	case critical < 0 || critical > 0 && critical < time.Second:
		return nil, fmt.Errorf("shutdownGracePeriodCriticalPods %s must be either zero or otherwise >= 1 sec", critical)
	case critical > all:
		return nil, fmt.Errorf("shutdownGracePeriodCriticalPods %s must be <= shutdownGracePeriod %s", critical, all)
	case all == 0:
		return nil, nil
	}
	return []Group{{0, all - critical}, {pod.SystemCritical, critical}}, nil
}

// total is how long the whole shutdown may take.
func total(groups []Group) time.Duration {
	var sum time.Duration
	for _, g := range groups {
		sum += g.Grace
	}
	return sum
}

// sorted gives each pod its group: the highest whose priority it has; who is below all goes with the lowest. Pods that have ended are in none.
func sorted(groups []Group, pods []*corev1.Pod) [][]*corev1.Pod {
	out := make([][]*corev1.Pod, len(groups))
	for _, p := range pods {
		if pod.Terminal(p) {
			continue
		}
		at := 0
		for i, g := range groups {
			if pod.Priority(p) >= g.Priority {
				at = i
			}
		}
		out[at] = append(out[at], p)
	}
	return out
}

// graceOf is how long a pod of a group has: no longer than it asks for itself.
func graceOf(p *corev1.Pod, g Group) time.Duration {
	return min(g.Grace, time.Duration(pod.GracePeriod(p))*time.Second)
}
