"""Each rule of tools/tidy.py finds what it is for and leaves the rest alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import tidy
from cpp_outline import Function, functions

HEADER = "#pragma once\n// Thing is a thing.\n"


def check(tmp_path: Path, **files: str) -> list[tidy.Finding]:
    """Findings in a tree of `files`; `__` in a name stands for `/`, `_cc`, `_h` for the ending."""
    paths = []
    for name, text in files.items():
        path = name.replace("__", "/")
        for ending in ("cc", "h", "py", "md"):
            path = path.removesuffix(f"_{ending}") + f".{ending}" * path.endswith(f"_{ending}")
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
        paths.append(path)
    found = tidy.findings(tmp_path, paths)
    return [finding for finding in found if finding.rule != "readme"]


def rules(found: list[tidy.Finding]) -> list[str]:
    return [finding.rule for finding in found]


def test_a_clean_tree_has_no_findings(tmp_path: Path) -> None:
    assert not check(
        tmp_path,
        src__base__time_h=HEADER + "#include <chrono>\nusing Instant = int;\n",
        src__core__pool_h=HEADER + '#include "base/time.h"\nvoid grow(int by, int limit);\n',
        src__core__pool_cc='#include "core/pool.h"\nvoid grow(int by, int limit) { use(by); }\n',
    )


def test_a_long_file_is_found_and_a_header_sooner(tmp_path: Path) -> None:
    found = check(
        tmp_path,
        src__base__a_cc="int a;\n" * 801,
        src__base__b_cc="int a;\n" * 800,
        src__base__c_h=HEADER + "int a;\n" * 249,
        src__base__d_h=HEADER + "int a;\n" * 248,
    )
    assert [(f.rule, f.path, f.size) for f in found] == [
        ("file-lines", "src/base/a.cc", 801),
        ("file-lines", "src/base/c.h", 251),
    ]


def test_a_long_function_is_found_with_its_name(tmp_path: Path) -> None:
    body = "  step();\n"
    found = check(
        tmp_path,
        src__base__a_cc="void Thing::run() {\n" + body * 69 + "}\n",
        src__base__b_cc="void Thing::run() {\n" + body * 68 + "}\n",
        tools__c_py="def run():\n" + "    step()\n" * 70,
    )
    assert [(f.path, f.key, f.size) for f in found] == [
        ("src/base/a.cc", "src/base/a.cc:Thing::run", 71),
        ("tools/c.py", "tools/c.py:run", 71),
    ]


def test_six_parameters_are_too_many_except_for_a_constructor(tmp_path: Path) -> None:
    found = check(
        tmp_path,
        src__base__a_cc=(
            "class Pool {\n"
            "  Pool(int a, int b, int c, int d, int e, int f);\n"
            "  void six(int a, int b, int c, int d, int e, int f);\n"
            "  void five(int a, std::map<int, int> b, int c, std::pair<int, int> d, int e);\n"
            "};\n"
        ),
    )
    assert [(f.rule, f.line, f.size) for f in found] == [("parameters", 3, 6)]


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("src__base__utils_cc", ""),
        ("src__base__string_util_cc", ""),
        ("src__common__pool_h", HEADER),
        ("src__base__pool_h", HEADER + "class PoolManager {\n};\n"),
        ("python__mobula__pool_py", "class PoolManager:\n    pass\n"),
    ],
)
def test_a_name_that_says_nothing_is_found(tmp_path: Path, path: str, text: str) -> None:
    assert "name" in rules(check(tmp_path, **{path: text}))


def test_words_that_only_contain_a_banned_one_are_fine(tmp_path: Path) -> None:
    text = "// A utility, in common use, of the manager.\n"
    assert not check(tmp_path, src__base__utilization_h=HEADER + text)
    assert not check(tmp_path / "api", python__mobula__util__queue_py="")
    assert check(tmp_path / "api", python__mobula__util__misc_py="")


@pytest.mark.parametrize(
    ("module", "header", "allowed"),
    [
        ("base", "base/time.h", True),
        ("base", "wire/frames.h", False),
        ("shm", "base/time.h", True),
        ("shm", "wire/frames.h", True),
        ("shm", "wire/control.h", False),
        ("core", "shm/ring.h", True),
        ("core", "io/loop.h", False),
        ("node", "process/runtime.h", False),
        ("process", "node/daemon.h", False),
        ("process", "io/loop.h", True),
        ("python", "process/runtime.h", True),
        ("python", "node/daemon.h", False),
        ("cli", "node/daemon.h", True),
    ],
)
def test_arrows_between_folders_go_one_way(
    tmp_path: Path, module: str, header: str, allowed: bool
) -> None:
    found = check(tmp_path, **{f"src__{module}__a_cc": f'#include "{header}"\n'})
    assert rules(found) == ([] if allowed else ["layer"])


def test_an_include_is_a_full_path(tmp_path: Path) -> None:
    assert rules(check(tmp_path, src__base__a_cc='#include "time.h"\n')) == ["include-path"]


def test_an_include_in_a_comment_is_not_one(tmp_path: Path) -> None:
    assert not check(tmp_path, src__base__a_cc='// #include "node/daemon.h"\n')


@pytest.mark.parametrize(
    "line",
    [
        "#include <thread>",
        "#include <mutex>",
        "#include <sys/socket.h>",
        "#include <boost/asio.hpp>",
        '#include "wire/control_generated.h"',
        "#include <Python.h>",
        "auto now = std::chrono::steady_clock::now();",
        "std::random_device device;",
    ],
)
def test_a_decision_touches_nothing_outside(tmp_path: Path, line: str) -> None:
    assert "sans-io" in rules(check(tmp_path, src__core__a_cc=line + "\n"))
    elsewhere = line.replace("wire/control_generated.h", "io/control.h")
    assert not check(tmp_path / "io", src__io__a_cc=elsewhere + "\n")


def test_what_a_decision_includes_counts_too(tmp_path: Path) -> None:
    found = check(
        tmp_path,
        src__core__a_cc='#include "shm/ring.h"\n',
        src__shm__ring_h=HEADER + '#include "base/lock.h"\n',
        src__base__lock_h=HEADER + "#include <mutex>\n",
    )
    assert [finding.text for finding in found] == [
        'core includes "shm/ring.h" -> "base/lock.h" -> <mutex>'
    ]


def test_tests_of_decisions_may_read_the_environment(tmp_path: Path) -> None:
    assert not check(tmp_path, src__core__a_test_cc='auto* seed = std::getenv("MOBULA_SEED");\n')


def test_exceptions_are_for_the_binding_only(tmp_path: Path) -> None:
    text = "void f() { throw 1; }\n"
    assert rules(check(tmp_path, src__node__a_cc=text)) == ["exceptions"]
    assert not check(tmp_path / "binding", src__python__a_cc=text)
    wrapped = "void f() {\n  try {REASON\n    g();\n  } catch (const E&) {\n  }\n}\n"
    said = wrapped.replace("REASON", "  // The library throws.")
    assert not check(tmp_path / "said", src__node__a_cc=said)
    unsaid = check(tmp_path / "unsaid", src__node__a_cc=wrapped.replace("REASON", ""))
    assert rules(unsaid) == ["exceptions"]
    assert not check(tmp_path / "prose", src__node__a_cc='// We try to catch "throw".\n')


def test_a_header_begins_with_what_it_is(tmp_path: Path) -> None:
    assert not check(tmp_path, src__base__a_h=HEADER)
    assert rules(check(tmp_path, src__base__a_h="#pragma once\nint a;\n")) == ["header"]
    assert rules(check(tmp_path, src__base__a_h="// A.\n#pragma once\n")) == ["header", "header"]


def test_unfinished_work_is_found(tmp_path: Path) -> None:
    word = "TO" + "DO"
    assert rules(check(tmp_path, docs__a_md=f"{word}: write this\n")) == ["unfinished"]
    assert rules(check(tmp_path, docs__a_md=f"See {tmp_path}/docs.\n")) == ["machine-path"]


def test_every_folder_has_a_short_readme(tmp_path: Path) -> None:
    (tmp_path / "src/base").mkdir(parents=True)
    (tmp_path / "src/base/a.cc").write_text("int a;\n")
    assert rules(tidy.findings(tmp_path, ["src/base/a.cc"])) == ["readme"]
    (tmp_path / "src/base/README.md").write_text("line\n" * 39)
    assert not tidy.findings(tmp_path, ["src/base/a.cc", "src/base/README.md"])
    (tmp_path / "src/base/README.md").write_text("line\n" * 40)
    assert rules(tidy.findings(tmp_path, ["src/base/a.cc", "src/base/README.md"])) == ["readme"]


def test_the_ratchet_lets_nothing_grow_and_wants_progress_written_down() -> None:
    def of_size(size: int) -> list[tidy.Finding]:
        return [tidy.Finding("file-lines", "a.cc", 1, "", "a.cc", size)]

    listed = tidy.read_offenders("# Why.\nfile-lines a.cc 900\n")
    assert tidy.apply_ratchet(of_size(900), listed) == ([], [])
    assert tidy.apply_ratchet(of_size(901), listed) == (of_size(901), [])
    assert tidy.apply_ratchet(of_size(900), {}) == (of_size(900), [])
    wrong, stale = tidy.apply_ratchet(of_size(850), listed)
    assert not wrong
    assert len(stale) == 1
    assert len(tidy.apply_ratchet([], listed)[1]) == 1


def test_shrinking_never_raises_a_limit() -> None:
    found = [
        tidy.Finding("file-lines", "a.cc", 1, "", "a.cc", 850),
        tidy.Finding("file-lines", "b.cc", 1, "", "b.cc", 999),
        tidy.Finding("file-lines", "new.cc", 1, "", "new.cc", 900),
    ]
    before = "# Why.\nfile-lines a.cc 900\nfile-lines b.cc 900\nfile-lines gone.cc 900\n"
    assert tidy.shrink(before, found) == "# Why.\nfile-lines a.cc 850\nfile-lines b.cc 900\n"


def test_what_is_not_a_size_cannot_be_listed() -> None:
    found = [tidy.Finding("layer", "src/base/a.cc", 1, "")]
    assert tidy.apply_ratchet(found, {("layer", ""): 9})[0] == found


def test_the_program_reports_and_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "src/base").mkdir(parents=True)
    (tmp_path / "src/base/a.cc").write_text('#include "node/daemon.h"\n')
    (tmp_path / "src/base/README.md").write_text("# base\n")
    monkeypatch.setattr(tidy, "files_of", lambda root: ["src/base/README.md", "src/base/a.cc"])
    assert tidy.main(["--root", str(tmp_path)]) == 1
    assert "src/base/a.cc:1: [layer] base must not include" in capsys.readouterr().out
    (tmp_path / "src/base/a.cc").write_text("int a;\n")
    assert tidy.main(["--root", str(tmp_path)]) == 0


CODE = """
#define CALL(x) \\
  do_it(x); {
namespace mobula {
namespace {
constexpr int kTable[] = {1, 2, 3};
int helper(int a, const std::function<void(int, int)>& b) { return a; }
}  // namespace
template <typename T, typename U = std::vector<T>>
class Pool : public Base<T> {
 public:
  explicit Pool(Options options) : options_{options}, next_(1) {
    start();
  }
  Pool(const Pool&) = delete;
  bool operator==(const Pool&) const = default;
  int operator()(int a, int b) const { return a + b; }
  void on_event(Id id, Instant now,
                Effects& effects);
 private:
  std::function<void()> done_{[] { puts("}"); }};
  int count_ = 0;
};
auto run(int a) -> Result<void> {
  const auto later = [a](int b) {
    if (b > 'a') return a;
    return b;
  };
  for (int i = 0; i < 3; ++i) { later(i); }
}
TEST_F(PoolTest, grows) { EXPECT_TRUE(true); }
}  // namespace mobula
"""


def test_the_outline_of_a_file() -> None:
    assert functions(CODE) == [
        Function("helper", 7, 1, 2, False),
        Function("Pool", 12, 3, 1, True),
        Function("Pool", 15, 1, 1, True),
        Function("operator==", 16, 1, 1, False),
        Function("operator()", 17, 1, 2, False),
        Function("on_event", 18, 2, 3, False),
        Function("run", 24, 7, 1, False),
        Function("PoolTest.grows", 31, 1, 2, False),
    ]
