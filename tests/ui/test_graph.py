"""The layout of graphs: readable whatever the workflow."""

from __future__ import annotations

import re
import time
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator_ui.graph import GAP_X, HEIGHT, WIDTH, Parents, layout, order


@st.composite
def graphs(draw: st.DrawFn) -> Parents:
    """Acyclic, in any order of declaration."""
    size = draw(st.integers(1, 25))
    place = draw(st.permutations(range(size)))  # earlier places come first
    parents = []
    for task in range(size):
        before = [other for other in range(size) if place[other] < place[task]]
        chosen = draw(st.sets(st.sampled_from(before), max_size=4)) if before else ()
        parents.append(tuple(sorted(chosen)))
    return tuple(parents)


@given(graphs())
def test_a_task_stands_to_the_right_of_its_parents(parents: Parents) -> None:
    nodes = layout(parents).nodes
    for task, above in enumerate(parents):
        for parent in above:
            assert nodes[task].x >= nodes[parent].x + WIDTH + GAP_X


@given(graphs())
def test_boxes_never_overlap_and_are_inside_the_drawing(parents: Parents) -> None:
    drawn = layout(parents)
    assert [node.key for node in drawn.nodes] == list(range(len(parents)))
    for node in drawn.nodes:
        assert 0 <= node.x <= drawn.width - WIDTH
        assert 0 <= node.y <= drawn.height - HEIGHT
    for one, other in combinations(drawn.nodes, 2):
        apart_x = abs(one.x - other.x) >= WIDTH
        apart_y = abs(one.y - other.y) >= HEIGHT
        assert apart_x or apart_y


@given(graphs())
def test_lines_are_inside_the_drawing_where_they_bend(parents: Parents) -> None:
    drawn = layout(parents)
    for edge in drawn.edges:
        numbers = [float(n) for n in re.findall(r"[\d.]+", edge.path)]
        assert max(numbers) <= max(drawn.width, drawn.height)
        for y in re.findall(r"[MC ][\d.]+ ([\d.]+)", edge.path):
            assert 0 <= float(y) <= drawn.height


@given(graphs())
def test_what_stands_apart_is_below_all_others(parents: Parents) -> None:
    handler = len(parents)
    drawn = layout((*parents, ()), (handler,))
    assert drawn.apart_y is not None
    *others, apart = drawn.nodes
    assert apart.key == handler
    assert all(node.y + HEIGHT < drawn.apart_y < apart.y for node in others)
    assert apart.y + HEIGHT <= drawn.height
    assert apart.x + WIDTH <= drawn.width
    plain = layout(parents)
    assert tuple(others) == plain.nodes
    assert drawn.edges == plain.edges


@given(graphs())
def test_every_dependency_is_a_line(parents: Parents) -> None:
    drawn = {(edge.parent, edge.child) for edge in layout(parents).edges}
    assert drawn == {(p, task) for task, above in enumerate(parents) for p in above}


@given(graphs())
def test_tasks_are_listed_after_their_parents(parents: Parents) -> None:
    place = {task: index for index, task in enumerate(order(parents))}
    assert len(place) == len(parents)
    for task, above in enumerate(parents):
        assert all(place[parent] < place[task] for parent in above)


def test_a_diamond_has_no_crossings_and_is_symmetric() -> None:
    top, left, right, bottom = layout(((), (0,), (0,), (1, 2))).nodes
    assert top.y == bottom.y
    assert left.x == right.x
    assert left.y < top.y < right.y


def test_crossed_branches_are_untangled() -> None:
    # a→d, b→c: drawn in the order of declaration, the lines would cross.
    nodes = layout(((), (), (1,), (0,))).nodes
    assert (nodes[0].y < nodes[1].y) == (nodes[3].y < nodes[2].y)


@pytest.mark.parametrize("size", [100, 400])
def test_large_graphs_are_laid_out_in_time(size: int) -> None:
    parents = tuple(
        tuple(sorted({(task * 7) % task, (task * 3) % task})) if task else ()
        for task in range(size)
    )
    start = time.perf_counter()
    layout(parents)
    assert time.perf_counter() - start < 5
