#!/usr/bin/env bash
# Runs a command inside the node's namespaces.
set -euo pipefail
. "$(dirname "$(readlink -f "$0")")/env.sh"
exec nsenter -t "$(cat "$RUN/node.pid")" -m -n -p -u -i -- "$@"
