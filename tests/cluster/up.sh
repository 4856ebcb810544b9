#!/usr/bin/env bash
# One-node Kubernetes in namespaces of its own: a container that is the node. Nothing in it has a
# route to anywhere but the machine, and killing its first process ends all of it.
set -euo pipefail
. "$(dirname "$(readlink -f "$0")")/env.sh"

((EUID == 0)) || { say "must run as root: it makes namespaces and cgroups"; exit 1; }
if [[ -e $RUN/node.pid ]] && kill -0 "$(cat "$RUN/node.pid")" 2>/dev/null; then
    say "is up already: export KUBECONFIG=$RUN/admin.kubeconfig"
    exit 0
fi
"$HERE/packages.sh"
"$HERE/binaries.sh"
"$HERE/images.sh"
"$HERE/down.sh" 2>/dev/null
mkdir -p "$RUN"/{pki,cni,kubelet,var-log,sysctls} "$LOG"
BEGAN=$(date +%s%N)
passed() { say "$((($(date +%s%N) - BEGAN) / 1000000)) ms: $*"; }

# ---- certificates: one authority, the apiserver's, and the apiserver's own for the kubelet

cd "$RUN/pki"
key() { openssl ecparam -name prime256v1 -genkey -noout -out "$1" 2>/dev/null; }
sign() { # name subject extensions
    key "$1.key"
    openssl req -new -key "$1.key" -subj "$2" -out "$1.csr"
    openssl x509 -req -in "$1.csr" -CA ca.crt -CAkey ca.key -CAcreateserial -days 30 \
        -out "$1.crt" -extfile <(printf '%s\n' "$3") 2>/dev/null
}
key ca.key
openssl req -x509 -new -key ca.key -subj /CN=seesaw-cluster -days 30 -out ca.crt
names="IP:127.0.0.1,IP:$NODE_IP,IP:$API_SERVICE_IP,DNS:localhost,DNS:kubernetes"
names+=",DNS:kubernetes.default,DNS:kubernetes.default.svc,DNS:kubernetes.default.svc.cluster.local"
sign apiserver /CN=kube-apiserver "subjectAltName=$names"$'\n'"extendedKeyUsage=serverAuth"
sign kubelet-client /CN=kube-apiserver-kubelet-client extendedKeyUsage=clientAuth
key accounts.key
openssl ec -in accounts.key -pubout -out accounts.pub 2>/dev/null

# ---- a token and a kubeconfig for everyone else

: >tokens.csv
chmod 600 tokens.csv
kubeconfig() { # file user groups address
    local token
    token=$(openssl rand -hex 16)
    echo "$token,$2,$2,\"$3\"" >>tokens.csv
    cat >"$RUN/$1.kubeconfig" <<YAML
apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: "https://$4:6443", certificate-authority: $RUN/pki/ca.crt}}]
users: [{name: u, user: {token: $token}}]
contexts: [{name: c, context: {cluster: c, user: u}}]
current-context: c
YAML
    chmod 600 "$RUN/$1.kubeconfig"
}
kubeconfig admin admin system:masters $NODE_IP
kubeconfig kubelet system:node:$NODE system:nodes 127.0.0.1
kubeconfig controller-manager system:kube-controller-manager "" 127.0.0.1
kubeconfig scheduler system:kube-scheduler "" 127.0.0.1
kubeconfig proxy system:kube-proxy "" 127.0.0.1

# ---- configuration of the node's parts

cat >"$RUN/cni/10-bridge.conflist" <<JSON
{"cniVersion": "1.0.0", "name": "pods", "plugins": [
  {"type": "bridge", "bridge": "cni0", "isGateway": true, "isDefaultGateway": true,
   "hairpinMode": true, "ipMasq": false,
   "ipam": {"type": "host-local", "ranges": [[{"subnet": "$POD_NET"}]], "dataDir": "/run/cni-ipam"}},
  {"type": "portmap", "capabilities": {"portMappings": true}}]}
JSON
cat >"$RUN/containerd.toml" <<TOML
version = 2
root = "$RUN/containerd"
state = "/run/containerd"
oom_score = 0
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.aufs",
  "io.containerd.internal.v1.opt"]
[grpc]
  address = "/run/containerd/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "localhost/pause:1"
  restrict_oom_score_adj = true # else needs CAP_SYS_RESOURCE
  disable_apparmor = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "$RUN/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
TOML
: >"$RUN/resolv.conf"
cat >"$RUN/kubelet.yaml" <<YAML
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
failCgroupV1: false
cgroupDriver: cgroupfs
cgroupRoot: /$CGROUP
enforceNodeAllocatable: [pods]
oomScoreAdj: 0
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
makeIPTablesUtilChains: false
failSwapOn: false
evictionHard:
  {memory.available: 64Mi, nodefs.available: "0%", nodefs.inodesFree: "0%",
   imagefs.available: "0%", imagefs.inodesFree: "0%"}
imageGCHighThresholdPercent: 100
resolvConf: $RUN/resolv.conf
clusterDNS: [$DNS_IP]
clusterDomain: cluster.local
authentication:
  {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: $RUN/pki/ca.crt}}
authorization: {mode: Webhook}
readOnlyPort: 0
nodeStatusUpdateFrequency: 2s
volumePluginDir: $RUN/flexvolume # else it makes a folder on the machine
maxOpenFiles: 20000
registryPullQPS: 0
eventRecordQPS: 0
shutdownGracePeriod: 0s
YAML
cat >"$RUN/proxy.yaml" <<YAML
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: iptables
hostnameOverride: $NODE
clusterCIDR: $POD_CIDR
clientConnection: {kubeconfig: $RUN/proxy.kubeconfig}
oomScoreAdj: 0
conntrack: {maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}
iptables: {minSyncPeriod: 10ms} # 0 would mean 1 s, in which a Ready pod is refused
bindAddress: 0.0.0.0
metricsBindAddress: 127.0.0.1:10249
YAML
# Mounted over the machine's sysctls, so that the kubelet finds what it wants and changes nothing.
cd "$RUN/sysctls"
echo 1 >overcommit_memory
echo 0 >panic_on_oom
echo 10 >panic
echo 1 >panic_on_oops
echo 1000000 >root_maxkeys
echo 25000000 >root_maxbytes

# ---- cgroups, the node's namespaces, and a cable to it

for hierarchy in /sys/fs/cgroup/*/; do
    [[ $hierarchy == */unified/ ]] || mkdir -p "$hierarchy$CGROUP"
done
for file in cpuset.cpus cpuset.mems; do
    cat /sys/fs/cgroup/cpuset/$file >/sys/fs/cgroup/cpuset/$CGROUP/$file
done
mkdir -p /var/lib/kubelet /var/lib/cni # mount points only
setsid unshare --net --pid --mount --uts --ipc --fork --kill-child --mount-proc \
    --propagation private bash "$HERE/node-init.sh" >"$LOG/node-init.log" 2>&1 </dev/null &
unshare=$!
for _ in {1..100}; do
    node=$(pgrep -P $unshare || true)
    [[ -z $node || $(readlink /proc/"$node"/ns/net) == $(readlink /proc/self/ns/net) ]] || break
    sleep 0.02
done
echo "$node" >"$RUN/node.pid"
ip link add $VETH type veth peer name eth0 netns "$node"
ip addr add $HOST_IP/30 dev $VETH
ip link set $VETH up
nsenter -t "$node" -n ip addr add $NODE_IP/30 dev eth0
nsenter -t "$node" -n ip link set eth0 up
for net in $POD_CIDR $SERVICE_CIDR "${HOST_IP%.*}.0/30"; do
    ip route replace blackhole $net metric 9000 # nothing may leave the machine once the node is down
done
ip route add $POD_CIDR via $NODE_IP
ip route add $SERVICE_CIDR via $NODE_IP
touch "$RUN/net.ready"

# ---- wait until it can be used

await() { # what command…
    local what=$1 began=$SECONDS
    shift
    until "$@" >/dev/null 2>&1; do
        if ! kill -0 "$node" 2>/dev/null || ((SECONDS - began > 120)); then
            say "never happened: $what"
            tail -n 5 "$LOG"/*.log >&2
            exit 1
        fi
        sleep 0.2
    done
    passed "$what"
}
export KUBECONFIG=$RUN/admin.kubeconfig
await "the apiserver answers" kubectl get --raw /readyz
kubectl apply -f "$HERE/bootstrap.yaml" >/dev/null
await "the node is Ready" kubectl wait --for=condition=Ready node/$NODE --timeout=1s
await "the node has its images" test -e "$RUN/images.ready"
await "DNS answers" kubectl -n kube-system wait --for=condition=Available deployment/coredns --timeout=1s
echo "export KUBECONFIG=$RUN/admin.kubeconfig PATH=$CACHE/bin:\$PATH"
