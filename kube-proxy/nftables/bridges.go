package nftables

import (
	"errors"
	"fmt"
	"os"
	"strings"
)

// bridgeFiles are there when the kernel can show bridged packets to rules.
var bridgeFiles = [...]string{"/proc/sys/net/bridge/bridge-nf-call-iptables", "/proc/sys/net/bridge/bridge-nf-call-ip6tables"}

// BridgesEscape tells whether packets between two ports of a bridge go past all
// rules. It first asks the kernel to show them; what is left is a kernel whose
// br_netfilter is not loaded. There, a pod that calls a service answered by a
// pod on the same bridge would get its answer straight from that pod, from an
// address it never called.
func BridgesEscape() (bool, error) {
	for _, file := range bridgeFiles {
		now, err := os.ReadFile(file)
		if errors.Is(err, os.ErrNotExist) {
			return true, nil
		}
		if err != nil {
			return false, fmt.Errorf("asking whether rules see bridged packets: %w", err)
		}
		if strings.TrimSpace(string(now)) == "1" {
			continue
		}
		if err := os.WriteFile(file, []byte("1"), 0o644); err != nil {
			return false, fmt.Errorf("letting rules see bridged packets: %w", err)
		}
	}
	return false, nil
}
