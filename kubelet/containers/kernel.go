package containers

import (
	"errors"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// kernel is what the node's kernel can do and has switched on.
type kernel struct {
	recursive bool // mount attributes of whole trees
	idmap     bool // mounts that map owners, also of what a container is made of
	appArmor  bool
	seLinux   bool
	// throttles are files of the processors that tell how warm they run: masked, for from them neighbours can be guessed.
	throttles []string
}

func learnKernel() kernel {
	var k kernel
	k.recursive = !errors.Is(unix.MountSetattr(-1, "", unix.AT_RECURSIVE, &unix.MountAttr{}), unix.ENOSYS)
	if on, err := os.ReadFile("/sys/module/apparmor/parameters/enabled"); err == nil {
		k.appArmor = strings.HasPrefix(string(on), "Y")
	}
	_, err := os.Stat("/sys/fs/selinux/enforce")
	k.seLinux = err == nil
	if found, err := filepath.Glob("/sys/devices/system/cpu/cpu[0-9]*/thermal_throttle"); err == nil {
		k.throttles = found
	}
	return k
}

// AppArmor says whether the kernel has it switched on.
func AppArmor() bool { return learnKernel().appArmor }
