"""Frozen dataclasses as plain values: fields checked, to and from JSON, changed by name.

A field's annotation says what it may be. `Range` and the names made of it (`Count`, `Share`, ...) bound
numbers; a `Literal` lists words; a dataclass admits itself and its subclasses. A `Dataset` is written by
its name, since no file can hold how it is read, unless it says that it is `recorded`.
"""

import dataclasses
import inspect
import math
from collections.abc import Iterator
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from firstspike.data import Dataset
from firstspike.support import MAX_NUM_STEPS, InputError, check_dataclass

_T = TypeVar("_T")


@dataclass(frozen=True)
class Range:
    """Bounds of a number: ``low ... high``, without `low` where `above`, without `high` where `below`."""

    low: float
    high: float = math.inf
    above: bool = False
    below: bool = False

    def holds(self, value: float) -> bool:
        """Return whether `value` lies within."""
        low = value > self.low if self.above else value >= self.low
        return low and (value < self.high if self.below else value <= self.high)

    def __str__(self) -> str:
        """Return the bounds in words."""
        if math.isinf(self.high):
            return f"above {self.low:g}" if self.above else f"of {self.low:g} or more"
        ends = f"in {self.low:g} ... {self.high:g}"
        out = [f"{end:g}" for end, open_ in ((self.low, self.above), (self.high, self.below)) if open_]
        return f"{ends}, {' and '.join(out)} excluded" if out else ends


Count = Annotated[int, Range(1)]
Steps = Annotated[int, Range(2, MAX_NUM_STEPS)]
NotNegative = Annotated[float, Range(0)]
# More than any loss needs, and less than float32 holds.
Rate = Annotated[float, Range(0, 1e6, above=True)]
Positive = Annotated[float, Range(0, above=True)]
Share = Annotated[float, Range(0, 1)]
ShareBelowOne = Annotated[float, Range(0, 1, below=True)]


@dataclass(frozen=True, kw_only=True)
class Checked:
    """A value whose fields are checked against their annotations when it is made.

    Raises:
        TypeError: a subclass that is no dataclass, so that its fields would be lost.
        ValueError: a field of another type, a word that is none of the choices, a number that is not finite
            or out of range.
    """

    def __post_init__(self) -> None:
        check_dataclass(self)
        for name, kind in field_kinds(type(self)).items():
            value = getattr(self, name)
            if not _fits(value, kind):
                raise ValueError(
                    f"{type(self).__name__}.{name} must be {_said(kind)}; found {_shown(value)}"
                )


def field_kinds(cls: type) -> dict[str, Any]:
    """Return what each field of a dataclass may be, by name; those that it derives are left out."""
    hints = get_type_hints(cls, include_extras=True)
    return {field.name: hints[field.name] for field in dataclasses.fields(cls) if field.init}


def to_json(value: Any) -> Any:
    """Return a configuration as plain JSON values, each dataclass with its name under "type"."""
    if isinstance(value, Dataset) and not value.recorded:
        return value.name
    if dataclasses.is_dataclass(value):
        kinds = field_kinds(type(value))
        return {"type": type(value).__name__, **{name: to_json(getattr(value, name)) for name in kinds}}
    return [to_json(item) for item in value] if isinstance(value, tuple) else value


def matches(written: Any, value: Any) -> bool:
    """Return whether JSON that `to_json` wrote says what `value` is.

    A field that its class had not yet when it was written counts as the field's default.
    """
    if not _is_value(value):
        return bool(written == to_json(value))
    if not isinstance(written, dict) or written.get("type") != type(value).__name__:
        return False
    known = {field.name: field for field in dataclasses.fields(value) if field.init}
    if not written.keys() - {"type"} <= known.keys():
        return False
    return all(
        matches(written[name], getattr(value, name))
        if name in written
        else getattr(value, name) == _default(field)
        for name, field in known.items()
    )


def _default(field: "dataclasses.Field[Any]") -> Any:
    """A field's default; MISSING, which equals nothing, where it has none."""
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


def from_json(value: Any, kind: type[_T]) -> _T:
    """Return the configuration that `to_json` wrote.

    Classes are found by name among the dataclasses that `kind`, and then each field's annotation, admits:
    the class itself and its subclasses in modules that are imported already. So reading runs no foreign
    code.

    Args:
        value: what came from JSON.
        kind: what it may be.

    Raises:
        InputError: an unknown type, a missing or unknown field, or a value that a field refuses.
    """
    found = _read(value, kind)
    if not _fits(found, kind):
        raise InputError(f"configuration must be {_said(kind)}; found {_shown(value)}")
    return cast(_T, found)


def flat(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every field of a dataclass and of those within by its dotted name.

    A dataclass within comes first itself, as the name of its class.
    """
    for field in dataclasses.fields(value):
        inner, name = getattr(value, field.name), prefix + field.name
        if _is_value(inner):
            yield name, type(inner).__name__
            yield from flat(inner, f"{name}.")
        else:
            yield name, inner.identity if isinstance(inner, Dataset) else inner


def changed(value: _T, name: str, text: str) -> _T:
    """Return a copy of a dataclass in which the field `name` is what `text` says.

    Args:
        value: the dataclass.
        name: of a field; dotted for one of a dataclass within, as ``neuron.scale``.
        text: a number, a word, true or false, none, numbers with commas for a tuple, or the name of a class
            for that class with its defaults.

    Raises:
        InputError: there is no such field, `text` is nothing that it can be, or the dataclass refuses it.
    """
    first, _, rest = name.partition(".")
    kinds = field_kinds(type(value))
    if first not in kinds:
        raise InputError(f"{type(value).__name__} has no field {first!r}; it has {', '.join(kinds)}")
    inner, owner = getattr(value, first), f"{type(value).__name__}.{first}"
    if rest and not _is_value(inner):
        raise InputError(f"{owner} is {inner!r} and has no fields within")
    new = changed(inner, rest, text) if rest else _parsed(text, kinds[first], owner)
    try:
        return dataclasses.replace(value, **{first: new})  # type: ignore[type-var]
    except (TypeError, ValueError) as error:
        raise InputError(str(error)) from error


def _is_value(value: Any) -> bool:
    return dataclasses.is_dataclass(value) and not isinstance(value, type | Dataset)


def _leaves(kind: Any) -> list[Any]:
    """The kinds that an annotation joins, marks left out."""
    origin = get_origin(kind)
    if origin is Annotated:
        return _leaves(get_args(kind)[0])
    if origin in (Union, UnionType):
        return [leaf for choice in get_args(kind) for leaf in _leaves(choice)]
    return [kind]


def _classes(kind: Any) -> Iterator[type]:
    """The dataclasses of which an annotation admits values, in the order of their making."""
    for leaf in _leaves(kind):
        if isinstance(leaf, type):
            if dataclasses.is_dataclass(leaf) and not inspect.isabstract(leaf):
                yield leaf
            heir: type
            for heir in leaf.__subclasses__():
                yield from _classes(heir)


def _fits(value: Any, kind: Any) -> bool:
    origin, choices = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _fits(value, choices[0]) and all(mark.holds(value) for mark in choices[1:])
    if origin in (Union, UnionType):
        return any(_fits(value, choice) for choice in choices)
    if origin is Literal:
        return any(type(value) is type(choice) and value == choice for choice in choices)
    if origin is tuple:
        if not isinstance(value, tuple):
            return False
        inner = choices[:1] * len(value) if choices[-1] is Ellipsis else choices
        return len(value) == len(inner) and all(map(_fits, value, inner))
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, origin or kind)


_WORDS: dict[Any, str] = {
    int: "an integer",
    float: "a finite number",
    bool: "true or false",
    str: "text",
    NoneType: "none",
}


def _said(kind: Any) -> str:
    """What an annotation admits, in words."""
    origin, choices = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return " ".join([_said(choices[0]), *map(str, choices[1:])])
    if origin in (Union, UnionType):
        return " or ".join(map(_said, choices))
    if origin is Literal:
        return f"one of {', '.join(map(str, choices))}"
    if origin is tuple:
        return f"a tuple ({', '.join('...' if c is Ellipsis else _said(c) for c in choices)})"
    name = _WORDS.get(kind) or str(getattr(kind, "__name__", kind))
    return f"a kind of {name}" if inspect.isabstract(kind) else name


def _shown(value: Any) -> str:
    """A value in one line that is not too long."""
    return " ".join(f"{value!r:.200}".split())


def _read(value: Any, kind: Any) -> Any:
    if isinstance(value, list):
        inner = [get_args(leaf)[0] for leaf in _leaves(kind) if get_origin(leaf) is tuple]
        return tuple(_read(item, inner[0] if inner else Any) for item in value)
    if not isinstance(value, dict):
        return value
    named = [cls for cls in _classes(kind) if cls.__name__ == value.get("type")]
    if not named:
        known = ", ".join(dict.fromkeys(cls.__name__ for cls in _classes(kind)))
        raise InputError(
            f"configuration of unknown type {value.get('type')!r}: expected one of {known}; import the "
            "module that defines another one first"
        )
    given = value.keys() - {"type"}
    # A name may be taken twice; what was written tells which class is meant.
    cls = ([c for c in named if field_kinds(c).keys() == given] or named)[-1]
    kinds = field_kinds(cls)
    if given != kinds.keys():
        differ = ", ".join(sorted(given ^ kinds.keys()))
        raise InputError(
            f"{cls.__name__} in the configuration has missing or unknown fields: {differ} "
            "(made by another version of firstspike)"
        )
    fields = {name: _read(value[name], kind) for name, kind in kinds.items()}
    for name, kind in kinds.items():
        if not _fits(fields[name], kind):
            raise InputError(
                f"{cls.__name__}.{name} in the configuration must be {_said(kind)}; "
                f"found {_shown(value[name])}"
            )
    try:
        return cls(**fields)
    except (TypeError, ValueError) as error:
        raise InputError(f"{cls.__name__} in the configuration: {error}") from error


def _parsed(text: str, kind: Any, name: str) -> Any:
    for leaf in _leaves(kind):
        for value in _readings(text, leaf):
            if _fits(value, kind):
                return value
    classes = [cls.__name__ for cls in _classes(kind)]
    among = f" ({', '.join(classes)})" if classes else ""
    raise InputError(f"{name} must be {_said(kind)}{among}; found {text!r}")


def _readings(text: str, leaf: Any) -> Iterator[Any]:
    """What `text` can mean where `leaf` is expected."""
    if leaf is NoneType and text.lower() == "none":
        yield None
    elif leaf is bool and text.lower() in ("true", "false"):
        yield text.lower() == "true"
    elif leaf in (int, float):
        try:
            yield leaf(text)
        except ValueError:
            return
    elif leaf is str or get_origin(leaf) is Literal:
        yield text
    elif get_origin(leaf) is tuple:
        parts = [list(_readings(part.strip(), get_args(leaf)[0])) for part in text.split(",")]
        if all(parts):
            yield tuple(part[0] for part in parts)
    else:
        for cls in _classes(leaf):
            if cls.__name__ == text:
                bare = [field.name for field in dataclasses.fields(cls) if _is_needed(field)]
                if bare:
                    raise InputError(
                        f"{text} has fields without a default, {', '.join(bare)}, and cannot be chosen by "
                        "its name alone; take a preset that has it, or make the recipe in Python"
                    )
                yield cls()


def _is_needed(field: "dataclasses.Field[Any]") -> bool:
    """Whether a dataclass cannot be made without the field."""
    return field.init and field.default is field.default_factory is dataclasses.MISSING
