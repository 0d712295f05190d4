"""Validated settings: a frozen dataclass whose fields carry their meaning, unit and range, read from and written to YAML.

The documentation of a field stands in one place, at the field; the checks, the command line's help and the comments in
a printed recipe all come from it. `recipe.py` and `pretrain_recipe.py` hold the dataclasses.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import math
from pathlib import Path
from typing import Any, Mapping, Union, get_args, get_origin, get_type_hints

from jdiff_style.errors import UserError

Numbers = tuple[int, ...]
Texts = Mapping[str, str]
MAIN = "main"  # the group of options that comes first, in every kind of recipe


def field(
    default: Any,
    group: str,
    doc: str,
    unit: str = "",
    low: Any = None,
    high: Any = None,
    choices: tuple = (),
    above: Any = None,
    way_out: str = "",
    path: bool = False,
    path_words: tuple = (),
) -> Any:
    """A dataclass field with its documentation.

    `low`/`high` are inclusive (of each number of a list), `above` is an exclusive lower bound, `path` marks a file or
    folder that a recipe names from its own place, except for the words in `path_words`.
    """
    meta = {
        "group": group,
        "doc": doc,
        "unit": unit,
        "low": low,
        "high": high,
        "choices": choices,
        "above": above,
        "way_out": way_out,
        "path": path,
        "path_words": path_words,
    }
    return dataclasses.field(default=default, metadata=meta)


def fields_of(kind: Any) -> dict[str, dataclasses.Field]:
    """The fields of a settings class by name, in the order in which they are printed: group by group."""
    found = dataclasses.fields(kind)
    groups = list(dict.fromkeys(f.metadata["group"] for f in found))
    return {f.name: f for f in sorted(found, key=lambda f: groups.index(f.metadata["group"]))}


@functools.cache
def _types(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


def value_type(kind: type, name: str) -> tuple[Any, bool]:
    """(bool, int, float, str, Numbers or Texts, whether None is allowed) for the field `name`."""
    hint = _types(kind)[name]
    if get_origin(hint) is Union:
        return next(a for a in get_args(hint) if a is not type(None)), True
    return hint, False


_KIND_NAMES: dict[Any, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text",
    Numbers: "a list of whole numbers",
    Texts: "names with a text each, such as {flat: a text, bold: another} or `flat=a text; bold=another`",
}


def value_range(kind: type, name: str) -> str:
    """The allowed values of a field in words, e.g. `1 to 4096`; empty where anything of the type will do."""
    meta = fields_of(kind)[name].metadata
    if meta["choices"]:
        return ", ".join(meta["choices"])
    if meta["above"] is not None:
        return f"above {meta['above']:g}, up to {meta['high']:g}"
    if meta["low"] is not None:
        return (
            f"{meta['low']:g} to {meta['high']:g}"
            if isinstance(meta["high"], float)
            else f"{meta['low']} to {meta['high']}"
        )
    return ""


def shown(value: Any) -> str:
    """A value as the command line and the help write it: `none`, `true`, `16,32`."""
    if value is None:
        return "none"
    if isinstance(value, tuple):
        return ",".join(str(v) for v in value)
    return str(value).lower() if isinstance(value, bool) else str(value)


def _expects(kind: type, name: str) -> str:
    meta = fields_of(kind)[name].metadata
    if meta["way_out"]:
        return meta["way_out"]
    span = value_range(kind, name)
    return f"expected {_KIND_NAMES[value_type(kind, name)[0]]}" + (f" ({span})" if span else "")


def _coerce(settings: type, name: str, value: Any) -> Any:
    """`value` as the field's type, or UserError. Text such as `1e-5`, which YAML reads as a string, becomes a number.
    """
    kind, optional = value_type(settings, name)
    if value is None:
        if optional:
            return None
        raise UserError(f"{name}: a value is missing; {_expects(settings, name)}")
    if kind == Texts:
        return _texts(name, value, _expects(settings, name))
    bad = UserError(f"{name}: {value!r} is not {_KIND_NAMES[kind]}; {_expects(settings, name)}")
    if kind is bool:
        if isinstance(value, bool):
            return value
        raise bad
    if kind is str:
        if isinstance(value, str) and value.strip():
            return value
        raise bad
    if kind == Numbers:
        parts = value.split(",") if isinstance(value, str) else value
        if not isinstance(parts, (list, tuple)) or not parts:
            raise bad
        return tuple(_number(part, int, bad) for part in parts)
    return _number(value, kind, bad)


def _texts(name: str, value: Any, expected: str) -> Texts:
    bad = UserError(f"{name}: {value!r} are not named texts; {expected}, names that are no words in quotes")
    if isinstance(value, str):
        parts = [part.partition("=") for part in value.split(";") if part.strip()]
        pairs = [(key.strip(), text.strip()) for key, _, text in parts]
        if len(dict(pairs)) < len(pairs):
            raise UserError(f"{name}: {value!r} has a name twice; name each once")
    elif isinstance(value, dict):
        # YAML reads some names as something else: 00 as a number, no as false.
        if not all(isinstance(part, str) for pair in value.items() for part in pair):
            raise bad
        pairs = [(key.strip(), text.strip()) for key, text in value.items()]
    else:
        raise bad
    if not pairs or not all(key and text for key, text in pairs):
        raise bad
    return dict(pairs)


def _number(value: Any, kind: Any, bad: UserError) -> Any:
    if isinstance(value, bool):
        raise bad
    try:
        number = float(value) if isinstance(value, (int, float, str)) else math.nan
    except ValueError:
        raise bad from None
    if not math.isfinite(number):
        raise bad
    if kind is float:
        return number
    if number != int(number):
        raise bad
    return value if isinstance(value, int) else int(number)


def _check_range(kind: type, name: str, value: Any) -> None:
    meta = fields_of(kind)[name].metadata
    if value is None:
        return
    if meta["choices"] and value not in meta["choices"]:
        near = difflib.get_close_matches(str(value), meta["choices"], 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise UserError(f"{name}: {value!r} is not one of {', '.join(meta['choices'])}{hint}")
    for number in value if isinstance(value, tuple) else (value,):
        if meta["low"] is not None and number < meta["low"]:
            problem = "is not positive" if meta["low"] == 1 else f"is below {meta['low']:g}"
            raise UserError(f"{name}: {number} {problem}; {_expects(kind, name)}")
        if meta["above"] is not None and number <= meta["above"]:
            raise UserError(f"{name}: {number} is not positive; {_expects(kind, name)}")
        if meta["high"] is not None and number > meta["high"]:
            raise UserError(f"{name}: {number} is above {meta['high']}; {_expects(kind, name)}")


def build(kind: Any, values: dict[str, Any], where: str = "recipe") -> Any:
    """A `kind` from plain values; fields not in `values` keep their defaults. The class's own `check()` runs last.

    Raises UserError for an unknown key (with the nearest known one), a wrong type, a value out of range or fields that
    contradict each other. `where` names the source in the message.
    """
    known = fields_of(kind)
    clean = {}
    for key, value in values.items():
        if key not in known:
            near = [n for n in known if n.startswith(str(key))] or difflib.get_close_matches(str(key), known, 1)
            hint = f"; did you mean '{near[0]}'?" if near else "; `jdiff train --help` lists the fields"
            raise UserError(f"{where}: unknown key '{key}'{hint}")
        clean[key] = _coerce(kind, key, value)
        _check_range(kind, key, clean[key])
    settings = kind(**clean)
    settings.check()
    return settings


def read_yaml(path: Path) -> dict[str, Any]:
    """The `key: value` lines of a YAML file.

    Raises UserError naming file and line for broken YAML or a key given twice, and for a missing file.
    """
    import yaml

    class Loader(yaml.SafeLoader):
        """Safe loader that refuses a key given twice; YAML's own rule keeps the last one silently."""

    def mapping(loader: yaml.SafeLoader, node: yaml.MappingNode) -> dict:
        seen: set = set()
        for key_node, _ in node.value:
            key = loader.construct_object(key_node)
            if isinstance(key, (list, dict, set)) or key in seen:
                raise UserError(
                    f"{path}, line {key_node.start_mark.line + 1}: key '{key}' is given twice or is not a text"
                )
            seen.add(key)
        return loader.construct_mapping(node, deep=True)

    Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, mapping)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"recipe: cannot read {path}: {_reason(error)}") from None
    try:
        values = yaml.load(text, Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise UserError(f"{path}{line}: not valid YAML: {getattr(error, 'problem', None) or error}") from None
    if values is None:
        values = {}
    if not isinstance(values, dict):
        raise UserError(f"{path}: a recipe is a list of `key: value` lines, not a {type(values).__name__}")
    return values


def resolve_paths(kind: type, values: dict[str, Any], folder: Path) -> None:
    """Make the relative paths in `values` start at `folder`, in place."""
    for name, value in values.items():
        if name not in fields_of(kind) or not isinstance(value, str) or not value.strip():
            continue
        meta = fields_of(kind)[name].metadata
        if meta["path"] and value not in meta["path_words"]:
            values[name] = str((folder / Path(value).expanduser()).resolve())


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


def to_yaml(settings: Any, comments: bool = True) -> str:
    """The settings as YAML that reads back to the same values; with `comments`, each field explained."""
    import yaml

    kind: Any = type(settings)
    lines, group = [], None
    for name, known in fields_of(kind).items():
        meta = known.metadata
        if comments and meta["group"] != group:
            group = meta["group"]
            lines.append(f"# {group}")
        value = getattr(settings, name)
        value = list(value) if isinstance(value, tuple) else value
        # Quoted, so that a text such as "no" or "1" stays a text.
        style = '"' if isinstance(value, (str, dict)) else None
        flow = True if isinstance(value, (list, dict)) else None
        text = yaml.safe_dump(
            value, default_style=style, default_flow_style=flow, allow_unicode=True, width=math.inf
        ).removesuffix("...\n")
        line = f"{name}: {text.strip()}"
        if comments:
            span = value_range(kind, name)
            line += f"  # {meta['doc']}" + (f" [{span}]" if span else "")
        lines.append(line)
    return "\n".join(lines) + "\n"
