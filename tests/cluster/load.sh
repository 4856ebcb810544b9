#!/usr/bin/env bash
# load.sh NAME:TAG DOCKERFILE [buildah arguments]: builds an image of this repository and puts it
# into the running node. The machine's own pip configuration and certificates serve the build.
set -euo pipefail
. "$(dirname "$(readlink -f "$0")")/env.sh"

name=$1 dockerfile=$2
shift 2
volumes=(--volume /etc/ssl/certs:/etc/ssl/certs:ro)
[[ ! -e /etc/pip.conf ]] || volumes+=(--volume /etc/pip.conf:/etc/pip.conf:ro)
buildah bud --isolation chroot --network host --format oci --layers -q "${volumes[@]}" \
    --build-arg BASE=localhost/base:1 -t "localhost/$name" -f "$dockerfile" "$@" "$ROOT" >/dev/null
# Through a pipe and uncompressed: images may be of gigabytes.
folder=$(mktemp -d -p "$CACHE")
trap 'rm -rf "$folder"' EXIT
fifo=$folder/image
mkfifo "$fifo"
buildah push -q "localhost/$name" "docker-archive:$fifo:localhost/$name" &
"$HERE/node-exec.sh" ctr -a /run/containerd/containerd.sock -n k8s.io images import - <"$fifo" >/dev/null
wait $!
