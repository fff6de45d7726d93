#!/usr/bin/env python3
"""The style ratchet: the rules of CONTRIBUTING.md that a program can check.

    tools/tidy.py            check; exit status 1 and one line per finding if something is wrong
    tools/tidy.py --shrink   lower or drop the entries of tools/tidy_offenders.txt that got better

tools/tidy_offenders.txt lists what breaks a size limit today. Nothing on it may grow, and an entry
that got better has to be lowered, so the list only ever shrinks.
"""

from __future__ import annotations

import argparse
import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from cpp_outline import blank_literals, functions

OFFENDERS = "tools/tidy_offenders.txt"
FILE_LINES_MAX = 800
HEADER_LINES_MAX = 250
FUNCTION_LINES_MAX = 70
PARAMETERS_MAX = 5
CONSTRUCTOR_PARAMETERS_MAX = 6
README_LINES_MAX = 40

# What each folder under src/ may include, besides itself.
LAYERS = {
    "base": (),
    "wire": ("base",),
    "shm": ("base",),
    "core": ("base", "wire", "shm"),
    "io": ("base", "wire", "shm", "core"),
    "node": ("base", "wire", "shm", "core", "io"),
    "process": ("base", "wire", "shm", "core", "io"),
    "cli": ("base", "wire", "shm", "core", "io", "node", "process"),
    "python": ("base", "wire", "shm", "core", "io", "process"),
}

# Single headers beyond that. A ring holds frames and a location names a segment: both are plain
# structs that include nothing but base/.
ALSO_ALLOWED = {("shm", "wire/frames.h")}

# Headers that a decision must not need, in core/ itself or through what it includes.
NOT_IN_CORE_HEADERS = re.compile(
    r"""^<(thread|mutex|shared_mutex|condition_variable|future|semaphore|latch|barrier|stop_token
          |iostream|fstream|filesystem
          |sys/.*|linux/.*|netinet/.*|arpa/.*|netdb\.h|unistd\.h|fcntl\.h|poll\.h|pthread\.h
          |signal\.h|sched\.h|Python\.h|nanobind/.*|boost/.*|spdlog/.*
          |openssl/.*)>$
      | ^"(.*_generated\.h|Python\.h|nanobind/.*)"$""",
    re.VERBOSE,
)
NOT_IN_CORE_WORDS = re.compile(
    r"\b(steady_clock|system_clock|high_resolution_clock|monotonic_now|random_device|srand|rand"
    r"|getenv|gettimeofday|clock_gettime|std::time|thread_local|std::thread|std::mutex|this_thread)\b"
)
BANNED_NAME = re.compile(r"^(utils?|commons?|misc)$|(^|_)(utils?|misc)$", re.IGNORECASE)
NAMED_BY_THE_API = re.compile(
    r"^python/mobula/(util|_common/test_utils|_private/test_utils)"
)  # Programs import these.
CLASS_NAME = re.compile(r"^\s*(?:class|struct)\s+(?:\[\[.*?\]\]\s*)?(\w+)[^;]*$", re.MULTILINE)
EXCEPTIONS = re.compile(r"\b(throw|try)\b")
INCLUDE = re.compile(r'^\s*#\s*include\s*(<[^>]+>|"[^"]+")', re.MULTILINE)
# Spelled in pieces, so that this file does not find itself.
UNFINISHED = re.compile(r"\b(TO" r"DO|FIX" r"ME|X" r"XX|HA" r"CK)\b")
TEXT = {
    *(".cc", ".h", ".py", ".pyi", ".md", ".txt", ".toml", ".cmake", ".fbs", ".sh", ".html", ".map"),
    *(".js", ".css", ".ipynb", ""),
}


@dataclass(frozen=True)
class Finding:
    rule: str
    path: str
    line: int
    text: str
    # For size rules: what is measured and how large it is. "" where no exception can be listed.
    key: str = ""
    size: int = 0


def files_of(root: Path) -> list[str]:
    """The files of the repository: tracked, and untracked ones that git does not ignore."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=root,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    return sorted({path for path in listed.split("\0") if path and (root / path).is_file()})


class Tree:
    """The files of one repository, read once."""

    def __init__(self, root: Path, paths: list[str]) -> None:
        self.root = root
        self.paths = paths
        self.read = cache(self._read)
        self.code = cache(self._code)
        self.forbidden_in_core = cache(self._forbidden_in_core)

    def _read(self, path: str) -> str:
        return (self.root / path).read_text(encoding="utf-8", errors="replace")

    def _code(self, path: str) -> str:
        return blank_literals(self.read(path))

    def includes(self, path: str) -> list[tuple[int, str]]:
        """(line, <header> or "header") of each include. Read from the text: quotes are literals."""
        text = self.read(path)
        return [
            (text.count("\n", 0, match.start(1)) + 1, match.group(1))
            for match in INCLUDE.finditer(text)
        ]

    def _forbidden_in_core(self, path: str) -> str:
        """How `path` reaches a header that core/ must not see: "a.h -> <thread>", or ""."""
        seen: set[str] = set()
        waiting = [(path, "")]
        while waiting:
            at, route = waiting.pop()
            for _, header in self.includes(at):
                if NOT_IN_CORE_HEADERS.search(header):
                    return f"{route}{header}"
                inside = "src/" + header.strip('"')
                if header.startswith('"') and inside not in seen and inside in self.paths:
                    seen.add(inside)
                    waiting.append((inside, f"{route}{header} -> "))
        return ""


def is_cpp(path: str) -> bool:
    return path.endswith((".cc", ".h"))


def is_test(path: str) -> bool:
    return path.endswith(("_test.cc", "_test_support.cc", "_test_support.h"))


def module_of(path: str) -> str:
    """The folder under src/ that `path` lies in, or ""."""
    parts = path.split("/")
    return parts[1] if parts[0] == "src" and len(parts) > 2 else ""


def check_sizes(tree: Tree, path: str) -> Iterator[Finding]:
    if not path.endswith((".cc", ".h", ".py")):
        return
    text = tree.read(path)
    lines = text.count("\n")
    limit = HEADER_LINES_MAX if path.endswith(".h") else FILE_LINES_MAX
    if lines > limit:
        yield Finding("file-lines", path, 1, f"{lines} lines, limit {limit}", path, lines)
    outline = _python_functions(text) if path.endswith(".py") else _cpp_functions(text)
    for name, line, length, parameters, parameters_max in outline:
        key = f"{path}:{name}"
        if length > FUNCTION_LINES_MAX:
            message = f"{name} has {length} lines, limit {FUNCTION_LINES_MAX}"
            yield Finding("function-lines", path, line, message, key, length)
        if parameters > parameters_max:
            message = f"{name} has {parameters} parameters, limit {parameters_max}"
            yield Finding("parameters", path, line, message, key, parameters)


def _cpp_functions(text: str) -> Iterator[tuple[str, int, int, int, int]]:
    for found in functions(text):
        limit = CONSTRUCTOR_PARAMETERS_MAX if found.is_constructor else PARAMETERS_MAX
        yield found.name, found.line, found.lines, found.parameters, limit


def _python_functions(text: str) -> Iterator[tuple[str, int, int, int, int]]:
    """Lengths only: the parameters of Python functions have names at the call."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name, node.lineno, (node.end_lineno or node.lineno) - node.lineno + 1, 0, 0


def check_names(tree: Tree, path: str) -> Iterator[Finding]:
    for part in NAMED_BY_THE_API.sub("", path).split("/"):
        if BANNED_NAME.search(part.split(".")[0]):
            yield Finding("name", path, 1, f"'{part}' says nothing about what is inside")
    if is_cpp(path) or path.endswith(".py"):
        code = tree.code(path) if is_cpp(path) else tree.read(path)
        for match in CLASS_NAME.finditer(code):
            if re.search(r"(Manager|Utils?)$", match.group(1)):
                line = code.count("\n", 0, match.start(1)) + 1
                yield Finding("name", path, line, f"class {match.group(1)}: say what it does")


def check_layers(tree: Tree, path: str) -> Iterator[Finding]:
    module = module_of(path)
    if not module or not is_cpp(path):
        return
    allowed = (module, *LAYERS.get(module, ()))
    for line, header in tree.includes(path):
        if not header.startswith('"'):
            continue
        name = header.strip('"')
        folder = name.split("/")[0]
        if "/" not in name or folder not in LAYERS:
            text = f"include {header} by its full path, from src/"
            yield Finding("include-path", path, line, text)
        elif folder not in allowed and (module, name) not in ALSO_ALLOWED:
            yield Finding("layer", path, line, f"{module} must not include {header}")


def check_sans_io(tree: Tree, path: str) -> Iterator[Finding]:
    if module_of(path) != "core" or not is_cpp(path) or is_test(path):
        return
    route = tree.forbidden_in_core(path)
    if route:
        yield Finding("sans-io", path, 1, f"core includes {route}")
    code = tree.code(path)
    for match in NOT_IN_CORE_WORDS.finditer(code):
        line = code.count("\n", 0, match.start()) + 1
        yield Finding("sans-io", path, line, f"core uses {match.group(0)}: pass it in as an event")


def check_exceptions(tree: Tree, path: str) -> Iterator[Finding]:
    if module_of(path) in ("", "python") or not is_cpp(path):
        return
    code = tree.code(path)
    lines = tree.read(path).split("\n")
    for match in EXCEPTIONS.finditer(code):
        line = code.count("\n", 0, match.start()) + 1
        if match.group(0) == "try" and "//" in lines[line - 1]:
            continue  # Around a library that throws; the comment says so.
        yield Finding("exceptions", path, line, f"'{match.group(0)}': return a Result")


def check_header(tree: Tree, path: str) -> Iterator[Finding]:
    if not module_of(path) or not path.endswith(".h"):
        return
    lines = [line for line in tree.read(path).split("\n")[:4] if line.strip()]
    if not lines or lines[0] != "#pragma once":
        yield Finding("header", path, 1, "the first line is #pragma once")
    if len(lines) < 2 or not lines[1].startswith("// "):
        yield Finding("header", path, 1, "a comment says what this is, right after #pragma once")


def check_unfinished(tree: Tree, path: str) -> Iterator[Finding]:
    if Path(path).suffix not in TEXT or path == "LICENSE":
        return
    text = tree.read(path)
    for match in UNFINISHED.finditer(text):
        line = text.count("\n", 0, match.start()) + 1
        yield Finding("unfinished", path, line, f"'{match.group(0)}': do it, or say why not")
    here = re.search(r"(?<![\w./-])" + re.escape(str(tree.root)) + r"(?![\w-])", text)
    if here and len(str(tree.root)) > 5:
        line = text.count("\n", 0, here.start()) + 1
        yield Finding("machine-path", path, line, "the path of this checkout")


def check_readmes(tree: Tree) -> Iterator[Finding]:
    modules = sorted({module_of(path) for path in tree.paths if is_cpp(path)} - {""})
    for module in modules:
        path = f"src/{module}/README.md"
        if module not in LAYERS:
            yield Finding("layer", f"src/{module}", 1, "tools/tidy.py does not know its layer")
        if path not in tree.paths:
            yield Finding("readme", path, 1, "every folder under src/ has a README.md")
            continue
        lines = tree.read(path).count("\n")
        if lines >= README_LINES_MAX:
            message = f"{lines} lines, under {README_LINES_MAX} wanted"
            yield Finding("readme", path, 1, message, path, lines)


FILE_CHECKS = (
    *(check_sizes, check_names, check_layers, check_sans_io, check_exceptions, check_header),
    check_unfinished,
)


def findings(root: Path, paths: list[str] | None = None) -> list[Finding]:
    tree = Tree(root, files_of(root) if paths is None else paths)
    found = [
        finding for path in tree.paths for check in FILE_CHECKS for finding in check(tree, path)
    ]
    return found + list(check_readmes(tree))


def read_offenders(text: str) -> dict[tuple[str, str], int]:
    """Lines of `rule key size`; a line that starts with # is a comment."""
    known = {}
    for line in text.split("\n"):
        if line.strip() and not line.startswith("#"):
            rule, key, size = line.split()
            known[rule, key] = int(size)
    return known


def largest_sizes(found: list[Finding]) -> dict[tuple[str, str], int]:
    sizes: dict[tuple[str, str], int] = {}
    for finding in found:
        if finding.key:
            name = (finding.rule, finding.key)
            sizes[name] = max(sizes.get(name, 0), finding.size)
    return sizes


def apply_ratchet(
    found: list[Finding], known: dict[tuple[str, str], int]
) -> tuple[list[Finding], list[str]]:
    """What is wrong beyond the list, and the entries of the list that are larger than the facts."""
    wrong = []
    for finding in found:
        allowed = known.get((finding.rule, finding.key), 0) if finding.key else 0
        if not finding.key or finding.size > allowed:
            wrong.append(finding)
    sizes = largest_sizes(found)
    stale = [
        f"{OFFENDERS}: {rule} {key} is {sizes.get((rule, key), 'gone')}, listed as {size}"
        for (rule, key), size in known.items()
        if sizes.get((rule, key), 0) < size
    ]
    return wrong, stale


def shrink(text: str, found: list[Finding]) -> str:
    """The list with every entry lowered to today's size, and without those that are gone."""
    sizes = largest_sizes(found)
    kept = []
    for line in text.split("\n"):
        if line.strip() and not line.startswith("#"):
            rule, key, size = line.split()
            today = min(int(size), sizes.get((rule, key), 0))
            if today == 0:
                continue
            line = f"{rule} {key} {today}"
        kept.append(line)
    return "\n".join(kept)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description="The style ratchet.")
    parser.add_argument("--shrink", action="store_true", help="lower the list of offenders")
    parser.add_argument("--root", type=Path, default=Path(__file__).resolve().parent.parent)
    options = parser.parse_args(arguments)
    found = findings(options.root)
    offenders = options.root / OFFENDERS
    text = offenders.read_text() if offenders.exists() else ""
    if options.shrink:
        offenders.write_text(shrink(text, found))
        return 0
    wrong, stale = apply_ratchet(found, read_offenders(text))
    for finding in wrong:
        print(f"{finding.path}:{finding.line}: [{finding.rule}] {finding.text}")
    for line in stale:
        print(f"{line}; run tools/tidy.py --shrink")
    if wrong or stale:
        print(f"tidy: {len(wrong) + len(stale)} findings")
    return 1 if wrong or stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
