# Sourced by every script here: where things are, and the addresses of the cluster's own networks.
# HERE holds these scripts; everything that they make lies below CACHE.
HERE=$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")" && pwd)
ROOT=$(cd "$HERE/../.." && pwd)
CACHE=${SEESAW_CLUSTER_DIR:-$HOME/.cache/seesaw-cluster}
BIN=$CACHE/bin    # Kubernetes, etcd, CoreDNS, helm, kubeconform
IMAGES=$CACHE/images
RUN=$CACHE/run    # of the running cluster; removed by down.sh
LOG=$CACHE/log

NODE=node0
NODE_IP=10.250.0.2
HOST_IP=10.250.0.1
POD_CIDR=10.244.0.0/16
POD_NET=10.244.0.0/24
SERVICE_CIDR=10.96.0.0/16
API_SERVICE_IP=10.96.0.1
DNS_IP=10.96.0.10
CGROUP=seesaw-cluster # subtree in every cgroup hierarchy
VETH=seesaw0          # the machine's side of the cable to the node

KUBERNETES_VERSION=v1.35.4 # the last that takes cgroup v1 and containerd 1
HELM_VERSION=v3.19.0
KUBECONFORM_VERSION=v0.7.0
GLUA_VERSION=v1.1.1
PROMETHEUS_OPERATOR=github.com/prometheus-operator/prometheus-operator@v0.85.0

export PATH=$BIN:$PATH KUBECONFIG=${KUBECONFIG:-$RUN/admin.kubeconfig}

say() { echo "cluster: $*" >&2; }

buildah() {
    command buildah --root "$CACHE/buildah" --runroot "$CACHE/buildah-run" --storage-driver overlay "$@"
}
