"""MkDocs hooks: pages from the root of the repository, and links that leave the docs folder.

The pages are written so that they read well on a code host, where a link to a source file works.
The site has no source files: with ``repo_url`` in mkdocs.yml such a link goes there, and without
it becomes the path. A link to what does not exist is a warning, and so fails the strict build.
"""

import logging
import os
import re
from pathlib import Path, PurePosixPath

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

logger = logging.getLogger("mkdocs.hooks.seesaw")

ROOT = Path(__file__).parents[2]
ROOT_PAGES = {
    "ARCHITECTURE.md": "architecture.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "README.md": "index.md",
    "SECURITY.md": "security.md",
}
_LINK = re.compile(r"(?<!!)\[(?P<text>[^\]]+)\]\((?P<target>[^)#\s:]+)(?P<anchor>#[^)\s]*)?\)")
_CODE = re.compile(r"(^```.*?^```)", re.MULTILINE | re.DOTALL)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that live at the root of the repository."""
    for name, uri in ROOT_PAGES.items():
        if uri not in files.src_uris:
            files.append(File.generated(config, uri, content=(ROOT / name).read_text()))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001
    """Point each relative link to where its target is in the site."""
    source = _source_of(page.file.src_uri)

    def replaced(link: re.Match[str]) -> str:
        target = os.path.normpath(source.parent / link["target"])
        inside = _page_of(target)
        if inside is not None:
            back = os.path.relpath(inside, PurePosixPath(page.file.src_uri).parent)
            return f"[{link['text']}]({back}{link['anchor'] or ''})"
        if not (ROOT / target).exists():
            logger.warning("%s links to %s, which is not there", source, target)
        if config.repo_url:
            return f"[{link['text']}]({config.repo_url.rstrip('/')}/blob/main/{target})"
        return link["text"] if target in link["text"] else f"{link['text']} (`{target}`)"

    parts = _CODE.split(markdown)  # odd parts are blocks of code
    linked = "\0".join(parts[::2])
    texts = _LINK.sub(replaced, linked).split("\0")
    return "".join(t + c for t, c in zip(texts, [*parts[1::2], ""], strict=True))


def _source_of(uri: str) -> PurePosixPath:
    names = {page: name for name, page in ROOT_PAGES.items() if page != "index.md"}
    return PurePosixPath(names.get(uri) or f"docs/{uri}")


def _page_of(target: str) -> str | None:
    """Where the site has a file of the repository; None if it has not."""
    if target in ROOT_PAGES:
        return ROOT_PAGES[target]
    if target.startswith("docs/"):
        return target.removeprefix("docs/")
    return None
