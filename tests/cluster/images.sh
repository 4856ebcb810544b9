#!/usr/bin/env bash
# Builds the images that the node itself needs (pause, CoreDNS) and the Debian base of all others.
set -euo pipefail
. "$(dirname "$(readlink -f "$0")")/env.sh"

[[ -e $IMAGES/system.tar ]] && exit 0
say "building the node's images (a minute, once)"
mkdir -p "$IMAGES/context"
cp -r "$HERE/images/." "$IMAGES/context/"
cd "$IMAGES/context"
gcc -Os -static -s -o pause/pause pause/pause.c
cp "$BIN/coredns" coredns/coredns
[[ -e base/base.tar ]] || mmdebstrap --mode=root --variant=minbase \
    --include=ca-certificates,libnuma1,python3,python3-venv \
    --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/doc/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' bookworm base/base.tar
for name in pause coredns base; do
    buildah bud --isolation chroot --network host --format oci -q -t "localhost/$name:1" "$name" >/dev/null
done
rm -f "$IMAGES"/*.tar
for name in pause coredns; do
    buildah push -q "localhost/$name:1" "oci:$IMAGES/context/oci:localhost/$name:1"
done
tar -C "$IMAGES/context/oci" -cf "$IMAGES/system.tar.new" .
mv "$IMAGES/system.tar.new" "$IMAGES/system.tar"
