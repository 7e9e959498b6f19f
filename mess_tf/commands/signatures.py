"""The parameters of the commands, read from their source without importing it.

A command's module loads numpy and more, which takes seconds; its help must not. The
signature says what there is, the docstring what it means:

- a parameter that may be given by position is an argument of the command line,
- a keyword-only one is an option,
- one whose type is a dataclass stands for the options that are its fields.

Annotations may be made of bool, int, float, str, Path, None, Sequence, tuple, Literal
and names of such types, wherever they are defined.
"""

from __future__ import annotations

import ast
import functools
import importlib.util
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

REQUIRED = object()
"""Default of a parameter that has none."""
LIBRARY_ONLY = frozenset({"max_memory_mb", "objective"})
"""Fields that are no options: no command measures the memory of a piece, and the limits
that are set say what is to be minimised."""

_KINDS = {"bool": bool, "int": int, "float": float, "str": str, "Path": Path}
_SECTION = re.compile(r"^[A-Z]\w+:$", re.M)
_ENTRY = re.compile(r"^ {4}(\w+): ", re.M)


class Parameter(NamedTuple):
    """One argument or option of a command.

    Attributes:
        name: of the function's parameter or of the record's field.
        help: what it means, as the docstring says.
        default: ``REQUIRED`` if there is none.
        positional: an argument without dashes.
        kind: bool, int, float or str; a function that takes a Path takes a str, too.
        is_file: the text may name a file.
        many: may be given several times.
        choices: accepted values.
    """

    name: str
    help: str
    default: Any
    positional: bool
    kind: type
    is_file: bool
    many: bool
    choices: tuple[str, ...]


class Record(NamedTuple):
    """A parameter whose type is a dataclass.

    Attributes:
        module, name: of the class.
        fields: those that are options.
    """

    module: str
    name: str
    fields: tuple[str, ...]


class Signature(NamedTuple):
    """A command's function as its command line shows it.

    Attributes:
        description: first paragraphs of the docstring.
        parameters: in order; the fields of a record stand in its place.
        records: by the name of the function's parameter.
    """

    description: str
    parameters: tuple[Parameter, ...]
    records: Mapping[str, Record]


def module_of(command: str) -> str:
    """Name of the module of a command."""
    return f"mess_tf.commands.{command}"


def read_summary(command: str) -> str:
    """First line of a command's docstring; far quicker than ``read_signature``.

    Raises:
        TypeError: it has none.
    """
    text = _source(module_of(command))
    found = re.search(rf'^def {command}\(.*?^    """(.*?)$', text, re.M | re.S)
    if found is None:
        raise TypeError(f"The command {command} has no docstring.")
    return _phrase(found[1].removesuffix('"""'))


def read_signature(command: str) -> Signature:
    """Everything that a command's help and parser need.

    Raises:
        TypeError: an annotation or a default is of a form that is not known here, or
            something is not documented.
    """
    module = module_of(command)
    _, function = _definition(module, command)
    if not isinstance(function, ast.FunctionDef):
        raise TypeError(f"{module}:{command} is no function.")
    docstring = ast.get_docstring(function) or ""
    helps = _entries(docstring, "Args")
    parameters: list[Parameter] = []
    records = {}
    for argument, default, positional in _arguments(function.args):
        record = _dataclass(argument.annotation, module)
        if record is None:
            parameters.append(_parameter(argument, default, helps, positional, module))
        else:
            where, node = record
            fields = tuple(_fields(where, node))
            parameters += fields
            records[argument.arg] = Record(
                where, node.name, tuple(field.name for field in fields)
            )
    description = _plain(_SECTION.split(docstring)[0])
    return Signature(description, tuple(parameters), records)


def _arguments(
    arguments: ast.arguments,
) -> Iterator[tuple[ast.arg, ast.expr | None, bool]]:
    """Per parameter its node, its default and whether it may be given by position."""
    missing = len(arguments.args) - len(arguments.defaults)
    defaults = [None] * missing + arguments.defaults
    for argument, default in zip(arguments.args, defaults, strict=True):
        yield argument, default, True
    pairs = zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    for argument, default in pairs:
        yield argument, default, False


def _fields(module: str, node: ast.ClassDef) -> Iterator[Parameter]:
    """The options that a dataclass stands for."""
    helps = _entries(ast.get_docstring(node) or "", "Attributes")
    for field in node.body:
        if not isinstance(field, ast.AnnAssign):
            continue
        argument = ast.arg(ast.unparse(field.target), field.annotation)
        if argument.arg not in LIBRARY_ONLY:
            yield _parameter(argument, field.value, helps, False, module)


def _parameter(
    argument: ast.arg,
    default: ast.expr | None,
    helps: Mapping[str, str],
    positional: bool,
    module: str,
) -> Parameter:
    name = argument.arg
    if name not in helps:
        raise TypeError(f"{module}: the docstring does not say what {name} is.")
    if argument.annotation is None:
        raise TypeError(f"{module}: {name} has no type.")
    types = set(_types(argument.annotation, module))
    kinds = {kind for kind in types if isinstance(kind, type)}
    is_file = Path in kinds
    if is_file:
        kinds = kinds - {Path} | {str}
    choices = tuple(dict.fromkeys(_choices(argument.annotation, module)))
    if choices:
        kinds.add(str)
    if len(kinds) != 1:
        raise TypeError(f"{module}: {name} is {sorted(k.__name__ for k in kinds)}.")
    return Parameter(
        name=name,
        help=helps[name],
        default=REQUIRED if default is None else _value(default),
        positional=positional,
        kind=kinds.pop(),
        is_file=is_file,
        many="many" in types,
        choices=choices,
    )


def _types(node: ast.expr, module: str) -> Iterator[type | str]:
    """The plain types of an annotation; ``"many"`` where it takes several values."""
    if isinstance(node, ast.BinOp):
        yield from _types(node.left, module)
        yield from _types(node.right, module)
    elif isinstance(node, ast.Subscript):
        form = ast.unparse(node.value)
        if form in ("Sequence", "tuple"):
            yield "many"
            item = (
                node.slice.elts[0] if isinstance(node.slice, ast.Tuple) else node.slice
            )
            yield from _types(item, module)
        elif form != "Literal":
            raise TypeError(f"{module}: {ast.unparse(node)} is no type of an option.")
    elif isinstance(node, ast.Name):
        if node.id in _KINDS:
            yield _KINDS[node.id]
        else:
            where, value = _definition(module, node.id)
            if not isinstance(value, ast.expr):
                raise TypeError(f"{module}: {node.id} is no type of an option.")
            yield from _types(value, where)
    elif not (isinstance(node, ast.Constant) and node.value is None):
        raise TypeError(f"{module}: {ast.unparse(node)} is no type of an option.")


def _choices(node: ast.expr, module: str) -> Iterator[str]:
    """The values that the Literals of an annotation name."""
    if isinstance(node, ast.BinOp):
        yield from _choices(node.left, module)
        yield from _choices(node.right, module)
    elif isinstance(node, ast.Name) and node.id not in _KINDS:
        where, value = _definition(module, node.id)
        if isinstance(value, ast.expr):
            yield from _choices(value, where)
    elif isinstance(node, ast.Subscript) and ast.unparse(node.value) == "Literal":
        one = node.slice
        for item in one.elts if isinstance(one, ast.Tuple) else [one]:
            if isinstance(item, ast.Constant):
                yield str(item.value)
            else:  # a Literal within a Literal
                yield from _choices(item, module)


def _dataclass(node: ast.expr | None, module: str) -> tuple[str, ast.ClassDef] | None:
    """The class that an annotation names, with its module."""
    if not isinstance(node, ast.Name) or node.id in _KINDS:
        return None
    where, value = _definition(module, node.id)
    return (where, value) if isinstance(value, ast.ClassDef) else None


def _value(node: ast.expr) -> Any:
    if isinstance(node, ast.Call) and ast.unparse(node.func) == "Path":
        return Path(*(ast.literal_eval(argument) for argument in node.args))
    return ast.literal_eval(node)


def _definition(module: str, name: str) -> tuple[str, ast.AST]:
    """The node that defines a name of a module, and the module it stands in.

    Raises:
        TypeError: there is none.
    """
    for node in _top_level(_tree(module).body):
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == name:
            return module, node
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == name:
            return module, node.value
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    return _definition(node.module, alias.name)
    raise TypeError(f"{module} does not define {name}.")


def _top_level(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Statements of a module, those under ``if TYPE_CHECKING`` too."""
    for node in body:
        if isinstance(node, ast.If):
            yield from _top_level(node.body)
        else:
            yield node


@functools.cache
def _tree(module: str) -> ast.Module:
    return ast.parse(_source(module))


def _source(module: str) -> str:
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise TypeError(f"There is no module {module}.")
    return Path(spec.origin).read_text(encoding="utf-8")


def _entries(docstring: str, section: str) -> dict[str, str]:
    """What a section of a Google-style docstring says of each name."""
    found = re.search(rf"^{section}:\n((?: +.*\n?|\n)*)", docstring, re.M)
    if found is None:
        return {}
    _, *parts = _ENTRY.split(found[1])
    return dict(zip(parts[::2], map(_phrase, parts[1::2]), strict=True))


def _plain(text: str) -> str:
    """Text of a docstring as a terminal shows it."""
    return " ".join(text.replace("``", "`").split())


def _phrase(text: str) -> str:
    """The same for a column of a list, in which nothing ends in a full stop."""
    return _plain(text).removesuffix(".")
