#!/usr/bin/env bash
# The node's first process: mounts what must not be the machine's, then starts everything.
. "$(dirname "$(readlink -f "$0")")/env.sh"
cd /

mount --make-rshared /
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/containerd /run/lock /run/netns "$RUN/kubelet" "$RUN/etcd" "$RUN/containerd"
mount --bind "$RUN/kubelet" /var/lib/kubelet
mount --make-shared /var/lib/kubelet
mount -t tmpfs tmpfs /var/lib/cni
mount -t tmpfs -o mode=700 tmpfs "$RUN/etcd"
mount --bind "$RUN/var-log" /var/log
for name in vm/overcommit_memory vm/panic_on_oom kernel/panic kernel/panic_on_oops \
    kernel/keys/root_maxkeys kernel/keys/root_maxbytes; do
    mount --bind "$RUN/sysctls/${name##*/}" "/proc/sys/$name"
done
hostname $NODE
ip link set lo up
until [[ -e $RUN/net.ready ]]; do sleep 0.02; done
echo 1 >/proc/sys/net/ipv4/ip_forward

start() { # name command…
    local name=$1
    shift
    "$@" >"$LOG/$name.log" 2>&1 &
}

start etcd etcd --data-dir="$RUN/etcd" \
    --listen-client-urls=http://127.0.0.1:2379 --advertise-client-urls=http://127.0.0.1:2379 \
    --listen-peer-urls=http://127.0.0.1:2380 --unsafe-no-fsync --snapshot-count=5000 --log-level=warn
start containerd containerd -c "$RUN/containerd.toml" -l info
start apiserver kube-apiserver --etcd-servers=http://127.0.0.1:2379 \
    --advertise-address=$NODE_IP --secure-port=6443 --service-cluster-ip-range=$SERVICE_CIDR \
    --authorization-mode=Node,RBAC --enable-admission-plugins=NodeRestriction --allow-privileged=true \
    --token-auth-file="$RUN/pki/tokens.csv" --client-ca-file="$RUN/pki/ca.crt" \
    --tls-cert-file="$RUN/pki/apiserver.crt" --tls-private-key-file="$RUN/pki/apiserver.key" \
    --kubelet-client-certificate="$RUN/pki/kubelet-client.crt" \
    --kubelet-client-key="$RUN/pki/kubelet-client.key" \
    --kubelet-preferred-address-types=InternalIP \
    --service-account-key-file="$RUN/pki/accounts.pub" \
    --service-account-signing-key-file="$RUN/pki/accounts.key" \
    --service-account-issuer=https://kubernetes.default.svc.cluster.local
{
    until ctr -a /run/containerd/containerd.sock version >/dev/null 2>&1; do sleep 0.1; done
    ctr -a /run/containerd/containerd.sock -n k8s.io images import "$IMAGES/system.tar"
    touch "$RUN/images.ready"
} >"$LOG/import.log" 2>&1 &
until curl -s --cacert "$RUN/pki/ca.crt" https://127.0.0.1:6443/readyz 2>/dev/null | grep -q '^ok'; do
    sleep 0.1
done
start controller-manager kube-controller-manager --kubeconfig="$RUN/controller-manager.kubeconfig" \
    --flex-volume-plugin-dir="$RUN/flexvolume" --leader-elect=false --bind-address=127.0.0.1 \
    --use-service-account-credentials=true \
    --service-account-private-key-file="$RUN/pki/accounts.key" --root-ca-file="$RUN/pki/ca.crt" \
    --cluster-signing-cert-file="$RUN/pki/ca.crt" --cluster-signing-key-file="$RUN/pki/ca.key"
start scheduler kube-scheduler --kubeconfig="$RUN/scheduler.kubeconfig" --leader-elect=false \
    --bind-address=127.0.0.1
start proxy kube-proxy --config="$RUN/proxy.yaml"
start kubelet kubelet --config="$RUN/kubelet.yaml" --kubeconfig="$RUN/kubelet.kubeconfig" \
    --hostname-override=$NODE --node-ip=$NODE_IP
echo started
while :; do
    sleep 3600 &
    wait $!
done
