"""Other texts of the same function: identifiers renamed, comments taken out, and rewrites that keep what Python code does.

No language model translates here. A Python function is rewritten by its syntax tree (loops over range and list comprehensions
become while and for loops, branches change places, local names change); functions of other languages are only renamed. Such
pairs are called what they are, rewrites and renames, and are easier than translations.
"""

from __future__ import annotations

import ast
import random
import re
import warnings
from collections.abc import Sequence
from typing import cast

from stillhouse.corpus.code_files import LINE_COMMENT
from stillhouse.corpus.code_functions import Function

MOST_RENAMED = 6
"""Names of a function that are renamed at a time, the most frequent first."""
RESERVED = frozenset(
    [
        "if",
        "else",
        "for",
        "while",
        "do",
        "return",
        "in",
        "is",
        "not",
        "and",
        "or",
        "def",
        "class",
        "import",
        "from",
        "as",
        "try",
        "except",
        "finally",
        "with",
        "yield",
        "lambda",
        "None",
        "True",
        "False",
        "new",
        "delete",
        "this",
        "super",
        "self",
        "cls",
        "var",
        "let",
        "const",
        "function",
        "func",
        "package",
        "public",
        "private",
        "protected",
        "static",
        "void",
        "int",
        "long",
        "float",
        "double",
        "bool",
        "boolean",
        "string",
        "String",
        "char",
        "byte",
        "switch",
        "case",
        "default",
        "break",
        "continue",
        "throw",
        "throws",
        "catch",
        "null",
        "nil",
        "true",
        "false",
        "begin",
        "end",
        "unless",
        "until",
        "then",
        "elsif",
        "module",
        "require",
        "puts",
        "print",
        "len",
        "range",
        "str",
        "list",
        "dict",
        "set",
        "tuple",
        "type",
        "object",
        "echo",
        "array",
        "struct",
        "interface",
        "map",
        "chan",
        "go",
        "defer",
        "select",
        "foreach",
        "using",
        "namespace",
        "template",
        "typename",
        "auto",
        "unsigned",
        "size_t",
        "std",
    ]
)


def renamed(code: str, names: Sequence[str], pool: Sequence[str], draw: random.Random) -> str:
    """The code with some of its names replaced by names drawn from `pool`, each by one everywhere.

    Text in quotes is not left out: to the encoder a name is a name.
    """
    mine = [name for name in names if name.lstrip("$@") not in RESERVED][:MOST_RENAMED]
    if not mine or not pool:
        return code
    taken = set(re.findall(r"\w+", code))
    fresh = [name for name in draw.sample(list(pool), min(len(pool), 4 * len(mine))) if name not in taken]
    table = {
        name: ("$" if name.startswith("$") else "") + new.lstrip("$@") for name, new in zip(mine, fresh, strict=False)
    }
    pattern = "|".join(re.escape(name) for name in sorted(table, key=len, reverse=True))
    if not table:
        return code
    return re.sub(rf"(?<![\w$])(?:{pattern})(?!\w)", lambda found: table[found.group()], code)


def without_comments(code: str, language: str) -> str:
    """The code without lines that are only a comment, and without block comments."""
    marks = LINE_COMMENT.get(language, ("//",))
    if language not in ("python", "ruby"):
        code = re.sub(r"/\*.*?\*/", "", code, flags=re.DOTALL)
    return "\n".join(line for line in code.split("\n") if line.strip() and not line.strip().startswith(marks))


def rewritten(function: Function, pool: Sequence[str], seed: int) -> str:
    """Another text of the function: rewritten where it is Python that parses alone, renamed otherwise."""
    draw = random.Random(seed)
    if function.language == "python" and (made := rewritten_python(function.code, pool, draw)) is not None:
        return made
    names = dict.fromkeys([function.name.split("::")[-1].split(".")[-1], *function.identifiers])
    return renamed(without_comments(function.code, function.language), [n for n in names if n], pool, draw)


def rewritten_python(code: str, pool: Sequence[str], draw: random.Random) -> str | None:
    """A Python function that does the same in other words; None where it does not parse."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(code)
    except (SyntaxError, ValueError, RecursionError):
        return None
    if len(tree.body) != 1 or not isinstance(tree.body[0], ast.FunctionDef | ast.AsyncFunctionDef):
        return None
    function = tree.body[0]
    table = _new_names(function, pool, draw)
    function = cast("ast.FunctionDef | ast.AsyncFunctionDef", _Rewriter(function).visit(function))
    if table:
        function = cast("ast.FunctionDef | ast.AsyncFunctionDef", _Renamer(table).visit(function))
    function.name = table.get(function.name, function.name)
    return ast.unparse(ast.fix_missing_locations(function))


def _new_names(
    function: ast.FunctionDef | ast.AsyncFunctionDef, pool: Sequence[str], draw: random.Random
) -> dict[str, str]:
    """New names for the function, its parameters and what it assigns: all that may change for callers by position."""
    nodes = list(ast.walk(function))
    inner = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)
    scopes = [node for node in nodes if isinstance(node, inner) and node is not function]
    hidden = {name for node in nodes if isinstance(node, ast.Global | ast.Nonlocal) for name in node.names}
    called = {node.func.id for node in nodes if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
    if scopes or called & {"locals", "eval", "exec", "vars", "dir"}:
        return {}
    names = [node for node in nodes if isinstance(node, ast.Name)]
    parameters = [node.arg for node in nodes if isinstance(node, ast.arg)]
    hidden |= _bound_without_name_nodes(nodes) | _names_of_signature(function) | {"self", "cls"}
    stored = [node.id for node in names if isinstance(node.ctx, ast.Store)]
    own = [] if function.name.startswith("__") else [function.name]
    mine = [name for name in dict.fromkeys([*own, *parameters, *stored]) if name not in hidden]
    taken = {node.id for node in names} | set(parameters) | RESERVED
    usable = [name for name in pool if name.isidentifier() and name not in taken]
    fresh = draw.sample(usable, min(len(usable), len(mine)))
    return dict(zip(mine, fresh, strict=False))


def _bound_without_name_nodes(nodes: Sequence[ast.AST]) -> set[str]:
    """Names of `except ... as`, imports and match patterns, which are plain strings in the tree."""
    found: set[str | None] = set()
    for node in nodes:
        if isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar):
            found.add(node.name)
        elif isinstance(node, ast.alias):
            found.add((node.asname or node.name).split(".")[0])
        elif isinstance(node, ast.MatchMapping):
            found.add(node.rest)
    return {name for name in found if name}


def _names_of_signature(function: ast.FunctionDef | ast.AsyncFunctionDef) -> set[str]:
    """Names in defaults, annotations and decorators, which belong to the scope outside."""
    parts: list[ast.AST] = [function.args, *function.decorator_list, *([function.returns] if function.returns else [])]
    return {node.id for part in parts for node in ast.walk(part) if isinstance(node, ast.Name)}


class _Renamer(ast.NodeTransformer):
    """Gives names their new ones; exception and import names, which are no Name nodes, are left alone with theirs."""

    def __init__(self, table: dict[str, str]) -> None:
        self.table = table

    def visit_Name(self, node: ast.Name) -> ast.Name:
        return ast.Name(self.table.get(node.id, node.id), node.ctx)

    def visit_arg(self, node: ast.arg) -> ast.arg:
        return ast.arg(self.table.get(node.arg, node.arg), node.annotation)


class _Rewriter(ast.NodeTransformer):
    """range loops -> while, list comprehensions -> for, if/else -> the other way round."""

    def __init__(self, function: ast.AST) -> None:
        self.names = [node.id for node in ast.walk(function) if isinstance(node, ast.Name)]
        self.made = 0

    def _fresh(self, stem: str) -> str:
        self.made += 1
        name = f"{stem}_{self.made}"
        return name if name not in self.names else self._fresh(stem)

    def visit_If(self, node: ast.If) -> ast.AST:
        self.generic_visit(node)
        nested = len(node.orelse) == 1 and isinstance(node.orelse[0], ast.If)  # elif reads better as it is
        if not node.orelse or nested:
            return node
        return ast.If(ast.UnaryOp(ast.Not(), node.test), node.orelse, node.body)

    def visit_For(self, node: ast.For) -> ast.AST | list[ast.stmt]:
        self.generic_visit(node)
        call = node.iter
        plain = isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "range"
        if not plain or not isinstance(node.target, ast.Name):
            return node
        call = cast(ast.Call, call)
        if call.keywords or len(call.args) not in (1, 2) or any(isinstance(a, ast.Starred) for a in call.args):
            return node
        start: ast.expr = call.args[0] if len(call.args) == 2 else ast.Constant(0)
        place, stop = self._fresh("place"), self._fresh("stop")
        # the counter moves on before the body, so that `continue` does, and the loop's own name keeps its last value
        body = [_assign(node.target.id, _load(place)), ast.parse(f"{place} += 1").body[0], *node.body]
        test = ast.Compare(_load(place), [ast.Lt()], [_load(stop)])
        return [_assign(place, start), _assign(stop, call.args[-1]), ast.While(test, body, node.orelse)]

    def visit_Assign(self, node: ast.Assign) -> ast.AST | list[ast.stmt]:
        made = self._loop_of(node.value)
        return node if made is None else [*made[0], ast.Assign(node.targets, _load(made[1]), lineno=0)]

    def visit_Return(self, node: ast.Return) -> ast.AST | list[ast.stmt]:
        made = self._loop_of(node.value)
        return node if made is None else [*made[0], ast.Return(_load(made[1]))]

    def _loop_of(self, value: ast.expr | None) -> tuple[list[ast.stmt], str] | None:
        """The loop that a list comprehension stands for, and the list's name; None where its names would leak."""
        if not isinstance(value, ast.ListComp) or len(value.generators) != 1 or value.generators[0].is_async:
            return None
        part = value.generators[0]
        inside = [node.id for node in ast.walk(value) if isinstance(node, ast.Name)]
        own = {node.id for node in ast.walk(part.target) if isinstance(node, ast.Name)}
        if any(isinstance(node, ast.NamedExpr | ast.Lambda | ast.Await) for node in ast.walk(value)):
            return None
        if any(self.names.count(name) != inside.count(name) for name in own):
            return None
        items = self._fresh("items")
        body: list[ast.stmt] = [ast.Expr(ast.Call(ast.Attribute(_load(items), "append", ast.Load()), [value.elt], []))]
        for test in reversed(part.ifs):
            body = [ast.If(test, body, [])]
        return [_assign(items, ast.List([], ast.Load())), ast.For(part.target, part.iter, body, [], lineno=0)], items


def _assign(name: str, value: ast.expr) -> ast.stmt:
    return ast.Assign([ast.Name(name, ast.Store())], value, lineno=0)


def _load(name: str) -> ast.Name:
    return ast.Name(name, ast.Load())
