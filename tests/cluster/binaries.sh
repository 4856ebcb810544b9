#!/usr/bin/env bash
# Builds Kubernetes, etcd, CoreDNS, helm and kubeconform from their Go modules, once.
# With the argument `control-plane`: only what tests without a node need. With `chart-tools`: that,
# helm, kubeconform, Prometheus, promtool and the Lua of Argo CD, and what the Prometheus operator defines.
set -euo pipefail
. "$(dirname "$(readlink -f "$0")")/env.sh"

wanted=(kube-apiserver etcd kubectl)
case ${1:-} in
control-plane) ;;
chart-tools) wanted+=(helm kubeconform) ;;
*) wanted+=(kube-controller-manager kube-scheduler kube-proxy kubelet coredns helm kubeconform) ;;
esac
stamp="$KUBERNETES_VERSION $HELM_VERSION $KUBECONFORM_VERSION $(cat "$HERE"/go/{coredns,etcd,kubernetes}/go.mod | sha256sum)"
if [[ -d $BIN && $(cat "$BIN/.stamp" 2>/dev/null) != "$stamp" ]]; then rm -rf "$BIN" "$IMAGES"; fi
is_there() { # a helm that does not know its version takes Kubernetes for 1.20
    [[ -x $BIN/$1 && ($1 != helm || $("$BIN/helm" version --short) == "$HELM_VERSION"*) ]]
}
missing=()
for name in "${wanted[@]}"; do is_there "$name" || missing+=("$name"); done
((${#missing[@]})) || [[ ${1:-} == chart-tools ]] || exit 0
command -v go >/dev/null || { say "no Go to build ${missing[*]} with: install Go 1.25 or newer"; exit 1; }
((${#missing[@]} == 0)) || say "building ${missing[*]} (minutes, once; kept in $BIN)"
mkdir -p "$BIN"
echo "$stamp" >"$BIN/.stamp"

kubernetes() { # the version must be a real one, or clients choke on it
    local package flags="-s -w"
    for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
        flags+=" -X $package.gitVersion=$KUBERNETES_VERSION -X $package.gitTreeState=clean"
        flags+=" -X $package.gitMajor=1 -X $package.gitMinor=35"
    done
    (cd "$HERE/go/kubernetes" && go build -ldflags="$flags" -o "$BIN/" "${@/#/k8s.io/kubernetes/cmd/}")
}

helm() { # as its own Makefile does it: the Kubernetes that it renders for is that of its client
    local package go_mod minor flags="-s -w -X helm.sh/helm/v3/internal/version.version=$HELM_VERSION"
    go_mod=$(go mod download -json "helm.sh/helm/v3@$HELM_VERSION" | sed -n 's/.*"GoMod": "\(.*\)".*/\1/p')
    minor=$(sed -n 's/.*k8s.io\/client-go v0\.\([0-9]*\)\..*/\1/p' "$go_mod")
    for package in chartutil lint/rules; do
        flags+=" -X helm.sh/helm/v3/pkg/$package.k8sVersionMajor=1"
        flags+=" -X helm.sh/helm/v3/pkg/$package.k8sVersionMinor=$minor"
    done
    GOBIN=$BIN go install -ldflags="$flags" "helm.sh/helm/v3/cmd/helm@$HELM_VERSION"
}

from_kubernetes=()
for name in "${missing[@]}"; do
    case $name in
    kube*form) GOBIN=$BIN go install "github.com/yannh/kubeconform/cmd/kubeconform@$KUBECONFORM_VERSION" ;;
    helm) helm ;;
    etcd) (cd "$HERE/go/etcd" && go build -ldflags='-s -w' -o "$BIN/etcd" go.etcd.io/etcd/server/v3) ;;
    coredns) (cd "$HERE/go/coredns" && CGO_ENABLED=0 go build -ldflags='-s -w' -o "$BIN/coredns" github.com/coredns/coredns) ;;
    *) from_kubernetes+=("$name") ;;
    esac
done
((${#from_kubernetes[@]} == 0)) || kubernetes "${from_kubernetes[@]}"

if [[ ${1:-} == chart-tools ]]; then # whether they are up to date is for Go to know
    (cd "$HERE/go/prometheus" && go build -ldflags='-s -w' -o "$BIN/" github.com/prometheus/prometheus/cmd/{prometheus,promtool})
    GOBIN=$BIN go install "github.com/yuin/gopher-lua/cmd/glua@$GLUA_VERSION"
    definitions=$(cd "$HERE" && go mod download -json "$PROMETHEUS_OPERATOR" | sed -n 's/.*"Dir": "\(.*\)".*/\1/p')
    mkdir -p "$CACHE/crds"
    for kind in podmonitors servicemonitors prometheusrules; do
        install -m 644 "$definitions/example/prometheus-operator-crd/monitoring.coreos.com_$kind.yaml" "$CACHE/crds/"
    done
fi
