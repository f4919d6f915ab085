"""Made distributions, laid out on disk as an installer lays them out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from sample_project.library.installed import Installed


def make_distribution(
    site: Path,
    name: str,
    files: Mapping[str, bytes | str],
    *,
    version: str = "1.0",
    readme: str = "",
    metadata: bytes | None = None,
    listed: tuple[str, ...] = (),
) -> Installed:
    """Install `files` and a `.dist-info` in `site`. `listed` are more lines of the
    RECORD, whatever they name."""
    info = site / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    if metadata is None:
        head = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        metadata = f"{head}\n{readme}".encode()
    (info / "METADATA").write_bytes(metadata)
    for path, content in files.items():
        target = site / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content.encode() if isinstance(content, str) else content)
    own = [f"{info.name}/METADATA", f"{info.name}/RECORD"]
    lines = [f"{path},," for path in [*files, *own, *listed]]
    (info / "RECORD").write_text("\n".join(lines) + "\n")
    return Installed(name, version, str(site))


NASTY: Mapping[str, bytes | str] = {
    "pkg/__init__.py": '"""The package."""\n',
    "pkg/shapes.py": '''
"""Shapes."""
class Shape:
    """A shape."""
    def area(self):
        """Square metres."""
        class Inner:
            """Inside a function."""
    async def measure(self):
        """Asynchronously."""
if True:
    def twice():
        """First."""
else:
    def twice():
        """Second."""
def silent(): pass
def blank():
    """   """
''',
    "pkg/latin.py": '# -*- coding: latin-1 -*-\n"""Café."""\n'.encode("latin-1"),
    "pkg/bom.py": b'\xef\xbb\xbf"""With a mark."""\n',
    "pkg/feed.py": '\x0c"""After a form feed."""\n\x0c\ndef f():\n    """F."""\n',
    "pkg/strange.py": '"""NUL \\0 and surrogate \\ud800 in a docstring."""\n',
    "pkg/tags.py": '"""Beware <script>alert(1)</script> wombats."""\n',
    "pkg/empty.py": b"",
    "pkg/not_utf8.py": b'"""Caf\xe9."""\n',
    "pkg/wrong.py": "def f(:\n",
    "pkg/nul.py": b'"""Doc."""\0\n',
}
"""Files of one made distribution: 12 documents in its sources, and 4 broken files."""

NASTY_BROKEN = {"pkg/empty.py", "pkg/not_utf8.py", "pkg/wrong.py", "pkg/nul.py"}
