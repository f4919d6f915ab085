"""The boundary between Python and stored JSON.

Nothing is stored that cannot be read again. The decoded value is walked, never the
text of it: strings that PostgreSQL refuses, numbers that are no JSON, huge numbers,
deep nesting, keys that are not strings and oversize values are refused with the path
of the place, or made safe where a task has already done its work.
"""

from __future__ import annotations

import json
import math
import traceback
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from json import encoder
from types import TracebackType
from typing import Any

from orchestrator.conf import settings
from orchestrator.exceptions import InvalidInput, InvalidOutput, InvalidValue

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


class Misfit(Exception):
    """A value that does not fit, found below the place that `path` will name.

    `inside` says that the value is of the wanted kind and fails for what it holds.
    """

    def __init__(self, problem: str, *, inside: bool = False) -> None:
        super().__init__(problem)
        self.problem = problem
        self.inside = inside
        self.steps: list[str | int] = []

    def under(self, step: str | int) -> Misfit:
        """Say in which key or index it was found, from the inside out."""
        self.steps.append(step)
        return self

    @property
    def path(self) -> str:
        """The place, such as `$.lines[3].sku`."""
        text = "$"
        for step in reversed(self.steps):
            if isinstance(step, int):
                text += f"[{step}]"
            elif step.isidentifier():
                text += f".{step}"
            else:
                text += f"[{json.dumps(step)}]"
        return text


class _BadText(Misfit):
    """A string that cannot be stored, which `sanitise` can mend."""


def dumps(value: object, *, limit: int, what: str, sanitise: bool = False) -> str:
    """`value`, made of JSON's own types, as JSON text of at most `limit` bytes.

    `what` names it in errors. With `sanitise`, NUL and lone surrogates become U+FFFD
    instead of being refused: for what a task has already produced.

    Raises InvalidInput, or InvalidOutput with `sanitise`, naming the path.
    """
    try:
        try:
            _check(value, settings.max_nesting, _bound())
        except _BadText:
            if not sanitise:
                raise
            value = _sanitised(value)
            _check(value, settings.max_nesting, _bound())
    except Misfit as misfit:
        raise invalid(misfit, what=what, output=sanitise) from None
    text = _encode(value)
    size = len(text) if text.isascii() else len(text.encode())
    if size > limit:
        problem = (
            f"takes {size:,} bytes as JSON, more than the {limit:,} allowed; store "
            "what is large elsewhere and pass a reference to it"
        )
        raise invalid(Misfit(problem), what=what, output=sanitise)
    return text


def plain_text(values: Sequence[int | str]) -> str | None:
    """What `dumps` makes of ints and ASCII strings; None where it would refuse one.

    Its size is the caller's to check.
    """
    bound = _bound()
    for value in values:
        if type(value) is str:
            if "\0" in value or not value.isascii():
                return None
        elif not -bound < int(value) < bound:
            return None
    return _encode(values)


def loads(text: str) -> Any:
    """The value of JSON text that `dumps` made."""
    return json.loads(text)


def invalid(misfit: Misfit, *, what: str, output: bool = False) -> InvalidValue:
    """The error to raise for a misfit in an input or an output."""
    kind = InvalidOutput if output else InvalidInput
    return kind(f"{what}: {misfit.path} {misfit.problem}.", path=misfit.path)


def _encoding() -> Callable[[Any], str]:
    plain = json.JSONEncoder(
        ensure_ascii=False, check_circular=False, allow_nan=False, separators=(",", ":")
    )
    make = getattr(encoder, "c_make_encoder", None)
    if make is None:  # an interpreter without the accelerator
        return plain.encode
    # `encode` makes one of these for every value, which costs more than its use.
    quote = encoder.encode_basestring
    pieces = make(None, plain.default, quote, None, ":", ",", False, False, False)
    return lambda value: "".join(pieces(value, 0))


_encode = _encoding()


def _check(value: Any, depth: int, bound: int) -> None:
    # The exact types come first: they are nearly all there is.
    kind = type(value)
    if kind is str:
        _check_text(value)
    elif kind is bool or value is None:
        return
    elif kind is dict or isinstance(value, dict):
        _check_object(value, depth - 1, bound)
    elif kind is list or isinstance(value, list | tuple):
        if depth <= 0:
            raise Misfit(_too_deep())
        index = -1
        try:
            for index, item in enumerate(value):  # noqa: B007 - read when it failed
                _check(item, depth - 1, bound)
        except Misfit as misfit:
            raise misfit.under(index) from None
    elif isinstance(value, int | float):
        if isinstance(value, float) and not math.isfinite(value):
            raise Misfit(f"is {value!r}, which JSON does not have; use None")
        # A float, too: jsonb writes out all of its digits, and they are read as an int.
        if not -bound < value < bound:
            raise Misfit(
                f"is a number of more than {settings.max_number_digits} digits; "
                "pass it as a string"
            )
    elif isinstance(value, str):
        _check_text(value)
    else:
        raise Misfit(_not_json(value))


def _check_object(value: Mapping[Any, Any], depth: int, bound: int) -> None:
    if depth < 0:
        raise Misfit(_too_deep())
    key: object = None
    try:
        for key, item in value.items():
            if not isinstance(key, str):
                break
            _check_text(key)
            _check(item, depth, bound)
        else:
            return
    except Misfit as misfit:
        raise misfit.under(str(key)) from None
    raise Misfit(
        f"has the key {_brief(key)} of type {type(key).__name__}; "
        "JSON has only strings as keys"
    )


def _check_text(text: str) -> None:
    if "\0" in text:
        raise _BadText("contains NUL, which PostgreSQL cannot store; remove it")
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise _BadText(
                "contains a lone surrogate, which is no valid text; decode it with "
                "errors='replace'"
            ) from None


def _too_deep() -> str:
    return (
        f"is nested deeper than {settings.max_nesting} levels, or contains itself; "
        "flatten it"
    )


def _not_json(value: object) -> str:
    name = type(value).__name__
    return (
        f"is of type {name}, which is not JSON; convert it to a string, number, list "
        "or dict, or declare its type in a dataclass"
    )


def _bound() -> int:
    return _power_of_ten(settings.max_number_digits)


@lru_cache(maxsize=8)
def _power_of_ten(digits: int) -> int:
    return int(10**digits)


def _sanitised(value: object) -> object:
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, dict):
        result: dict[object, object] = {}
        for key, item in value.items():
            safe = clean(key) if isinstance(key, str) else key
            if safe in result:
                raise Misfit(
                    f"has two keys that are both {_brief(safe)} once made storable"
                )
            result[safe] = _sanitised(item)
        return result
    if isinstance(value, list | tuple):
        return [_sanitised(item) for item in value]
    return value


def clean(text: str) -> str:
    """`text` with U+FFFD for NUL and for each lone surrogate."""
    if "\0" in text:
        text = text.replace("\0", REPLACEMENT)
    if text.isascii():
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _brief(value: object) -> str:
    return shortened(safe_repr(value), 80)


def shortened(text: str, limit: int) -> str:
    """At most `limit` bytes of `text` as UTF-8: its head and its tail."""
    data = text.encode("utf-8", "replace")
    if len(data) <= limit:
        return text
    mark = f" … {len(data):,} bytes … " if limit > 200 else "…"
    half = max(0, (limit - len(mark.encode())) // 2)
    head, tail = data[:half], data[len(data) - half :]
    return head.decode("utf-8", "ignore") + mark + tail.decode("utf-8", "ignore")


def safe_repr(value: object) -> str:
    """`repr(value)`, whatever that may raise."""
    try:
        return repr(value)
    except BaseException:  # user code at the boundary: nothing may escape from it
        return f"<{type(value).__name__} whose repr() failed>"


def error_dict(exception: BaseException) -> dict[str, str]:
    """An exception as `{"type", "message", "traceback"}`, safe to store.

    Whatever its `__str__` raises, however long it is and whatever it contains; at most
    `ORCHESTRATOR["MAX_ERROR_BYTES"]` together. Frames of the engine itself above the
    task are left out.
    """
    limit = settings.max_error_bytes
    kind = type(exception)
    name = kind.__qualname__
    if kind.__module__ not in ("builtins", "__main__"):
        name = f"{kind.__module__}.{name}"
    return {
        "type": clean(shortened(name, 200)),
        "message": clean(shortened(_message(exception), limit // 8)),
        "traceback": clean(shortened(_traceback(exception), limit * 3 // 4)),
    }


def error_json(exception: BaseException) -> str:
    """`error_dict` as JSON text."""
    return _encode(error_dict(exception))


def _message(exception: BaseException) -> str:
    try:
        return str(exception)
    except BaseException:  # user code at the boundary: nothing may escape from it
        return f"<{type(exception).__name__} whose str() failed>"


def _traceback(exception: BaseException) -> str:
    try:
        lines = traceback.format_exception(
            type(exception), exception, _of_the_task(exception.__traceback__)
        )
        return "".join(lines)
    except BaseException as failure:
        return f"<no traceback: {type(failure).__name__} while formatting it>"


def _of_the_task(trace: TracebackType | None) -> TracebackType | None:
    start = trace
    while start is not None:
        module = str(start.tb_frame.f_globals.get("__name__", ""))
        if module.partition(".")[0] not in ("orchestrator", "asgiref"):
            return start
        start = start.tb_next
    return trace
