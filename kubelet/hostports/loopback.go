package hostports

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
)

// callsLoopback: a process of the node may reach the pod by calling 127.0.0.1.
func callsLoopback(b book) bool {
	for f := range b {
		if f.addr.Is4() && (f.addr.IsUnspecified() || f.addr.IsLoopback()) {
			return true
		}
	}
	return false
}

// routeLoopback has the kernel forward from and to loopback addresses on a link; the chain guard keeps others from using that. /proc/sys/net is that
// of the caller's network namespace (https://docs.kernel.org/networking/ip-sysctl.html, route_localnet).
func routeLoopback(link string) error {
	file := filepath.Join("/proc/sys/net/ipv4/conf", link, "route_localnet")
	have, err := os.ReadFile(file)
	if err == nil && bytes.HasPrefix(have, []byte("1")) {
		return nil
	}
	if err := os.WriteFile(file, []byte("1"), 0o644); err != nil {
		return fmt.Errorf("setting route_localnet: %w", err)
	}
	return nil
}
