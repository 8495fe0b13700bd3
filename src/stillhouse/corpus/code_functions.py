"""Functions with their documentation from source files in eight languages, by tree-sitter's grammars.

A function is its text without the documentation (Python's docstring is inside, other languages' comment is before it), the
documentation's first paragraph without markup, and its lines in the file.
"""

from __future__ import annotations

import importlib
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from stillhouse.core.errors import UserError
from stillhouse.corpus.code_files import CodeFile, Skipped

FUNCTIONS = {
    "python": {"function_definition"},
    "java": {"method_declaration", "constructor_declaration"},
    "javascript": {
        "function_declaration",
        "generator_function_declaration",
        "method_definition",
        "function_expression",
        "arrow_function",
    },
    "go": {"function_declaration", "method_declaration"},
    "c_sharp": {"method_declaration", "constructor_declaration", "local_function_statement"},
    "cpp": {"function_definition"},
    "ruby": {"method", "singleton_method"},
    "php": {"function_definition", "method_declaration"},
}
"""Language -> node types of its grammar."""
WRAPPERS = {
    "decorated_definition",
    "export_statement",
    "template_declaration",
    "variable_declarator",
    "lexical_declaration",
    "variable_declaration",
    "assignment_expression",
    "expression_statement",
    "pair",
}
"""Nodes around a function that stand between it and the comment before it, and belong to its text."""
COMMENTS = {"comment", "block_comment", "line_comment"}
NAMED_BY_PARENT = {"function_expression", "arrow_function"}
IDENTIFIERS = {"identifier", "variable_name"}
"""Node types whose names a function may choose freely; fields, types and properties are not among them."""
MOST_FUNCTION_CHARACTERS = 20_000
FEWEST_DOC_WORDS, MOST_DOC_WORDS = 3, 80


@dataclass(frozen=True)
class Function:
    """A function of a source file."""

    language: str
    repository: str
    path: str
    name: str
    line: int
    """First line, from 1."""
    end_line: int
    code: str
    """Its text without the documentation, dedented."""
    doc: str
    """First paragraph of the documentation, "" where there is none worth the name."""
    identifiers: tuple[str, ...]
    """Names that occur at least twice, the most frequent first."""


@cache
def parser(language: str) -> Any:
    """tree-sitter's parser of a language.

    Raises:
        UserError: its grammar is not installed.
    """
    package = f"tree_sitter_{language}"
    try:
        tree_sitter, grammar = importlib.import_module("tree_sitter"), importlib.import_module(package)
    except ModuleNotFoundError as error:
        raise UserError(f"no grammar for {language} (package {package})", "pip install 'stillhouse[code]'") from error
    make = grammar.language_php if language == "php" else grammar.language
    return tree_sitter.Parser(tree_sitter.Language(make()))


def functions(file: CodeFile, skipped: Skipped) -> list[Function]:
    """All functions of a file; a function with a syntax error in it is left out and counted."""
    root = parser(file.language).parse(file.text.encode()).root_node
    kinds = FUNCTIONS[file.language]
    found: list[Function] = []
    for node in _walk(root, kinds):
        if node.type in NAMED_BY_PARENT and node.parent.type not in WRAPPERS:
            continue  # an anonymous function among arguments is part of its caller
        if node.has_error or node.end_byte - node.start_byte > MOST_FUNCTION_CHARACTERS:
            skipped.add(
                "functions that do not parse" if node.has_error else "very long functions",
                f"{file.path}:{node.start_point[0] + 1}",
            )
            continue
        if node.child_by_field_name("body") is None and file.language != "ruby":
            continue  # a declaration only
        found.append(_function(node, file))
    if root.has_error and not found:
        skipped.add("files that do not parse", file.path)
    return found


def _walk(root: Any, kinds: set[str]) -> Iterator[Any]:
    """Nodes of these types in order, outer functions before those inside them."""
    stack = [root]
    while stack:
        node = stack.pop()
        if node.type in kinds:
            yield node
        stack.extend(reversed(node.named_children))


def _function(node: Any, file: CodeFile) -> Function:
    outer = _outermost(node)
    inside = _docstring(node) if file.language == "python" else None
    text = outer.text.decode()
    if inside is not None:
        text = _cut(outer, inside)
        raw = inside.text.decode()
    else:
        raw = "\n".join(comment.text.decode() for comment in _comments_before(outer))
    return Function(
        file.language,
        file.repository,
        file.path,
        _name(node),
        outer.start_point[0] + 1,
        outer.end_point[0] + 1,
        dedented(text, outer.start_point[1]),
        clean_doc(raw),
        _frequent(node),
    )


def _outermost(node: Any) -> Any:
    while node.parent is not None and node.parent.type in WRAPPERS:
        node = node.parent
    return node


def _docstring(node: Any) -> Any | None:
    """The statement that is a Python function's docstring."""
    body = node.child_by_field_name("body")
    first = body.named_children[0] if body is not None and body.named_children else None
    if first is None or first.type != "expression_statement" or not first.named_children:
        return None
    return first if first.named_children[0].type == "string" else None


def _cut(outer: Any, inside: Any) -> str:
    """The text of a node without one of its descendants; a body that is left empty passes."""
    data, start = outer.text, outer.start_byte
    rest = data[inside.end_byte - start :]
    left = data[: inside.start_byte - start]
    if not rest.strip():
        rest = b"pass"
    else:
        left, rest = left.rstrip(), b"\n" + rest.lstrip(b" \t").lstrip(b"\n")
    return (left + rest).decode()


def _comments_before(outer: Any) -> list[Any]:
    """Comments that end on the line before a node, one directly below the other."""
    here, found = outer, []
    before = outer.prev_named_sibling
    if before is None and outer.parent is not None and outer.parent.type == "body_statement":
        before = outer.parent.prev_named_sibling  # Ruby's grammar puts a class's first comment outside its body
    while before is not None and before.type in COMMENTS and here.start_point[0] - before.end_point[0] <= 1:
        found.append(before)
        here, before = before, before.prev_named_sibling
    return found[::-1]


def _name(node: Any) -> str:
    parent = node.parent if node.type in NAMED_BY_PARENT else node
    named = (
        parent.child_by_field_name("name") or parent.child_by_field_name("left") or parent.child_by_field_name("key")
    )
    while named is None and (parent := parent.child_by_field_name("declarator")) is not None:
        named = (
            parent if parent.type != "function_declarator" and not parent.child_by_field_name("declarator") else None
        )
    return named.text.decode() if named is not None else ""


def _frequent(node: Any) -> tuple[str, ...]:
    """Names used at least twice in a function, the most frequent first, ties by name."""
    counts = Counter(leaf.text.decode() for leaf in _walk(node, IDENTIFIERS))
    ranked = sorted((-n, name) for name, n in counts.items() if n > 1 and len(name.lstrip("$")) > 1)
    return tuple(name for _, name in ranked if name not in ("self", "cls", "this"))


def dedented(text: str, column: int) -> str:
    """The text of a node that starts at `column`, its later lines moved left by as much."""
    lines = text.split("\n")
    return "\n".join([lines[0], *(line[min(column, len(line) - len(line.lstrip())) :] for line in lines[1:])]).rstrip()


MARKUP = (
    (re.compile(r"^\s*[rRbBuUfF]{0,2}(\"\"\"|'''|\"|')|(\"\"\"|'''|\"|')\s*$"), ""),
    (re.compile(r"^\s*(/\*\*?|\*/|\*|///?!?|#+!?)[ \t]?", re.MULTILINE), ""),
    (re.compile(r"\*+/\s*$"), ""),
    (re.compile(r"</?(summary|para|remarks|p|code|b|i|tt|pre|br|returns|ul|li|em)\s*/?>", re.IGNORECASE), " "),
    (re.compile(r"<(?:see|seealso|paramref|typeparamref)\s+\w+=\"(?:\w:)?([^\"]*)\"\s*/>"), r"\1"),
    (re.compile(r"\{@(?:link|code|linkplain)\s+([^}]*)\}"), r"\1"),
    (re.compile(r":\w+(?::\w+)?:`~?([^`]*)`"), r"\1"),
    (re.compile(r"``?([^`]*)``?"), r"\1"),
)
"""Comment marks and markup -> what stays of them."""
TAGS = re.compile(
    r"^\s*(@\w+|:\w+[^:]*:|\\\w+|<param|<returns|<exception|<typeparam|Args:|Parameters$|Returns:)", re.MULTILINE
)


def clean_doc(raw: str) -> str:
    """First paragraph of a documentation comment in one line; "" if it is not three to eighty words of English."""
    for pattern, stays in MARKUP:
        raw = pattern.sub(stays, raw)
    tag = TAGS.search(raw)
    paragraphs = re.split(r"\n\s*\n", (raw[: tag.start()] if tag else raw).strip())
    text = " ".join(paragraphs[0].split())
    words = len(text.split())
    return (
        text if FEWEST_DOC_WORDS <= words <= MOST_DOC_WORDS and text.isascii() and re.search("[a-z]{3}", text) else ""
    )
