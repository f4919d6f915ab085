"""A Sphinx extension that draws Mermaid state diagrams as SVG, without JavaScript.

GitHub draws a `mermaid` block by itself. For the built pages it is laid out here as the
admin lays out workflows; an arrow back to an earlier state is a dashed arc underneath.
"""

from __future__ import annotations

import re
import sys
from html import escape
from pathlib import Path
from typing import Any

from docutils import nodes

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from orchestrator_ui.graph import Edge, Node, layout

ARROW = re.compile(r"^\s*(\S+) --> (\S+)$", re.MULTILINE)
DEPTH = 26  # pixels that an arc hangs below the lowest box

HEAD = (
    '<svg class="states" viewBox="0 0 {width} {height}" width="100%" role="img"'
    ' style="max-width:{width}px" xmlns="http://www.w3.org/2000/svg"'
    ' fill="none" stroke="currentColor" font-size="{size}" font-family="inherit">'
    "<title>{title}</title>"
    '<defs><marker id="head" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="9"'
    ' markerHeight="9" orient="auto-start-reverse"><path d="M0 0L8 4L0 8z"'
    ' fill="currentColor" stroke="none"/></marker></defs>'
)


def draw(source: str) -> str:
    """The SVG of a state diagram."""
    arrows = ARROW.findall(source)
    names = list(dict.fromkeys(name for name, _ in arrows))
    ends = {name for name, after in arrows if after == "[*]"}
    number = {name: index for index, name in enumerate(names)}
    edges = [(number[a], number[b]) for a, b in arrows if b != "[*]"]
    back = _back_edges(len(names), edges)
    parents = tuple(
        tuple(a for a, b in edges if b == child and (a, b) not in back)
        for child in range(len(names))
    )
    drawn = layout(parents)
    box = {node.key: node for node in drawn.nodes}
    height = max(drawn.height, *map(_lowest, drawn.edges)) + (DEPTH if back else 2)
    title = f"States: {', '.join(names)}"
    parts = [
        HEAD.format(
            width=drawn.width,
            height=height,
            size=15 if drawn.width < 800 else 21,
            title=escape(title),
        )
    ]
    for edge in drawn.edges:
        parts.append(f'<path d="{edge.path}" opacity="0.6" marker-end="url(#head)"/>')
    for a, b in sorted(back):
        parts.append(
            f'<path d="{_arc(box[a], box[b], height)}" opacity="0.6"'
            ' stroke-dasharray="5 4" marker-end="url(#head)"/>'
        )
    for name in names:
        parts.append(_box(box[number[name]], name, ended=name in ends))
    return "".join([*parts, "</svg>"])


def _lowest(edge: Edge) -> int:
    """The greatest y of a line, which may bend below all boxes."""
    return max(int(y) for y in re.findall(r"\d+ (\d+)", edge.path))


def _back_edges(count: int, edges: list[tuple[int, int]]) -> set[tuple[int, int]]:
    """The edges that close a circle, found by walking from the first state on."""
    after = {n: [b for a, b in edges if a == n] for n in range(count)}
    back, open_, seen = set(), set(), set()

    def walk(state: int) -> None:
        seen.add(state)
        open_.add(state)
        for following in after[state]:
            if following in open_:
                back.add((state, following))
            elif following not in seen:
                walk(following)
        open_.discard(state)

    for state in range(count):
        if state not in seen:
            walk(state)
    return back


def _arc(start: Node, end: Node, floor: int) -> str:
    x, y = start.x + start.width * 2 // 5, start.y + start.height
    to_x, to_y = end.x + end.width * 3 // 5, end.y + end.height
    return f"M{x} {y}C{x} {floor} {to_x} {floor} {to_x} {to_y}"


def _box(node: Node, name: str, *, ended: bool) -> str:
    middle_x, middle_y = node.x + node.width // 2, node.y + node.height // 2
    return (
        f'<rect x="{node.x}" y="{node.y}" width="{node.width}" height="{node.height}"'
        f' rx="8" stroke-width="{3 if ended else 1.5}"/>'
        f'<text x="{middle_x}" y="{middle_y}" text-anchor="middle"'
        f' dominant-baseline="central" fill="currentColor" stroke="none">'
        f"{escape(name)}</text>"
    )


def _replace(app: Any, doctree: nodes.document) -> None:
    for block in list(doctree.findall(nodes.literal_block)):
        if block.get("language") == "mermaid":
            block.replace_self(nodes.raw("", draw(block.astext()), format="html"))


def setup(app: Any) -> dict[str, bool]:
    """Called by Sphinx."""
    app.connect("doctree-read", _replace)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
