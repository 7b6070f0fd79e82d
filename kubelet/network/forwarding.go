package network

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// /proc/sys/net is that of the caller's network namespace.
const sysctls = "/proc/sys/net"

// hasIPv6 says whether the kernel speaks IPv6 at all.
func hasIPv6() bool {
	_, err := os.Stat(sysctls + "/ipv6/conf/all/forwarding")
	return err == nil
}

// setSysctl writes a value if it is not there yet: the file may be read-only, and needs no write then.
func setSysctl(name, value string) error {
	file := filepath.Join(sysctls, name)
	if have, err := os.ReadFile(file); err == nil && strings.TrimSpace(string(have)) == value {
		return nil
	}
	return os.WriteFile(file, []byte(value), 0o644)
}

// allowForwarding makes the node a router of the given families.
func allowForwarding(v4, v6 bool) error {
	if v4 {
		if err := setSysctl("ipv4/ip_forward", "1"); err != nil {
			return fmt.Errorf("allowing forwarding: %w (set net.ipv4.ip_forward to 1)", err)
		}
	}
	if !v6 {
		return nil
	}
	if !hasIPv6() {
		return errors.New("this node's kernel has no IPv6: take ipv6.disable=1 from its command line, or give the cluster IPv4 ranges only")
	}
	if err := keepAdvertisements(); err != nil {
		return fmt.Errorf("keeping routes that routers advertise: %w", err)
	}
	if err := setSysctl("ipv6/conf/all/forwarding", "1"); err != nil {
		return fmt.Errorf("allowing forwarding: %w (set net.ipv6.conf.all.forwarding to 1)", err)
	}
	return nil
}

// keepAdvertisements lets links go on listening to routers: a machine that becomes one itself would else lose its own way out, if it has it from there
// (accept_ra in the kernel's networking/ip-sysctl).
func keepAdvertisements() error {
	if have, err := os.ReadFile(sysctls + "/ipv6/conf/all/forwarding"); err == nil && strings.TrimSpace(string(have)) == "1" {
		return nil
	}
	files, err := filepath.Glob(sysctls + "/ipv6/conf/*/accept_ra")
	if err != nil {
		return err
	}
	for _, file := range files {
		link := filepath.Base(filepath.Dir(file))
		if link == "all" || link == "default" || link == "lo" {
			continue
		}
		have, err := os.ReadFile(file)
		if err == nil && strings.TrimSpace(string(have)) == "1" {
			err = os.WriteFile(file, []byte("2"), 0o644)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // a link may go meanwhile
			return err
		}
	}
	return nil
}

// noRedirects keeps the node from telling pods of a shorter way: a packet that leaves by the link it came from is one to a service whose endpoint is the
// caller. A link's own setting counts only where the one for all is off; each link keeps its own.
func noRedirects() error { return setSysctl("ipv4/conf/all/send_redirects", "0") }
