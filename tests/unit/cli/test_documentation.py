"""Every path and every name of our code that the documentation mentions exists."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PAGES = sorted(
    [ROOT / name for name in ("ARCHITECTURE.md", "README.md", "CONTRIBUTING.md", "SECURITY.md")]
    + list(ROOT.glob("docs/**/*.md"))
)
FOLDERS = ("core", "operator", "router", "worker", "cli", "bench")
_CODE = re.compile(r"`([^`\n]+)`")
_LINK = re.compile(r"\]\(([^)#\s:]+)(?:#[^)]*)?\)")
_TOPS = "|".join((*FOLDERS, "tests", "docs", "charts", "manifests", "images", r"\.ci", r"\.github"))
_PATH = re.compile(rf"(?<![\w./~$-])((?:{_TOPS})/[\w./-]*\w/?)")
_NAME = re.compile(r"(?<![\w./-])(seesaw_[a-z_]+(?:\.\w+)+)")


def mentioned(page: Path) -> set[str]:
    """Paths in code and in links, from the root."""
    text = page.read_text()
    paths = {path for code in _CODE.findall(text) for path in _PATH.findall(code)}
    linked = {(page.parent / target).resolve() for target in _LINK.findall(text)}
    return paths | {str(target.relative_to(ROOT)) for target in linked}


@cache
def definitions(file: Path) -> dict[str, set[str]]:
    """What a module defines, and what each of its classes does."""
    found: dict[str, set[str]] = {}
    for node in ast.parse(file.read_text()).body:
        inner = node.body if isinstance(node, ast.ClassDef) else []
        for name in names_of(node):
            found[name] = {n for item in inner for n in names_of(item)}
    return found


def names_of(node: ast.stmt) -> list[str]:
    match node:
        case ast.ClassDef() | ast.FunctionDef() | ast.AsyncFunctionDef():
            return [node.name]
        case ast.Assign():
            return [t.id for t in node.targets if isinstance(t, ast.Name)]
        case ast.AnnAssign(target=ast.Name(id=name)):
            return [name]
        case _:
            return []


def exists(name: str) -> bool:
    """Whether a dotted name is a package, a module, what a module defines, or a class's member."""
    parts = name.split(".")
    for folder in FOLDERS:
        path, rest = ROOT / folder, list(parts)
        while rest and (path / rest[0]).is_dir():
            path /= rest.pop(0)
        if path == ROOT / folder:
            continue
        if not rest:
            return True
        file = path / f"{rest[0]}.py"
        inside = definitions(file if file.exists() else path / "__init__.py")
        rest = rest[1:] if file.exists() else rest
        if not rest:
            return True
        return rest[0] in inside and (len(rest) == 1 or rest[1] in inside[rest[0]])
    return False


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_path_that_a_page_mentions_exists(page: Path) -> None:
    assert {path for path in mentioned(page) if not (ROOT / path).exists()} == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_name_of_our_code_that_a_page_mentions_exists(page: Path) -> None:
    names = set(_NAME.findall(page.read_text()))
    assert {name for name in names if not exists(name)} == set()


def test_a_name_that_is_gone_would_be_found() -> None:
    assert exists("seesaw_core.resharding.policy.PhasePolicy.next_step")
    assert exists("seesaw_worker.modes.resharding")
    assert not exists("seesaw_core.resharding.policy.PhasePolicy.gone")
    assert not exists("seesaw_worker.gone")
    assert not exists("seesaw_worker.modes.resharding.gone.Thing")
