"""Whether this commit can be released: ``make release-check``, which docs/releasing.md explains.

Every check runs, and every fault is printed. Builds the wheel and installs it into an environment
of its own, where there is nothing else.
"""

import argparse
import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import yaml

from seesaw_generate.chart.__main__ import FILES

ROOT = Path(__file__).parents[2]
NOT_IN_WHEEL = ("seesaw_bench", "seesaw_generate", "tests")
# Where the version stands besides pyproject.toml, and the pattern that finds it.
VERSIONS = {
    "charts/seesaw/Chart.yaml": r"^(?:version|appVersion): \"?([^\"\s]+)",
    "docs/kubernetes.md": r"seesaw-\$part:(\S+)",
    "manifests/base/operator.yaml": r"(?:app.kubernetes.io/version: |helm.sh/chart: seesaw-)(\S+)",
    "tests/e2e/client/Dockerfile": r"seesaw-router:(\S+)",
}
COMMANDS = ("worker", "serve", "router", "operator", "plan", "simulate", "calibrate", "demo")


def versions(version: str) -> Iterator[str]:
    """One version everywhere."""
    for name, pattern in VERSIONS.items():
        found = re.findall(pattern, (ROOT / name).read_text(), re.MULTILINE)
        if not found:
            yield f"{name}: no version found"
        for other in sorted({v for v in found if v != version}):
            yield f"{name}: {other}, but pyproject.toml has {version}"
    values = yaml.safe_load((ROOT / "charts/seesaw/values.yaml").read_text())
    if values["images"]["tag"]:
        yield "charts/seesaw/values.yaml: images.tag is set; the default must be the appVersion"


def changelog(version: str, *, unreleased: bool) -> Iterator[str]:
    """The newest entry is this version's, and nothing is left unreleased."""
    titles = re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    if any("unreleased" in title.lower() for title in titles):
        titles = [title for title in titles if "unreleased" not in title.lower()]
        if not unreleased:
            yield "CHANGELOG.md: there is an Unreleased section; name it by version and date"
        if not titles:
            return  # before the first release
    expected = re.compile(rf"\[{re.escape(version)}\] - \d{{4}}-\d\d-\d\d")
    if not titles or not expected.fullmatch(titles[0]):
        first = titles[0] if titles else "nothing"
        yield f"CHANGELOG.md: the newest entry is {first!r}, not '[{version}] - YEAR-MONTH-DAY'"


def generated(_: str) -> Iterator[str]:
    """CRD, reference pages and the chart's files are what the code makes."""
    for name, make in FILES.items():
        if (ROOT / "charts/seesaw" / name).read_text() != make():
            yield f"charts/seesaw/{name}: not current; run `make docs`"
    for command, names in {
        "seesaw_generate.flags": ("docs/reference-flags.md",),
        "seesaw_generate.crd": ("docs/reference-crd.md",),
        "seesaw_operator.api.crd": ("manifests/base/crd.yaml", "charts/seesaw/files/crd.yaml"),
    }.items():
        text = _run(sys.executable, "-m", command).stdout
        for name in names:
            if (ROOT / name).read_text() != text:
                yield f"{name}: not current; run `make docs`"


def wheel(version: str) -> Iterator[str]:
    """The wheel builds, holds what it should, and its command works with nothing else installed."""
    with TemporaryDirectory() as folder:
        built = _run("uv", "build", "--quiet", "--wheel", "--out-dir", folder)
        files = list(Path(folder).glob("*.whl"))
        if built.returncode or len(files) != 1:
            yield f"the wheel does not build: {built.stderr.strip()[-500:]}"
            return
        with zipfile.ZipFile(files[0]) as archive:
            tops = {name.split("/")[0] for name in archive.namelist()}
        for name in sorted(tops.intersection(NOT_IN_WHEEL)):
            yield f"{files[0].name}: {name} is in it"
        python = Path(folder) / "venv/bin/python"
        _run("uv", "venv", "--quiet", "--python", sys.executable, str(python.parents[1]))
        _run("uv", "pip", "install", "--quiet", "--python", str(python), str(files[0]))
        yield from _installed(python.with_name("seesaw"), version)


def _installed(command: Path, version: str) -> Iterator[str]:
    told = _run(str(command), "--version")
    if told.stdout.strip() != f"seesaw {version}":
        yield f"installed: seesaw --version says {told.stdout.strip() or told.stderr.strip()!r}"
    told = _run(str(command), "--help")
    for name in COMMANDS:
        if told.returncode or not re.search(rf"^ +{name} ", told.stdout, re.MULTILINE):
            yield f"installed: seesaw --help does not list {name}"
    told = _run(str(command), "bench")
    if told.returncode != 2 or len(told.stderr.splitlines()) != 1 or "source" not in told.stderr:
        yield f"installed: seesaw bench does not say in one line where benchmarks are: {told}"


def _run(*command: str) -> "subprocess.CompletedProcess[str]":
    if command[0] == "uv":
        local = Path(sys.executable).with_name("uv")
        command = (str(local) if local.exists() else "uv", *command[1:])
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=600
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="make release-check")
    parser.add_argument("--unreleased", action="store_true", help="before the changelog is closed")
    unreleased = parser.parse_args().unreleased
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    version = project["version"]
    checks: dict[str, Callable[[], Iterator[str]]] = {
        "one version": lambda: versions(version),
        "changelog": lambda: changelog(version, unreleased=unreleased),
        "generated files": lambda: generated(version),
        "wheel": lambda: wheel(version),
    }
    num_faults = 0
    for name, check in checks.items():
        faults = list(check())
        num_faults += len(faults)
        print(f"{name}: {'ok' if not faults else 'FAILED'}")
        for fault in faults:
            print(f"  {fault}")
    print(f"release-check of {version}: {'ok' if not num_faults else f'{num_faults} to fix'}")
    return 1 if num_faults else 0


if __name__ == "__main__":
    sys.exit(main())
