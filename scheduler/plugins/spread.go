package plugins

import (
	"pilothouse.dev/scheduler/framework"
	"pilothouse.dev/scheduler/nodeinfo"
)

const (
	spreadName  = "PodTopologySpread"
	spreadZones = "PodTopologySpread/zones" // page: map[string]int64, pods of the same owner per zone
)

// spread prefers nodes, and more so zones, that hold fewer pods of the same controller.
type spread struct{}

func newSpread(framework.Parts) framework.Plugin { return spread{} }

func (spread) Name() string { return spreadName }

func (spread) PreScore(nb *framework.Notebook, p *nodeinfo.Pod, nodes []*nodeinfo.Node) *framework.Status {
	if p.Owner == (nodeinfo.Owner{}) {
		return framework.Skipped
	}
	var zones map[string]int64
	for _, n := range nodes {
		if n.Zone == "" {
			continue
		}
		if zones == nil {
			zones = map[string]int64{}
		}
		zones[n.Zone] += int64(n.Of(p.Owner))
	}
	nb.Write(spreadZones, zones)
	return nil
}

func (spread) Score(_ *framework.Notebook, p *nodeinfo.Pod, n *nodeinfo.Node) int64 {
	return int64(n.Of(p.Owner))
}

func (spread) Normalize(nb *framework.Notebook, nodes []*nodeinfo.Node, scores []int64) {
	fewerIsBetter(scores)
	zones := framework.Read[map[string]int64](nb, spreadZones)
	if len(zones) < 2 {
		return
	}
	var top int64
	for _, n := range zones {
		top = max(top, n)
	}
	for i, n := range nodes {
		if n.Zone == "" {
			continue
		}
		zone := framework.MaxScore
		if top > 0 {
			zone = (top - zones[n.Zone]) * framework.MaxScore / top
		}
		scores[i] = (scores[i] + 2*zone) / 3
	}
}
