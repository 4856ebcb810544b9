#!/usr/bin/env bash
# Builds every image that the end-to-end tests run, and puts them into the running node.
set -euo pipefail
. "$(dirname "$(readlink -f "$0")")/env.sh"

cd "$ROOT"
version=$(sed -n 's/^appVersion: *//p' charts/seesaw/Chart.yaml)
for part in operator router worker-cpu; do
    say "image seesaw-$part"
    "$HERE/load.sh" "seesaw-$part:$version" "images/$part/Dockerfile"
done
say "image seesaw-test"
for tag in 1 2; do
    "$HERE/load.sh" "seesaw-test:$tag" tests/e2e/client/Dockerfile \
        --build-arg "ROUTER=localhost/seesaw-router:$version"
done
say "now: helm install seesaw charts/seesaw -n seesaw-system --create-namespace --set images.prefix=localhost/"
