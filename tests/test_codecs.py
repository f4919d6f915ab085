from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import enum
import json
import math
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import (
    Annotated,
    Any,
    Literal,
    NewType,
    NotRequired,
    Required,
    TypedDict,
    cast,
)

import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.codecs import codec_for, verify
from orchestrator.exceptions import InvalidDefinition
from orchestrator.serialization import Misfit


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


@dataclass(frozen=True)
class Tree:
    name: str
    children: list[Tree] = field(default_factory=list)
    color: Color | None = None
    length: int = field(init=False, default=0)


@dataclass(frozen=True)
class Sale:
    at: dt.datetime
    day: dt.date
    price: decimal.Decimal
    number: uuid.UUID
    took: dt.timedelta
    level: Level


@dataclass
class Positive:
    n: int

    def __post_init__(self) -> None:
        if self.n <= 0:
            raise ValueError("n must be positive")


class Address(TypedDict):
    street: str
    zip: NotRequired[str]


class Person(TypedDict, total=False):
    name: Required[str]
    home: Address


class Model(pydantic.BaseModel):
    x: int
    items: list[int] = []
    at: dt.datetime | None = None
    aliased: str = pydantic.Field(default="a", alias="Aliased")


class Root(pydantic.RootModel[list[int]]):
    pass


ShelfId = NewType("ShelfId", int)

VALUES: list[tuple[Any, Any]] = [
    (str, "é"),
    (int, 3),
    (float, 2.5),
    (bool, True),
    (type(None), None),
    (Any, {"a": [1]}),
    (object, [1]),
    (dict, {"a": {"b": 1}}),
    (dict[str, int], {"a": 1}),
    (Mapping[str, list[int]], {"a": [1]}),
    (list, [1, "a"]),
    (list[Tree], [Tree("a")]),
    (Sequence[int], [1]),
    (tuple[int, str], (1, "a")),
    (tuple[int, ...], (1, 2, 3)),
    (tuple, (1, "a")),
    (int | None, None),
    (int | float, 3),
    (int | float | None, 3.5),
    (Literal["a", 1, None], 1),
    (Annotated[int, "note"], 3),
    (ShelfId, ShelfId(3)),
    (Color, Color.BLUE),
    (Level, Level.HIGH),
    (Tree, Tree("a", [Tree("b", color=Color.RED)])),
    (Person, {"name": "n", "home": {"street": "s"}}),
    (Positive, Positive(1)),
    (Tree | None, Tree("a")),
    (list[int] | dict[str, int] | str, {"a": 1}),
    (Model, Model(x=1, items=[2], at=dt.datetime(2026, 1, 1), Aliased="b")),
    (Root, Root([1, 2])),
    (dt.time, dt.time(1, 2, 3)),
    (dt.timedelta, dt.timedelta(days=-1, seconds=3, microseconds=5)),
]


@pytest.mark.parametrize(("kind", "value"), VALUES, ids=str)
def test_a_value_survives_json(kind: Any, value: Any) -> None:
    codec = codec_for(kind)
    verify(codec)
    decoded = codec.decode(json.loads(json.dumps(codec.encode(value))))
    assert decoded == value
    assert type(decoded) is type(value)


@given(
    st.builds(
        Sale,
        at=st.datetimes(timezones=st.just(dt.UTC)),
        day=st.dates(),
        price=st.decimals(allow_nan=False),
        number=st.uuids(),
        took=st.timedeltas(),
        level=st.sampled_from(Level),
    )
)
def test_scalars_that_json_lacks_survive_as_strings(sale: Any) -> None:
    codec = codec_for(Sale)
    plain = codec.encode(sale)
    assert codec.decode(json.loads(json.dumps(plain))) == sale


@pytest.mark.parametrize(
    ("kind", "value", "path", "word"),
    [
        (
            Tree,
            Tree("a", [Tree("b", [Tree(cast(Any, 3))])]),
            "$.children[0].children[0].name",
            "int 3",
        ),
        (Tree, {"name": "a"}, "$", "should be a Tree"),
        (Tree, None, "$", "not None"),
        (int, True, "$", "a whole number, not bool"),
        (int, 1.0, "$", "a whole number"),
        (float, "1", "$", "a number"),
        (str, b"a", "$", "a string"),
        (list[int], "ab", "$", "a list"),
        (list[int], {1}, "$", "a list"),
        (dict[str, int], {"a": "b"}, "$.a", "a whole number"),
        (dict[str, int], [("a", 1)], "$", "an object"),
        (tuple[int, str], (1,), "$", "has 1 items; it should have 2"),
        (tuple[int, str], (1, 2), "$[1]", "a string"),
        (Literal["a"], "b", "$", "one of 'a'"),
        (Color, "red", "$", "a Color"),
        (Person, {"home": {"street": "s"}}, "$", "lacks 'name'"),
        (Person, {"name": "n", "age": 3}, "$", "'age'"),
        (Person, {"name": "n", "home": {"street": 1}}, "$.home.street", "a string"),
        (Tree | None, Tree(cast(Any, 1)), "$.name", "a string"),
        (int | str, 1.5, "$", "or"),
        (Model, {"x": 1}, "$", "a Model"),
        (dt.date, dt.datetime(2026, 1, 1), "$", "a date"),
        (float, 10**400, "$", "fits a float"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_path(
    kind: Any, value: Any, path: Any, word: Any
) -> None:
    with pytest.raises(Misfit) as raised:
        codec_for(kind).encode(value)
    assert raised.value.path == path
    assert word in raised.value.problem


@pytest.mark.parametrize(
    ("kind", "stored", "path", "word"),
    [
        (Tree, {"children": []}, "$", "lacks 'name'"),
        (
            Tree,
            {"name": "a", "children": [{"name": None}]},
            "$.children[0].name",
            "None",
        ),
        (Tree, [], "$", "an object (Tree)"),
        (Positive, {"n": 0}, "$", "n must be positive"),
        (list[Positive], [{"n": 1}, {"n": -1}], "$[1]", "is no Positive"),
        (Color, "green", "$", "one of 'red', 'blue'"),
        (Level, True, "$", "one of"),
        (uuid.UUID, "zzz", "$", "a UUID as a string"),
        (dt.datetime, 3, "$", "a datetime as a string"),
        (dt.timedelta, "soon", "$", "a timedelta as a string"),
        (decimal.Decimal, "x", "$", "a Decimal"),
        (Model, {"x": "a"}, "$.x", "does not fit Model"),
        (Model, {"x": 1, "items": [1, "b"]}, "$.items[1]", "valid integer"),
        (Tree | None, {"name": 1}, "$.name", "a string"),
    ],
)
def test_stored_json_that_no_longer_fits_is_refused_with_its_path(
    kind: Any, stored: Any, path: Any, word: Any
) -> None:
    with pytest.raises(Misfit) as raised:
        codec_for(kind).decode(stored)
    assert raised.value.path == path
    assert word in raised.value.problem


def test_stored_members_that_a_class_no_longer_has_are_left_out() -> None:
    assert codec_for(Tree).decode({"name": "a", "gone": 1}) == Tree("a")
    assert codec_for(Person).decode({"name": "n", "gone": 1}) == {"name": "n"}


def test_a_subclass_is_refused_rather_than_cut_down() -> None:
    @dataclass(frozen=True)
    class Oak(Tree):
        rings: int = 0

    with pytest.raises(Misfit, match="should be a Tree, not Oak"):
        codec_for(Tree).encode(Oak("a", rings=3))


class Plain:
    pass


@dataclass
class HoldsPlain:
    plain: list[Plain]


@dataclass
class Ambiguous:
    either: str | dt.datetime


@dataclass
class Unresolvable:
    thing: NoSuchName  # type: ignore[name-defined] # noqa: F821


@pytest.mark.parametrize(
    "kind",
    [
        Plain,
        HoldsPlain,
        Ambiguous,
        Unresolvable,
        set[int],
        bytes,
        complex,
        dict[int, str],
        Tree | Person,
        str | uuid.UUID,
        Model | Tree,
        Root | None,
        Literal[b"a"],
        enum.Enum("Odd", {"A": 1.5}),
        type[int],
        "Tree",
    ],
    ids=str,
)
def test_a_type_without_a_place_in_json_is_refused(kind: Any) -> None:
    with pytest.raises(InvalidDefinition, match=r"Use|Declare|Import"):
        verify(codec_for(kind))


def test_a_class_may_contain_itself() -> None:
    verify(codec_for(Tree))


def test_any_in_a_union_is_anything() -> None:
    assert codec_for(Any | None).encode({"a": 1}) == {"a": 1}


def test_a_float_takes_ints_and_gives_floats() -> None:
    encoded = codec_for(float).encode(3)
    assert isinstance(encoded, float)
    assert math.isclose(codec_for(float).decode(3), 3.0)


def test_fields_that_the_constructor_does_not_take_are_not_stored() -> None:
    assert "length" in {field.name for field in dataclasses.fields(Tree)}
    assert "length" not in codec_for(Tree).encode(Tree("a"))
