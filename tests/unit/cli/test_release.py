"""A release is refused while versions differ or the changelog is open."""

import tomllib
from pathlib import Path

import pytest

from release import __main__ as release

ROOT = Path(__file__).parents[3]


def test_all_files_have_one_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert list(release.versions(version)) == []


def test_each_file_with_another_version_is_named() -> None:
    faults = list(release.versions("0.0.0"))
    assert {fault.partition(":")[0] for fault in faults} == set(release.VERSIONS)


@pytest.mark.parametrize(
    ("titles", "unreleased", "says"),
    [
        pytest.param(["[1.2.0] - 2026-01-31"], False, "", id="closed"),
        pytest.param(["[Unreleased]", "[1.2.0] - 2026-01-31"], False, "Unreleased", id="open"),
        pytest.param(["[Unreleased]", "[1.2.0] - 2026-01-31"], True, "", id="open, and may be"),
        pytest.param(["[1.1.0] - 2026-01-31"], False, "newest entry", id="of another version"),
        pytest.param(["[1.2.0]"], False, "newest entry", id="without a date"),
    ],
)
def test_the_changelog_must_be_closed_by_version_and_date(
    titles: list[str], unreleased: bool, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(release, "ROOT", tmp_path)
    text = "# Changelog\n\n" + "\n".join(f"## {title}\n" for title in titles)
    (tmp_path / "CHANGELOG.md").write_text(text)
    faults = list(release.changelog("1.2.0", unreleased=unreleased))
    assert len(faults) == bool(says)
    assert says in "".join(faults)
