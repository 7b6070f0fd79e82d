#!/bin/bash
# Runs the demo on a local cluster: a Deployment of three replicas behind a
# Service, called through its cluster IP and through a node port. Every step is
# a command that can be given by hand.
#
#   hack/demo.sh [cluster name]
set -euo pipefail
cd "$(dirname "$0")/.."

name=${1:-local}
cluster="bin/cluster -name $name"
KUBECONFIG=$($cluster kubeconfig)
export KUBECONFIG

step() { echo; echo "\$ $*"; "$@"; }

step bin/kubectl apply -f hack/manifests/demo.yaml
step bin/kubectl -n demo rollout status deployment/hello --timeout=60s
step bin/kubectl -n demo get deployment,pods,service -o wide

ip=$(bin/kubectl -n demo get service hello -o jsonpath='{.spec.clusterIP}')
port=$(bin/kubectl -n demo get service hello -o jsonpath='{.spec.ports[0].nodePort}')
node=$(bin/kubectl get nodes -o jsonpath='{.items[0].metadata.name}')
address=$(bin/kubectl get nodes -o jsonpath='{.items[0].status.addresses[?(@.type=="InternalIP")].address}')

# ask URL [command prefix …] calls until all three pods have answered, and says
# how often each did. New rules may need a moment to reach every node.
ask() {
	local url=$1 answers=""
	shift
	for _ in $(seq 100); do
		if answer=$("$@" curl -sS --max-time 2 "$url/hostname" 2>/tmp/demo.$$); then
			answers+=$answer$'\n'
		else
			sleep 0.2
		fi
		if [ "$(sort -u <<<"$answers" | grep -c .)" -ge 3 ] && [ "$(grep -c . <<<"$answers")" -ge 12 ]; then
			break
		fi
	done
	sort <<<"$answers" | grep . | uniq -c | sed 's/^/  /'
	if [ "$(sort -u <<<"$answers" | grep -c .)" -lt 3 ]; then
		echo "not all three pods answered at $url; the last error: $(cat /tmp/demo.$$)" >&2
		rm -f /tmp/demo.$$
		exit 1
	fi
	rm -f /tmp/demo.$$
}

echo
echo "calling the cluster IP, $ip, from $node; these pods answered:"
ask "http://$ip" $cluster exec "$node" --
echo
echo "calling the node port, $address:$port, from this machine; these pods answered:"
ask "http://$address:$port"

cat <<END

Call it yourself:

  curl http://$address:$port/
  bin/cluster -name $name exec $node -- curl -s http://$ip/

and take it away with

  bin/kubectl --kubeconfig $KUBECONFIG delete namespace demo
END
