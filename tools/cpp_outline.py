"""A rough outline of a C++ file: its functions with their length and parameter count.

Not a parser. It knows comments, strings, preprocessor lines, brackets and the words that open a
scope, which is enough for code that clang-format has laid out. tools/tidy.py uses it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_LITERAL_OR_COMMENT = re.compile(
    r"""//[^\n]*
      | /\*.*?\*/
      | R"(?P<tag>[^(\s]*)\(.*?\)(?P=tag)"
      | "(?:\\.|[^"\\\n])*"
      | (?<![0-9a-fA-F])'(?:\\.|[^'\\\n])*'
    """,
    re.VERBOSE | re.DOTALL,
)
_SCOPE = re.compile(r"\b(namespace|class|struct|union|enum|extern)\b")
_NOT_FUNCTIONS = {"if", "for", "while", "switch", "catch", "return", "sizeof", "static_assert"}
_NAME_BEFORE_PARENTHESIS = re.compile(
    r"(operator\s*(?:\(\s*\)|[^\s\w(]+|\w+)|~?[A-Za-z_][\w:~]*(?:<[^<>()]*>)?(?:::~?\w+)*)\s*$"
)


@dataclass(frozen=True)
class Function:
    name: str
    line: int  # of the first line of the signature, from 1
    lines: int  # from there to the closing brace; 1 for a declaration
    parameters: int
    is_constructor: bool


def blank_literals(text: str) -> str:
    """Replaces comments and the insides of literals by spaces; every line stays where it is."""

    def blank(match: re.Match[str]) -> str:
        found = match.group(0)
        if found.startswith(("//", "/*")):
            return re.sub(r"[^\n]", " ", found)
        return '"' + re.sub(r"[^\n]", " ", found[1:-1]) + '"'

    return _LITERAL_OR_COMMENT.sub(blank, text)


def blank_preprocessor(text: str) -> str:
    """Replaces preprocessor lines, with their continuations, by empty lines."""
    out = []
    continued = False
    for line in text.split("\n"):
        directive = continued or line.lstrip().startswith("#")
        continued = directive and line.rstrip().endswith("\\")
        out.append("" if directive else line)
    return "\n".join(out)


def functions(text: str) -> list[Function]:
    """The functions declared or defined in `text`, in order. Lambdas count with their function."""
    code = blank_preprocessor(blank_literals(text))
    found: list[Function] = []
    classes: list[str] = []  # Name of each open scope; "" for a namespace.
    start = 0  # Where the current statement begins.
    at = 0
    depth = 0  # Of parentheses.
    while at < len(code):
        char = code[at]
        if char == "(":
            depth += 1
        elif char == ")":
            depth = max(0, depth - 1)
        elif depth == 0 and char == ";":
            _add(found, code, start, at, at, classes)
            start = at + 1
        elif (
            depth == 0
            and char == ":"
            and re.search(r"\b(public|private|protected)\s*$", code[start:at])
        ):
            start = at + 1
        elif depth == 0 and char == "}":
            if classes:
                classes.pop()
            start = at + 1
        elif depth == 0 and char == "{":
            head = code[start:at]
            scope = _scope_name(head)
            if scope is not None:
                classes.append(scope)
                start = at + 1
            else:
                end = _matching_brace(code, at)
                if _opens_body(head):
                    _add(found, code, start, at, end, classes)
                    start = end + 1
                at = end  # Otherwise an initializer: the statement goes on after it.
        at += 1
    return found


def _scope_name(head: str) -> str | None:
    """The name of the class or enum that `head` opens, "" for a namespace, None for neither."""
    bare = re.sub(r"template\s*<[^{}]*?>\s*(?=\b(?:class|struct|union|requires)\b)", "", head)
    bare = re.sub(r"alignas\s*\([^)]*\)|\[\[[^\]]*\]\]", " ", bare)
    match = _SCOPE.search(bare)
    if match is None or "(" in bare or "=" in bare.replace("==", ""):
        return None
    if match.group(1) in ("namespace", "extern"):
        return ""
    name = re.search(r"\b(?:class|struct|union|enum)\b\s*(?:class\b|struct\b)?\s*(\w*)", bare)
    return name.group(1) if name else ""


def _opens_body(head: str) -> bool:
    """Whether `head {` begins a function body, not a braced initializer."""
    if "(" not in head:
        return False
    before = head[: head.index("(")]
    if re.search(r"(?<![=!<>+\-*/&|^%])=(?!=)", before) and "operator" not in before:
        return False
    # In a constructor's list `: member_{1}, other_(2) {` only the last brace is a body.
    tail = head[_parameters_end(head) :]
    initializers = re.search(r"(?<!:):(?!:)(.*)$", tail, re.DOTALL)
    return initializers is None or not re.search(r"[\w>]\s*$", initializers.group(1))


def _parameters_start(head: str) -> int:
    """Where the parameter list of the signature `head` opens, or -1."""
    skip = re.match(r"\s*(?:template\s*<.*?>\s*(?=[\w\[:~]))?", head, re.DOTALL)
    at = skip.end() if skip else 0
    call_operator = re.compile(r"operator\s*\(\s*\)")
    while True:
        at = head.find("(", at)
        if at < 0:
            return -1
        operator = call_operator.search(head, 0, at + 2)
        if operator and operator.start() < at < operator.end():
            at = operator.end()
            continue
        word = re.search(r"(\w+)\s*$", head[:at])
        if word and word.group(1) in ("alignas", "decltype", "noexcept", "requires", "explicit"):
            at = _matching_parenthesis(head, at) + 1
            continue
        return at


def _parameters_end(head: str) -> int:
    start = _parameters_start(head)
    return len(head) if start < 0 else _matching_parenthesis(head, start) + 1


def _matching_parenthesis(text: str, start: int) -> int:
    depth = 0
    for at in range(start, len(text)):
        depth += {"(": 1, ")": -1}.get(text[at], 0)
        if depth == 0:
            return at
    return len(text) - 1


def _matching_brace(text: str, start: int) -> int:
    depth = 0
    for at in range(start, len(text)):
        depth += {"{": 1, "}": -1}.get(text[at], 0)
        if depth == 0:
            return at
    return len(text) - 1


def _count_parameters(inside: str) -> int:
    if not inside.strip() or inside.strip() == "void":
        return 0
    flat = inside
    while True:
        simpler = re.sub(r"<[^<>]*>|\([^()]*\)|\{[^{}]*\}|\[[^\[\]]*\]", " ", flat)
        if simpler == flat:
            return flat.count(",") + 1
        flat = simpler


def _add(
    found: list[Function], code: str, start: int, head_end: int, end: int, classes: list[str]
) -> None:
    head = code[start:head_end]
    open_at = _parameters_start(head)
    if open_at < 0:
        return
    is_definition = end > head_end
    name = _NAME_BEFORE_PARENTHESIS.search(head[:open_at])
    if name is None or name.group(1) in _NOT_FUNCTIONS:
        return
    if "operator" not in name.group(1) and head.count("<", 0, open_at) > head.count(
        ">", 0, open_at
    ):
        return  # The parentheses are inside template arguments: std::function<void()> member.
    before = head[: name.start()].strip()
    if not is_definition and (before.endswith(("return", ".", ",", "(")) or "=" in before):
        return
    close_at = _matching_parenthesis(head, open_at)
    leading = len(head) - len(head.lstrip())
    first = code.count("\n", 0, start + leading) + 1
    called = name.group(1)
    if re.fullmatch(r"TEST(_[FP])?", called):  # GoogleTest: the arguments are the name.
        called = ".".join(head[open_at + 1 : close_at].replace(",", " ").split())
    short = called.split("::")[-1]
    inside_class = bool(classes) and classes[-1] == short
    parts = called.split("::")
    found.append(
        Function(
            name=called,
            line=first,
            lines=code.count("\n", 0, end) + 1 - first + 1,
            parameters=_count_parameters(head[open_at + 1 : close_at]),
            is_constructor=inside_class or (len(parts) > 1 and parts[-1] == parts[-2]),
        )
    )
