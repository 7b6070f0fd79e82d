package main

import (
	"testing"
	"time"
)

func TestFirstWrite(t *testing.T) {
	const metrics = `# HELP kubeproxy_sync_proxy_rules_duration_seconds How long.
kubeproxy_sync_proxy_rules_duration_seconds_bucket{le="0.1"} 1
kubeproxy_sync_proxy_rules_duration_seconds_sum{ip_family="IPv4"} 0.25
kubeproxy_sync_proxy_rules_duration_seconds_sum{ip_family="IPv6"} 0.5
kubeproxy_sync_proxy_rules_duration_seconds_count 2
`
	if got, err := firstWrite(metrics); err != nil || got != 750*time.Millisecond {
		t.Errorf("got %s, %v", got, err)
	}
	if _, err := firstWrite("kubeproxy_sync_proxy_rules_duration_seconds_sum x\n"); err == nil {
		t.Error("nonsense was read")
	}
}

// TestRawRules: the limit is measured by writing what services need into a kernel; the kernel tells who listens.
func TestRawRules(t *testing.T) {
	if took, err := rawRules(100, endpointsEach); err != nil || took <= 0 {
		t.Errorf("took %s, %v", took, err)
	}
	if took, err := rawChange(100, endpointsEach); err != nil || took <= 0 {
		t.Errorf("a change took %s, %v", took, err)
	}
}
