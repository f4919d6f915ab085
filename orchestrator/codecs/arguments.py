"""The arguments of a function, as one JSON object `{"args": […], "kwargs": {…}}`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from functools import cached_property
from typing import Any, NamedTuple

from orchestrator.codecs.base import Codec, Convert, Lookup, hints, wrong
from orchestrator.exceptions import InvalidDefinition
from orchestrator.serialization import Misfit, plain_text

_NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
POSITIONAL = (
    inspect.Parameter.POSITIONAL_ONLY,
    inspect.Parameter.POSITIONAL_OR_KEYWORD,
)
_REST = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


class Arguments(NamedTuple):
    """What a function is called with."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]


class _Signature:
    """The parameters of a function; annotations are read at first use."""

    def __init__(
        self, function: Callable[..., Any], takes_context: bool, codec_for: Lookup
    ) -> None:
        self.function = function
        self.codec_for = codec_for
        signature = inspect.signature(function)
        parameters = list(signature.parameters.values())
        if takes_context:
            if not parameters or parameters[0].kind not in POSITIONAL:
                raise InvalidDefinition(
                    f"{function.__qualname__} should take the context as its first "
                    "argument; add one, or leave takes_context=True out."
                )
            parameters = parameters[1:]
        self.signature = signature.replace(parameters=parameters)
        self.parameters = parameters
        positional = [p for p in parameters if p.kind in POSITIONAL]
        needed = [p for p in parameters if p.default is p.empty and p.kind not in _REST]
        # Calls with so many positional arguments and no others surely fit.
        self.fitting = range(
            len(needed) if set(needed) <= set(positional) else len(positional) + 1,
            len(positional) + 1,
        )

    def parts(self) -> Iterable[Codec]:
        return self._codecs.values()

    @cached_property
    def _codecs(self) -> dict[str, Codec]:
        types = hints(self.function)
        return {
            parameter.name: self.codec_for(types.get(parameter.name, Any))
            for parameter in self.parameters
        }

    @cached_property
    def _positional(self) -> list[tuple[str, Codec]]:
        return [
            (parameter.name, self._codecs[parameter.name])
            for parameter in self.parameters
            if parameter.kind in POSITIONAL
        ]

    @cached_property
    def _named(self) -> dict[str, Codec]:
        return {
            parameter.name: self._codecs[parameter.name]
            for parameter in self.parameters
            if parameter.kind in _NAMED
        }

    @cached_property
    def _rest(self) -> dict[inspect._ParameterKind, tuple[str, Codec]]:
        return {
            parameter.kind: (parameter.name, self._codecs[parameter.name])
            for parameter in self.parameters
        }

    @cached_property
    def _exact(self) -> tuple[type, ...] | None:
        """The types of a call's arguments, where they are of JSON's own and no more."""
        types = hints(self.function)
        wanted = [types.get(parameter.name, Any) for parameter in self.parameters]
        if all(kind is int or kind is str or kind is bool for kind in wanted):
            return tuple(wanted)
        return None

    def shortcut(self, value: Any) -> str | None:
        """The text of nearly all calls: positional ints and strings, as declared."""
        if not isinstance(value, Arguments):
            return None
        args = value.args
        if value.kwargs or tuple(map(type, args)) != self._exact:
            return None
        text = plain_text(args)
        return None if text is None else f'{{"args":{text},"kwargs":{{}}}}'

    def encode(self, value: Any) -> dict[str, Any]:
        if not isinstance(value, Arguments):
            raise wrong("made by the task's own bind()", value)
        self._bind(value)
        args, kwargs = self._convert(value, lambda codec: codec.encode)
        return {"args": args, "kwargs": kwargs}

    def decode(self, value: Any) -> Arguments:
        args = value.get("args") if isinstance(value, dict) else None
        kwargs = value.get("kwargs") if isinstance(value, dict) else None
        if not isinstance(args, list) or not isinstance(kwargs, dict):
            raise wrong('an object of "args" and "kwargs"', value)
        arguments = Arguments(tuple(args), kwargs)
        # The function may have changed since the call was stored.
        self._bind(arguments)
        args, kwargs = self._convert(arguments, lambda codec: codec.decode)
        return Arguments(tuple(args), kwargs)

    def _bind(self, value: Arguments) -> None:
        if not value.kwargs and len(value.args) in self.fitting:
            return
        try:
            self.signature.bind(*value.args, **value.kwargs)
        except TypeError as error:
            name = f"{self.function.__name__}{self.signature}"
            raise Misfit(f"does not fit {name}: {error}") from None

    def _convert(
        self, value: Arguments, direction: Callable[[Codec], Convert]
    ) -> tuple[list[Any], dict[str, Any]]:
        step: list[str | int] = []
        try:
            args = []
            for index, item in enumerate(value.args):
                if index < len(self._positional):
                    name, codec = self._positional[index]
                    step = [name]
                else:
                    name, codec = self._rest[inspect.Parameter.VAR_POSITIONAL]
                    step = [index - len(self._positional), name]
                args.append(direction(codec)(item))
            kwargs = {}
            for name, item in value.kwargs.items():
                step = [name]
                known = self._named.get(name)
                if known is None:
                    _, known = self._rest[inspect.Parameter.VAR_KEYWORD]
                kwargs[name] = direction(known)(item)
        except Misfit as misfit:
            misfit.steps.extend(step)
            raise misfit from None
        return args, kwargs


def arguments_codec(
    function: Callable[..., Any], *, takes_context: bool, codec_for: Lookup
) -> Codec:
    """The codec of `Arguments` of a function, each by its annotation.

    Raises InvalidDefinition where the function cannot take a context and should.
    """
    members = _Signature(function, takes_context, codec_for)
    return Codec(
        f"the arguments of {function.__name__}",
        frozenset({"object"}),
        members.encode,
        members.decode,
        members.parts,
        members.shortcut,
    )
