"""What ``mkdocs.yml`` needs beside ``docs/``: pages of the root, and links that a code host and the site both follow.

Links are written as files lie in the repository, such as ``docs/trust.md`` in ``README.md`` and ``../LICENSE`` in
``docs/README.md``. Here they become those of the site: a link to a file that is no part of it becomes its words, and a
link whose words are a page's file name gets that page's heading.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
MOVED = {
    "README.md": "index.md",
    "docs/README.md": "model.md",  # MONAI wants this name, which mkdocs takes for the front page
    "CHANGELOG.md": "changes.md",
    "CITATION.cff": "CITATION.txt",
    "LICENSE": "LICENSE.txt",
}  # file of the repository → of the site
LINK = re.compile(r"(!?)\[((?:[^\[\]]|!?\[[^\]]*\])*)\]\(([^()\s]+)\)")
CODE = re.compile(r"(^ *```.*?^ *```)", re.MULTILINE | re.DOTALL)


def on_files(files: Any, config: Any) -> Any:
    """Add the files of the root under their names in the site, and move ``docs/README.md``."""
    from mkdocs.structure.files import File

    files.remove(files.get_file_from_path("README.md"))
    for there, here in MOVED.items():
        files.append(File.generated(config, here, content=(ROOT / there).read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """The text of a page with links as the site has them."""
    return linked(markdown, origin(page.file.src_uri), {file.src_uri for file in files})


def origin(page: str) -> str:
    """The file of the repository that a page of the site comes from."""
    return next((there for there, here in MOVED.items() if here == page), f"docs/{page}")


def linked(markdown: str, source: str, there: set[str]) -> str:
    """Turn links between files of the repository into links of the site.

    Args:
        markdown: text of a file.
        source: the file, from the root of the repository.
        there: files of the site.

    Returns:
        The text; blocks of code in it are as they were.
    """

    def turned(link: re.Match[str]) -> str:
        image, words, target = link.groups()
        path, mark, place = target.partition("#")
        if not path or "://" in path or path.startswith("mailto:"):
            return link[0]
        file = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
        page = MOVED.get(file, file.removeprefix("docs/"))
        if page not in there and (ROOT / file).exists():
            return words
        if words.endswith(".md") and file.endswith(words.removeprefix("../")):
            words = _title(ROOT / file)
        return f"{image}[{words}]({page}{mark}{place})"

    parts = CODE.split(markdown)
    return "".join(part if number % 2 else LINK.sub(turned, part) for number, part in enumerate(parts))


def _title(page: Path) -> str:
    """The heading of a page, which says more than the name of its file."""
    heading = re.match(r"# (.+)", page.read_text(encoding="utf-8"))
    return heading[1] if heading else page.name
