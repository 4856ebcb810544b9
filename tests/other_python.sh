#!/usr/bin/env bash
# Runs the fast tests under another Python, in an environment of its own: with vLLM for CPU where its
# wheels can be had for that version, else those tests that need no vLLM.
# Usage: tests/other_python.sh python3.12
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

name=$1
uv=$(command -v uv || echo .venv/bin/uv)
python=""
for candidate in "$name" "$HOME"/.pyenv/versions/"${name#python}"*/bin/python; do
    if "$candidate" -c '' 2>/dev/null; then python=$candidate; fi
done
[[ -n $python ]] || python=$("$uv" python find --no-python-downloads "${name#python}" 2>/dev/null) || {
    echo "test-unit: no $name is at hand, so nothing was tested"
    exit 0
}
venv=.venv-${name#python}
stamp=$venv/.installed
if [[ ! -e $stamp || pyproject.toml -nt $stamp || constraints.txt -nt $stamp ]]; then
    "$uv" venv --quiet --clear --python "$python" "$venv"
    echo "test-unit: installing into $venv"
    install=("$uv" pip install --quiet --python "$venv/bin/python" --constraint constraints.txt
        --override overrides.txt --editable)
    "${install[@]}" '.[cpu,dev]' || {
        echo "test-unit: vLLM for CPU cannot be installed for $name; testing the parts without it"
        "${install[@]}" '.[dev]'
    }
    touch "$stamp"
fi
folders=(tests/unit tests/property tests/simulation)
if ! "$venv/bin/python" -c 'import vllm' 2>/dev/null; then
    folders=(tests/unit/{core,operator,router,sim} tests/property/{core,operator} tests/simulation)
fi
"$venv/bin/python" -c 'import platform; print("test-unit: Python", platform.python_version())'
exec "$venv/bin/python" -m pytest "${folders[@]}"
