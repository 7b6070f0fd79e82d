package stats

import (
	"bytes"
	"os"
	"strconv"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	statsv1 "k8s.io/kubelet/pkg/apis/stats/v1alpha1"
)

// link is what the kernel counts of one network interface.
type link struct {
	name                           string
	rx, rxPackets, rxErrs, rxDrops uint64
	tx, txPackets, txErrs, txDrops uint64
}

// netOf are the interfaces that a process sees, without its loopback; none when it is gone.
func netOf(pid int) []link {
	if pid <= 0 {
		return nil
	}
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/net/dev")
	if err != nil {
		return nil
	}
	return readLinks(text)
}

// readLinks reads «NAME: BYTES PACKETS ERRS DROP FIFO FRAME COMPRESSED MULTICAST BYTES PACKETS ERRS DROP …»; the first two lines are a head.
func readLinks(text []byte) []link {
	var all []link
	for line := range bytes.Lines(text) {
		name, rest, ok := bytes.Cut(line, []byte{':'})
		words := bytes.Fields(rest)
		if name = bytes.TrimSpace(name); !ok || len(words) < 12 || string(name) == "lo" {
			continue
		}
		var n [12]uint64
		for i := range n {
			v, err := strconv.ParseUint(string(words[i]), 10, 64)
			if err != nil {
				return all
			}
			n[i] = v
		}
		all = append(all, link{string(name), n[0], n[1], n[2], n[3], n[8], n[9], n[10], n[11]})
	}
	return all
}

// defaultLink is the interface of this network's default route; «» without one.
func defaultLink() string {
	text, err := os.ReadFile("/proc/self/net/route")
	if err != nil {
		return ""
	}
	for line := range bytes.Lines(text) {
		if words := bytes.Fields(line); len(words) > 7 && string(words[1]) == "00000000" && string(words[7]) == "00000000" {
			return string(words[0])
		}
	}
	return ""
}

// networkStats puts the interface called first before all others; nil without any.
func networkStats(links []link, first string) *statsv1.NetworkStats {
	if len(links) == 0 {
		return nil
	}
	out := &statsv1.NetworkStats{Time: metav1.NewTime(time.Now())}
	for i := range links {
		l := &links[i]
		one := statsv1.InterfaceStats{Name: l.name, RxBytes: &l.rx, RxErrors: &l.rxErrs, TxBytes: &l.tx, TxErrors: &l.txErrs}
		if l.name == first {
			out.InterfaceStats = one
		}
		out.Interfaces = append(out.Interfaces, one)
	}
	return out
}
