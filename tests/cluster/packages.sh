#!/usr/bin/env bash
# Installs the Debian packages that a node and image builds need, where they are missing.
set -euo pipefail
. "$(dirname "$(readlink -f "$0")")/env.sh"

packages=(buildah conntrack containerd containernetworking-plugins ethtool iptables mmdebstrap runc socat uidmap)
missing=()
for name in "${packages[@]}"; do
    [[ $(dpkg-query -W -f '${db:Status-Status}' "$name" 2>/dev/null) == installed ]] || missing+=("$name")
done
((${#missing[@]})) || exit 0
((EUID == 0)) || { say "install as root: apt-get install ${missing[*]}"; exit 1; }
say "installing ${missing[*]}"
# Nothing may start by itself: the cluster runs its own containerd, in its own namespaces.
policy=/usr/sbin/policy-rc.d
[[ -e $policy ]] || { printf '#!/bin/sh\nexit 101\n' >$policy; chmod 755 $policy; trap 'rm -f $policy' EXIT; }
export DEBIAN_FRONTEND=noninteractive
apt-get install -qq -y --no-install-recommends "${missing[@]}" >/dev/null ||
    { apt-get update -qq && apt-get install -qq -y --no-install-recommends "${missing[@]}" >/dev/null; }
