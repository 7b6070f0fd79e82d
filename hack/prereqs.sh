#!/bin/bash
# Installs what a bare Debian or Ubuntu machine lacks to build, run and test
# Pilothouse. Quick and silent about what is there already; needs root and a
# package mirror only when something is missing. No service needs to be running
# afterwards: each node of a local cluster starts a containerd of its own.
set -euo pipefail

packages=(
	containerd runc          # what the kubelet drives
	iproute2 nftables        # looking at nodes by hand; the end-to-end tests do
	conntrack procps         # likewise
	containernetworking-plugins # for networks that others install
	busybox-static           # becomes the busybox image
	ca-certificates curl git # modules, and talking to the API by hand
	gcc libc6-dev            # the race detector and Go's resolver
)

say() { echo "prereqs: $*"; }
fail() { echo "prereqs: $*" >&2; exit 1; }

install() {
	[ "$(id -u)" = 0 ] || fail "missing: $*. Run as root, or install them yourself."
	command -v apt-get >/dev/null || fail "missing: $*, and this is no Debian: install them by this system's means."
	say "installing $*"
	export DEBIAN_FRONTEND=noninteractive
	# Packages must not start services here: the cluster starts what it needs.
	# A policy that is there already is the machine's own and stays.
	local policy=/usr/sbin/policy-rc.d made=
	if [ ! -e $policy ]; then
		printf '#!/bin/sh\nexit 101\n' >$policy
		chmod +x $policy
		made=1
	fi
	trap '[ -z "'"$made"'" ] || rm -f '$policy EXIT
	if ! apt-get install -y -q --no-install-recommends "$@" >/tmp/prereqs.$$ 2>&1; then
		say "refreshing the package lists"
		apt-get update -q >/tmp/prereqs.$$ 2>&1 || { cat /tmp/prereqs.$$ >&2; fail "apt-get update did not work (above)."; }
		apt-get install -y -q --no-install-recommends "$@" >/tmp/prereqs.$$ 2>&1 || { cat /tmp/prereqs.$$ >&2; fail "apt-get install did not work (above)."; }
	fi
	rm -f /tmp/prereqs.$$
	[ -z "$made" ] || rm -f $policy
	trap - EXIT
}

missing=()
for p in "${packages[@]}"; do
	[ "$(dpkg-query -W -f '${db:Status-Status}' "$p" 2>/dev/null)" = installed ] || missing+=("$p")
done
# A machine may have a program from elsewhere (containerd.io, its own build of
# runc): what is on the path is good enough and must not be replaced.
wanted=()
for p in ${missing[@]+"${missing[@]}"}; do
	case $p in
	containerd | runc | conntrack | gcc | curl | git) command -v "$p" >/dev/null || wanted+=("$p") ;;
	iproute2) command -v ip >/dev/null || wanted+=("$p") ;;
	nftables) command -v nft >/dev/null || wanted+=("$p") ;;
	procps) command -v ps >/dev/null || wanted+=("$p") ;;
	*) wanted+=("$p") ;;
	esac
done
[ ${#wanted[@]} = 0 ] || install "${wanted[@]}"

# Go: any version from 1.21 on fetches the one that go.work names by itself. An
# older one (Debian 12 has 1.19) can still download that toolchain as the module
# it is published as; only the executable bits have to be put back.
toolchain=go$(sed -n 's/^toolchain go//p' go.work)
[ "$toolchain" != go ] || toolchain=go$(sed -n 's/^go //p' go.work)
# An old go cannot even read this checkout's go.work: it is asked from elsewhere.
plain_go() { (cd / && GOWORK=off GO111MODULE=on go "$@"); }
minor() { plain_go env GOVERSION 2>/dev/null | sed -n 's/^go1\.\([0-9]*\).*/\1/p'; }
if ! command -v go >/dev/null; then
	install golang-go
fi
if [ "$(minor)" -lt 21 ]; then
	module=golang.org/toolchain@v0.0.1-$toolchain.linux-$(plain_go env GOARCH)
	say "fetching $toolchain"
	plain_go mod download "$module"
	dir=$(plain_go env GOMODCACHE)/$module
	chmod -R u+w "$dir"
	chmod +x "$dir"/bin/* "$dir"/pkg/tool/*/*
	mkdir -p /usr/local/bin
	ln -sf "$dir"/bin/go "$dir"/bin/gofmt /usr/local/bin/
	hash -r
	[ "$(minor)" -ge 21 ] || fail "/usr/local/bin/go is there now, but $(command -v go) comes first on the PATH."
fi
say "all there"
