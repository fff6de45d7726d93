"""tools/check_extension_links.py tells a clean extension from one that links or shows too much."""

from __future__ import annotations

import subprocess
from pathlib import Path

import check_extension_links as links
import pytest

SOURCE = """
#include <math.h>
__attribute__((visibility("default"))) int PyInit__core(void) { return 0; }
#ifdef LEAK
int leaked(int x) { return x; }
#endif
"""


def build(folder: Path, *flags: str) -> str:
    source = folder / "module.c"
    source.write_text(SOURCE)
    output = folder / "_core.so"
    hidden = "-fvisibility=hidden"
    command = ["gcc", "-shared", "-fPIC", hidden, str(source), "-o", str(output), *flags]
    subprocess.run(command, check=True)
    return str(output)


def test_libc_alone_is_fine(tmp_path: Path) -> None:
    assert links.main([build(tmp_path)]) == 0


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("-DLEAK", "-fvisibility=default"), "exports leaked"),
        (("-Wl,--no-as-needed", "-lutil", "-lresolv"), "links libresolv.so.2"),
        (("-Wl,-rpath,/somewhere/lib",), "has search path /somewhere/lib"),
        (("-DPyInit__core=PyInit_other",), "does not export PyInit__core"),
    ],
)
def test_what_does_not_belong_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: tuple[str, ...], message: str
) -> None:
    assert links.main([build(tmp_path, *flags)]) == 1
    assert message in capsys.readouterr().out


def test_a_missing_file_is_not_a_pass(tmp_path: Path) -> None:
    assert links.main([str(tmp_path / "none.so")]) == 1
    assert links.main([]) == 2
