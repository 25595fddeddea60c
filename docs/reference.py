"""The reference's pages, from what the library says of itself: a hook of MkDocs.

Functions are made from the op table, so that no source file has them as such. What mkdocstrings reads is therefore
written here: of each public module a text of definitions, with the signatures and the docstrings of what is there.
"""

import ast
import inspect
import math
import re
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tapegrad

WRITTEN = Path(__file__).with_name("build") / "reference"
# What a module has in public and does not list among the library's own names.
BELOW = """
    autograd.forward_ad autograd.functional autograd.graph nn.functional nn.init nn.utils
    nn.utils.parametrizations nn.utils.parametrize nn.utils.rnn optim.lr_scheduler optim.swa_utils signal.windows
    utils.checkpoint utils.data
""".split()  # fmt: skip
WRITTEN.mkdir(parents=True, exist_ok=True)  # mkdocstrings asks before it is filled
_NO_PAGE = {"signal", "utils"}  # nothing but modules
_PROTOCOLS = {"__call__", "__len__", "__getitem__"}
_SHOWN = {tapegrad.Tape: {"memory_limit", "nbytes", "profile"}}  # of classes whose other members are the core's


def on_config(config: Any) -> Any:
    """Write the definitions, and put the pages into the navigation."""
    for name, text in definitions().items():
        path = WRITTEN.joinpath(*name.split("."), "__init__.py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    config.nav.append({"Reference": [{name: f"reference/{name}.md"} for name in sorted(modules())]})
    return config


def on_files(files: Any, config: Any) -> Any:
    """Add a page a module."""
    from mkdocs.structure.files import File

    for name in modules():
        files.append(File.generated(config, f"reference/{name}.md", content=f"# `{name}`\n\n::: {name}\n"))
    return files


def modules() -> dict[str, types.ModuleType]:
    """The modules that have a page, by name."""
    own = [name for name in tapegrad.__all__ if isinstance(getattr(tapegrad, name), types.ModuleType)]
    found = {"tapegrad": tapegrad}
    for name in sorted({*own, *BELOW} - _NO_PAGE):
        module: Any = tapegrad
        for part in name.split("."):
            module = getattr(module, part)
        found[f"tapegrad.{name}"] = module
    return found


def definitions() -> dict[str, str]:
    """The text of each module's definitions, and of the packages around them."""
    texts = {name: "\n".join(_definitions(name, module)) + "\n" for name, module in modules().items()}
    for name in modules():
        while name := name.rpartition(".")[0]:
            texts.setdefault(name, "")
    return texts


def _definitions(name: str, module: types.ModuleType) -> Iterator[str]:
    yield repr(_cleaned(module))
    listed = dir(module) if "__dir__" in vars(module) else getattr(module, "__all__", None)
    for member in sorted(dir(module) if listed is None else set(listed)):
        value = getattr(module, member)
        is_foreign = (getattr(value, "__module__", None) or name).partition(".")[0] != "tapegrad"
        if member.startswith("_") or is_foreign or isinstance(value, types.ModuleType) or not member.isidentifier():
            continue
        if inspect.isclass(value):
            yield from _class(member, value)
        elif callable(value):
            yield from _function(member, value, "")


def _class(name: str, value: type) -> Iterator[str]:
    yield f"class {name}:"
    yield f"    {_cleaned(value)!r}"
    start = inspect.getattr_static(value, "__init__")
    declared = vars(value).get("__signature__")  # of a layer, which is a function and its options
    if declared is not None:
        itself = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
        declared = declared.replace(parameters=[itself, *declared.parameters.values()])
    if value not in _SHOWN and getattr(start, "__module__", "").startswith("tapegrad"):
        yield from _function("__init__", start, "    ", "", declared)
    for member in sorted(set(_SHOWN.get(value, vars(value))) - ({"function"} if declared is not None else set())):
        held = inspect.getattr_static(value, member)
        text = inspect.getdoc(held)
        if (member.startswith("_") and member not in _PROTOCOLS) or not text or re.match(r"See `(_\w+`|\w+`\.$)", text):
            continue
        if isinstance(held, property):
            yield "    @property"
            yield from _function(member, held.fget, "    ", _cleaned(held))
        elif isinstance(held, (classmethod, staticmethod)):
            yield f"    @{type(held).__name__}"
            yield from _function(member, held.__func__, "    ")
        elif inspect.isfunction(held):
            yield from _function(member, held, "    ")


def _function(
    name: str, function: Any, indent: str, text: str | None = None, declared: inspect.Signature | None = None
) -> Iterator[str]:
    try:
        parameters = declared or inspect.signature(function)
    except (TypeError, ValueError):
        signature = "(*args, **kwargs)"
    else:
        in_place = name.endswith("_")  # with the signature of the function that isn't, but for `out`
        bare = [_shown(p) for p in parameters.parameters.values() if not (in_place and p.name == "out")]
        signature = str(parameters.replace(parameters=bare, return_annotation=_text(parameters.return_annotation)))
    yield f"{indent}def {name}{signature}:"
    yield f"{indent}    {_cleaned(function) if text is None else text!r}"


class _Plain(str):
    """A text that is its own repr."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def _text(annotation: Any) -> Any:
    """An annotation as it is written, as long as it can be read again."""
    if annotation is inspect.Signature.empty:
        return annotation
    text = annotation if isinstance(annotation, str) else getattr(annotation, "__qualname__", "Any")
    try:
        ast.parse(text, mode="eval")
    except SyntaxError:
        return inspect.Signature.empty
    return _Plain(text)


def _shown(parameter: inspect.Parameter) -> inspect.Parameter:
    name = "kwargs" if parameter.kind is parameter.VAR_KEYWORD and parameter.name == "facts" else parameter.name
    return parameter.replace(name=name, annotation=_text(parameter.annotation), default=_default(parameter))


def _default(parameter: inspect.Parameter) -> Any:
    value = parameter.default
    is_plain = value is parameter.empty or value is None or isinstance(value, (bool, int, str, tuple))
    return value if is_plain or (isinstance(value, float) and math.isfinite(value)) else _Plain("...")


def _cleaned(value: Any) -> str:
    """The docstring, with what is a doctest under a heading of its own, so that it is shown as code."""
    text = re.sub(
        r"\s\((?:`[\w/]+\.(?:py|md)`(?:, )?)+\)", "", inspect.getdoc(value) or ""
    )  # where in the source it stands
    lines = list(_one_by_one(text.split("\n")))
    first = next((i for i, line in enumerate(lines) if line.startswith(">>>")), None)
    if first is not None and "Examples" not in lines:
        lines[first:first] = ["", "Examples", "--------"]
    return "\n".join(lines)


def _one_by_one(lines: list[str]) -> Iterator[str]:
    """The lines, with an entry a parameter: those that share one would all be shown with the default of one of them."""
    at = 0
    while at < len(lines):
        entry = re.fullmatch(r"((?:\*{0,2}\w+, )+\*{0,2}\w+)( : .*)?", lines[at])
        end = next((i for i in range(at + 1, len(lines)) if not lines[i].startswith("    ")), len(lines))
        if entry is None or end == at + 1:
            yield lines[at]
            at += 1
            continue
        for name in entry[1].split(", "):
            yield name + (entry[2] or "")
            yield from lines[at + 1 : end]
        at = end
