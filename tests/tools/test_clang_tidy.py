"""tools/clang_tidy.py looks again at a file when anything it includes has changed."""

from __future__ import annotations

from pathlib import Path

import clang_tidy


def tree(root: Path) -> Path:
    (root / "base").mkdir(parents=True)
    (root / "base/time.h").write_text("#include <chrono>\n")
    (root / "base/pool.h").write_text('#include "base/time.h"\n')
    (root / "base/other.h").write_text("int other;\n")
    (root / "base/pool.cc").write_text('#include "base/pool.h"\n')
    return root / "base/pool.cc"


def test_headers_of_headers_count(tmp_path: Path) -> None:
    source = tree(tmp_path)
    names = {path.name for path in clang_tidy.Headers([tmp_path]).closure(source)}
    assert names == {"pool.cc", "pool.h", "time.h"}


def test_the_digest_follows_what_matters_and_nothing_else(tmp_path: Path) -> None:
    source = tree(tmp_path)
    before = clang_tidy.Headers([tmp_path]).digest(source, "flags")
    (tmp_path / "base/other.h").write_text("int changed;\n")
    assert clang_tidy.Headers([tmp_path]).digest(source, "flags") == before
    assert clang_tidy.Headers([tmp_path]).digest(source, "other flags") != before
    (tmp_path / "base/time.h").write_text("#include <ratio>\n")
    assert clang_tidy.Headers([tmp_path]).digest(source, "flags") != before


def test_headers_that_include_each_other_end(tmp_path: Path) -> None:
    source = tree(tmp_path)
    (tmp_path / "base/time.h").write_text('#include "base/pool.h"\n')
    assert len(clang_tidy.Headers([tmp_path]).closure(source)) == 3
