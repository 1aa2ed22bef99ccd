"""A class of the user's own: named in a config, found in a package or a file, built with the arguments it takes.

    package.module.Class                 {_target_: package.module.Class}
    package.module:Class                 the same
    ./my.py:Class                        {_target_: Class, file: ./my.py}
    {_target_: Class, file: ./my.py, width: 3}       with arguments

Whatever is wrong is a ValueError of one line that names the config's key.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib
import inspect
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

FOLDER = "RESSFORMER_FOLDER"  # Where the program was called: the processes that it starts stand elsewhere.
TARGET, FILE = "_target_", "file"


class Named(dict[str, Any]):
    """A class by name and its arguments, as plain values of JSON; hashable, so never to be changed.

    Attributes:
        kind: the class.
        where: the config's key, `model.mixer`, for messages.
    """

    kind: type[nn.Module]
    where: str = ""

    @property
    def arguments(self) -> dict[str, Any]:
        """What the user gives to the class."""
        return {key: value for key, value in self.items() if key not in (TARGET, FILE)}

    @property
    def full_name(self) -> str:
        """`module.Class`, as the class is loaded here."""
        return f"{self.kind.__module__}.{self.kind.__qualname__}"

    def _key(self) -> tuple[str, object]:
        return json.dumps(self, sort_keys=True), getattr(self, "kind", None)

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(self._key())

    def __eq__(self, other: object) -> bool:
        return self._key() == other._key() if isinstance(other, Named) else dict.__eq__(self, other)


def named(value: Any, where: str) -> Named:
    """The class that a config names.

    Args:
        value: a mapping or a text, in one of the forms above.
        where: the config's key.

    Raises:
        ValueError: no class is named, it cannot be loaded, or it is no `nn.Module`.
    """
    found = Named(_mapping(value, where))
    found.where = where
    try:
        json.dumps(found, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where}: arguments are plain values (numbers, texts, lists): {error}") from None
    if FILE in found:
        module, name = file_module(found[FILE], where), str(found.get(TARGET) or "")
    else:
        path, _, name = found[TARGET].rpartition(".")
        module = package_module(path, f"{where}.{TARGET}={found[TARGET]}")
    found.kind = _class(module, name, where, str(found.get(FILE) or module.__name__))
    found[TARGET] = found.kind.__name__ if FILE in found else found[TARGET]
    return found


def _mapping(value: Any, where: str) -> dict[str, Any]:
    """The mapping that the value stands for; `file.py:Class` and `module:Class` taken apart."""
    values = {TARGET: value} if isinstance(value, str) else dict(value) if isinstance(value, Mapping) else {}
    target = values.get(TARGET)
    if isinstance(target, str) and ":" in target:
        place, _, name = target.rpartition(":")
        values |= {TARGET: name, FILE: place} if place.endswith(".py") else {TARGET: f"{place}.{name}"}
    elif isinstance(target, str) and target.endswith(".py"):
        values = {key: v for key, v in values.items() if key != TARGET} | {FILE: target}
    if not isinstance(values.get(FILE, ""), str) or not isinstance(values.get(TARGET, ""), str):
        raise ValueError(f"{where}: {TARGET} and {FILE} are texts, e.g. {where}=./my.py:MyClass")
    if not values.get(FILE) and "." not in (values.get(TARGET) or ""):
        raise ValueError(f"{where} names no class: give {where}=./my.py:MyClass or {where}.{TARGET}=package.MyClass")
    return {key: v for key, v in values.items() if key != FILE or v}


def package_module(name: str, asked: str) -> ModuleType:
    """The module of that name; the folder that the program was called in is searched last.

    Raises:
        ValueError: it cannot be imported; `asked` is the argument at fault.
    """
    _searched(os.environ.get(FOLDER, os.getcwd()))
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:
        raise ValueError(f"{asked} cannot be loaded: {_words(error)}") from error


def file_module(path: str, where: str) -> ModuleType:
    """The module that a file is, under the name `stem@hash`: another content is another module.

    Raises:
        ValueError: there is no such file, or it does not import.
    """
    folder = os.environ.get(FOLDER, os.getcwd())
    place = Path(folder, Path(path).expanduser())
    try:
        source = place.read_bytes()
    except OSError as error:
        raise ValueError(f"{where}.{FILE}={path} cannot be read: {error.strerror} (looked in {folder})") from None
    name = f"{place.stem}@{hashlib.sha256(source).hexdigest()[:16]}"
    if name in sys.modules:
        return sys.modules[name]
    module = ModuleType(name)
    module.__file__ = str(place)
    _searched(str(place.parent.absolute()))  # for the modules that lie beside it
    sys.modules[name] = module
    try:
        exec(compile(source, str(place), "exec", dont_inherit=True), module.__dict__)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise ValueError(f"{where}.{FILE}={path} does not import: {_words(error)}") from error
    return module


def _searched(folder: str) -> None:
    """Look for modules in the folder, after all other places."""
    if not {folder, ""} & set(sys.path):
        sys.path.append(folder)


def _class(module: ModuleType, name: str, where: str, place: str) -> type[nn.Module]:
    own = [
        key
        for key, value in vars(module).items()
        if isinstance(value, type) and issubclass(value, nn.Module) and value.__module__ == module.__name__
    ]
    if not name and len(own) == 1:
        name = own[0]
    found = getattr(module, name, None) if name else None
    if found is None:
        near = difflib.get_close_matches(name, own, n=1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        has = f"modules there: {', '.join(sorted(own)) or 'none'}"
        what = f"{place} has no class {name}{hint}" if name else f"which class of {place}? Give {where}.{TARGET}=NAME"
        raise ValueError(f"{where}: {what}; {has}")
    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        raise ValueError(f"{where}: {name} of {place} is no torch.nn.Module, but {type(found).__name__}")
    return found


def built(name: Named, needed: Mapping[str, Any], offered: Mapping[str, Any]) -> nn.Module:
    """The module.

    Args:
        name: the class and the user's arguments.
        needed: what is handed to every such class.
        offered: what it is handed if its signature has the name and the user gives no value.

    Raises:
        ValueError: an argument that it does not take or that is missing, or whatever the class raises.
    """
    kind, given = name.kind.__name__, name.arguments
    takes, anything = _parameters(name.kind)
    for key in needed:
        if key in given:
            raise ValueError(f"{name.where}.{key} is handed in; leave it out, or set model.{key}")
        if key not in takes and not anything:
            has = f"it takes {', '.join(takes) or 'nothing'}"
            raise ValueError(f"{name.where}: {kind} must take an argument {key}, which is handed to it; {has}")
    if not anything and (wrong := sorted(set(given) - set(takes))):
        near = difflib.get_close_matches(wrong[0], takes, n=1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        raise ValueError(f"{name.where}: {kind} takes no {wrong[0]}{hint}; it takes {', '.join(takes)}")
    arguments = {**{key: value for key, value in offered.items() if key in takes}, **given, **needed}
    if lacking := [key for key, optional in takes.items() if not optional and key not in arguments]:
        raise ValueError(f"{name.where}: {kind} needs {lacking[0]}: give {name.where}.{lacking[0]}=VALUE")
    try:
        return name.kind(**arguments)
    except Exception as error:
        shown = ", ".join(f"{key}={value!r}" for key, value in arguments.items())
        raise ValueError(f"{name.where}: {kind}({shown}) cannot be built: {_words(error)}") from error


def _parameters(kind: type) -> tuple[dict[str, bool], bool]:
    """The arguments that a class takes by name and whether each has a default; whether it takes any name."""
    try:
        parameters = inspect.signature(kind).parameters.values()
    except (TypeError, ValueError):
        return {}, True
    names = {
        p.name: p.default is not p.empty for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
    }
    return names, any(p.kind is p.VAR_KEYWORD for p in parameters)


def takes(module: nn.Module, *names: str) -> str:
    """The first of these names that the module's `forward` has; "" if it has none."""
    try:
        found = inspect.signature(module.forward).parameters
    except (TypeError, ValueError):
        return ""
    return next((name for name in names if name in found), "")


def _words(error: BaseException) -> str:
    """An error of the user's code on one line: its kind, its words."""
    return " ".join(f"{type(error).__name__}: {error}".split())
