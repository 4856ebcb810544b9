#!/usr/bin/env bash
# Ends the cluster and removes what it left. Binaries and images are kept.
set -euo pipefail
. "$(dirname "$(readlink -f "$0")")/env.sh"

if [[ -e $RUN/node.pid ]]; then
    pid=$(cat "$RUN/node.pid")
    # Only a node that we started, from whichever checkout: the number may be another's by now.
    if tr '\0' ' ' 2>/dev/null <"/proc/$pid/cmdline" | grep -q "/tests/cluster/node-init.sh"; then
        kill -KILL "$pid" # the first process of the namespace: the kernel ends all others with it
        for _ in {1..200}; do kill -0 "$pid" 2>/dev/null || break; sleep 0.05; done
    fi
fi
# A process that is ending can keep its cgroup busy for a moment.
for _ in {1..100}; do
    find /sys/fs/cgroup/*/$CGROUP -depth -type d -exec rmdir {} + 2>/dev/null || true
    compgen -G "/sys/fs/cgroup/*/$CGROUP" >/dev/null || break
    sleep 0.1
done
ip link del $VETH 2>/dev/null || true # as a rule gone with the node, and its routes with it
for net in $POD_CIDR $SERVICE_CIDR "${HOST_IP%.*}.0/30"; do
    ip route del blackhole $net metric 9000 2>/dev/null || true
done
rmdir /var/lib/kubelet /var/lib/cni 2>/dev/null || true
rm -rf "$RUN"
say "down"
