package main

import (
	"debug/buildinfo"
	"fmt"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"pilothouse.dev/hack/archive"
)

// flannel is a pod network from elsewhere, built already from hack/tools/flannel, with the tools from Debian's packages that it calls to set rules:
// nft, and iptables, by which it removes what it would have set with that.
func flannel(debian *packages, program string) ([]archive.Image, error) {
	binary, err := static(program)
	if err != nil {
		return nil, err
	}
	info, err := buildinfo.ReadFile(program)
	if err != nil {
		return nil, fmt.Errorf("reading what %s was built from: %w", program, err)
	}
	if err := debian.add("nftables", "iptables"); err != nil {
		return nil, err
	}
	files, err := debian.programs("usr/sbin/nft", "usr/sbin/xtables-nft-multi")
	if err != nil {
		return nil, err
	}
	files = append(append(base(), files...), file{name: "bin/flannel", mode: 0o755, data: binary})
	for _, name := range []string{"iptables", "ip6tables"} {
		files = append(files, file{name: "usr/sbin/" + name, link: "xtables-nft-multi"})
	}
	img, err := image(inOrder(files), v1.Config{Env: []string{"PATH=/bin:/usr/sbin"}, Entrypoint: []string{"/bin/flannel"}})
	if err != nil {
		return nil, err
	}
	return named("flannel", strings.TrimPrefix(info.Main.Version, "v"), img), nil
}
