"""What the site needs beside docs/: pages of files above it, links that hold on GitHub and here, anchors as there.

Pages link to files of the repository by relative paths, so that GitHub shows them. Here those above docs/ become pages
of their own, and a folder becomes a page that lists its files.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[2]
DOCS = "docs"
ABOVE = {
    "README.md": "project/readme.md",
    "CONTRIBUTING.md": "project/contributing.md",
    "CHANGELOG.md": "project/changelog.md",
    "examples": "project/examples.md",
    "LICENSE": "project/license.txt",
}
"""Place in the repository -> place in the site."""
FENCE = re.compile(r"^ *(```|~~~).*?^ *\1 *$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(\]\()([^)\s]+)(\))")


def on_config(config: Any) -> Any:
    """Make anchors of headings as GitHub does, so that links to them hold in both places."""
    config["mdx_configs"].setdefault("toc", {})["slugify"] = github_anchor
    return config


def github_anchor(heading: str, separator: str) -> str:
    """The anchor of a heading: small letters, no punctuation, a dash for each space."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", separator)


def on_files(files: Files, config: Any) -> Files:
    """Add pages of files above docs/, files of examples/, and a page for each folder that is linked."""
    for source, place in ABOVE.items():
        if source != "examples":
            files.append(File.generated(config, place, content=(ROOT / source).read_text(encoding="utf-8")))
    examples = sorted(file for file in (ROOT / "examples").iterdir() if file.is_file())
    for file in examples:
        files.append(File.generated(config, f"project/examples/{file.name}", abs_src_path=str(file)))
    files.append(File.generated(config, "project/examples.md", content=_examples_page(examples)))
    for folder in sorted(set(_linked_folders())):
        files.append(File.generated(config, f"{folder}/files.md", content=_folder_page(folder)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Point links of the repository to their places in the site."""
    source = page.file.src_uri
    home = next((above for above, place in ABOVE.items() if place == source), f"{DOCS}/{source}")
    return _outside_code(markdown, lambda text: LINK.sub(lambda found: _moved(found, home, source), text))


def _moved(found: re.Match[str], home: str, source: str) -> str:
    target, hash_mark, anchor = found[2].partition("#")
    if not target or re.match(r"[a-z]+:", target):
        return found[0]
    place = site_place(posixpath.normpath(posixpath.join(posixpath.dirname(home), target)))
    relative = posixpath.relpath(place, posixpath.dirname(source) or ".")
    return f"{found[1]}{relative}{hash_mark}{anchor}{found[3]}"


def site_place(path: str) -> str:
    """The place in the site of a file or folder of the repository."""
    if path in ABOVE:
        return ABOVE[path]
    if path.startswith("examples/"):
        return f"project/{path}"
    inside = posixpath.relpath(path, DOCS)
    return f"{inside}/files.md" if (ROOT / path).is_dir() else inside


def _outside_code(text: str, change: Any) -> str:
    """Change what stands outside of fenced blocks."""
    parts, end = [], 0
    for block in FENCE.finditer(text):
        parts += [change(text[end : block.start()]), block[0]]
        end = block.end()
    return "".join([*parts, change(text[end:])])


def _linked_folders() -> Iterator[str]:
    """Folders below docs/ that pages link to, by their paths below docs/."""
    for page in [*(ROOT / DOCS).rglob("*.md"), *ROOT.glob("*.md")]:
        for _, target, _ in LINK.findall(FENCE.sub("", page.read_text(encoding="utf-8"))):
            if not re.match(r"[a-z]+:|#", target):
                folder = (page.parent / target.partition("#")[0]).resolve()
                if folder.is_dir() and folder.is_relative_to(ROOT / DOCS):
                    yield folder.relative_to(ROOT / DOCS).as_posix()


def _folder_page(folder: str) -> str:
    names = sorted(file.name for file in (ROOT / DOCS / folder).iterdir() if file.suffix in (".md", ".json", ".gz"))
    return "\n".join([f"# {folder}", "", *(f"- [{name}]({name})" for name in names), ""])


def _examples_page(examples: list[Path]) -> str:
    parts = ["# Examples", "", "Short scripts that use the package, or `augment` and `models` as plain libraries."]
    for file in examples:
        parts += ["", f"## {file.name}", "", f"[{file.name}](examples/{file.name})"]
        if file.suffix == ".py":
            parts += ["", "```python", file.read_text(encoding="utf-8").rstrip(), "```"]
    return "\n".join([*parts, ""])
