"""Lines of tasks are shown on whatever the driver has as sys.stdout and sys.stderr."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest
from conftest import AGAINST_RAY

if not AGAINST_RAY:
    from mobula import _driver_streams
    from mobula._logs import Line, _print

pytestmark = pytest.mark.mobula_only

RunScript = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def original(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """Stands for the stream with which Python began."""
    stream = io.StringIO()
    monkeypatch.setattr(sys, "__stdout__", stream)
    monkeypatch.setattr(_driver_streams, "_told", set())
    return stream


def say(*texts: str, on_stderr: bool = False) -> None:
    _print([Line(7, "f", on_stderr, text) for text in texts], True)


def put(monkeypatch: pytest.MonkeyPatch, stream: Any) -> None:
    monkeypatch.setattr(sys, "stdout", stream)


def shown(*texts: str) -> str:
    return "".join(f"(f pid=7) {text}\n" for text in texts)


class Plain:
    """Has `write` and nothing else."""

    def __init__(self) -> None:
        self.text = ""

    def write(self, text: str) -> None:
        self.text += text


class Refuses(Plain):
    """The first writes raise."""

    def __init__(self, times: int, error: BaseException) -> None:
        super().__init__()
        self.times = times
        self.error = error

    def write(self, text: str) -> None:
        self.times -= 1
        if self.times >= 0:
            raise self.error
        super().write(text)


def test_a_stream_without_flush_and_isatty(
    monkeypatch: pytest.MonkeyPatch, original: io.StringIO
) -> None:
    stream = Plain()
    put(monkeypatch, stream)
    say("a", "b")
    assert stream.text == shown("a", "b")
    assert original.getvalue() == ""


@pytest.mark.parametrize("encoding", ["latin-1", "ascii", "cp1252", "shift_jis"])
def test_what_an_encoding_lacks_is_escaped_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch, original: io.StringIO, encoding: str
) -> None:
    below = io.BytesIO()
    put(monkeypatch, io.TextIOWrapper(below, encoding=encoding))
    say("plain before", "price 5 \N{SNOWMAN}\U0001f600", "plain after")
    expected = "price 5 \N{SNOWMAN}\U0001f600".encode(encoding, "backslashreplace").decode(encoding)
    assert below.getvalue().decode(encoding) == shown("plain before", expected, "plain after")
    assert original.getvalue() == ""


def test_a_stream_that_refuses_characters_and_names_no_encoding(
    monkeypatch: pytest.MonkeyPatch, original: io.StringIO
) -> None:
    class Ascii(Plain):
        def write(self, text: str) -> None:
            text.encode("ascii")
            super().write(text)

    stream = Ascii()
    put(monkeypatch, stream)
    say("a", "\N{SNOWMAN}", "b")
    assert stream.text == shown("a", "\\u2603", "b")


def test_a_stream_with_an_encoding_that_does_not_exist(
    monkeypatch: pytest.MonkeyPatch, original: io.StringIO
) -> None:
    class Odd(Plain):
        encoding = "no-such-encoding"

        def write(self, text: str) -> None:
            text.encode("ascii")
            super().write(text)

    stream = Odd()
    put(monkeypatch, stream)
    say("\N{SNOWMAN}")
    assert stream.text == shown("\\u2603")


@pytest.mark.parametrize(
    "error", [RuntimeError("first"), OSError(5, "first"), KeyboardInterrupt(), SystemExit(3)]
)
def test_a_write_that_raises_once_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, original: io.StringIO, error: BaseException
) -> None:
    stream = Refuses(1, error)
    put(monkeypatch, stream)
    say("a", "b")
    say("c")
    assert stream.text == shown("a", "b", "c")
    assert original.getvalue() == ""


def test_one_bad_line_does_not_take_others_with_it(
    monkeypatch: pytest.MonkeyPatch, original: io.StringIO
) -> None:
    class Picky(Plain):
        def write(self, text: str) -> None:
            if "bad" in text:
                raise LookupError("bad")
            super().write(text)

    stream = Picky()
    put(monkeypatch, stream)
    say("a", "bad one", "b")
    assert stream.text == shown("a", "b")
    told, rest = original.getvalue().split("\n", 1)
    assert told == "(mobula) sys.stdout refuses lines of tasks (LookupError: bad)"
    assert rest == shown("bad one")
    say("bad two")  # The reason is told once.
    assert original.getvalue().endswith(shown("bad one", "bad two"))


def test_a_closed_stream_is_passed_over_for_the_original(
    monkeypatch: pytest.MonkeyPatch, original: io.StringIO
) -> None:
    closed = io.StringIO()
    closed.close()
    put(monkeypatch, closed)
    say("a")
    assert original.getvalue() == shown("a")


def test_no_stream_at_all_is_silent_as_print_is(
    monkeypatch: pytest.MonkeyPatch, original: io.StringIO
) -> None:
    put(monkeypatch, None)
    say("a")
    monkeypatch.delattr(sys, "stdout")
    say("b")
    assert original.getvalue() == ""


def test_both_streams_are_closed(monkeypatch: pytest.MonkeyPatch, original: io.StringIO) -> None:
    original.close()
    put(monkeypatch, original)
    say("a")
    stream = io.StringIO()
    put(monkeypatch, stream)
    say("b")
    assert stream.getvalue() == shown("b")


@pytest.mark.parametrize("what", ["flush", "isatty", "fileno", "encoding"])
def test_other_attributes_that_raise_do_not_matter(
    monkeypatch: pytest.MonkeyPatch, original: io.StringIO, what: str
) -> None:
    def fail(self: Any) -> Any:
        raise RuntimeError(what)

    kind = type("Odd", (Plain,), {what: property(fail) if what == "encoding" else fail})
    stream = kind()
    put(monkeypatch, stream)
    say("a", "\N{SNOWMAN}")
    assert stream.text == shown("a", "\N{SNOWMAN}")


def test_a_stream_that_is_replaced_between_lines(
    monkeypatch: pytest.MonkeyPatch, original: io.StringIO
) -> None:
    first, second = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(first):
        say("a")
    with contextlib.redirect_stdout(second):
        say("b")
    assert (first.getvalue(), second.getvalue()) == (shown("a"), shown("b"))


def test_a_binary_stream_is_passed_over(
    monkeypatch: pytest.MonkeyPatch, original: io.StringIO
) -> None:
    put(monkeypatch, io.BytesIO())
    say("a")
    assert original.getvalue().endswith(shown("a"))


def test_a_descriptor_that_does_not_block_gets_everything(
    monkeypatch: pytest.MonkeyPatch, original: io.StringIO
) -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    texts = [str(i) * 3000 for i in range(100)]
    received: list[bytes] = []

    def read() -> None:
        while chunk := os.read(reading, 1 << 16):
            received.append(chunk)

    with os.fdopen(writing, "w", encoding="utf-8") as stream:
        put(monkeypatch, stream)
        # Not read yet: the pipe fills up.
        printer = threading.Thread(target=say, args=texts)
        printer.start()
        reader = threading.Thread(target=read)
        reader.start()
        printer.join(30)
        assert not printer.is_alive()
    reader.join(30)
    os.close(reading)
    assert b"".join(received).decode() == shown(*texts)


PROGRAM = """
import io, os, sys
import mobula as ray

real = sys.stdout
ray.init(num_cpus=1)

@ray.remote
def say(text):
    print(text)

@ray.remote
def double(x):
    return 2 * x

class Asks:
    def write(self, text):
        real.write(f"{ray.get(double.remote(21))}:{text}")

class NoFlush:
    def write(self, text):
        real.write(text)

class RaisesOnce:
    left = 1
    def write(self, text):
        RaisesOnce.left -= 1
        if RaisesOnce.left >= 0:
            raise RuntimeError("first write fails")
        real.write(text)

class Waits:  # Until a line has come.
    def __init__(self, stream, gate):
        self.stream = stream
        self.gate = gate
    def write(self, text):
        self.stream.write(text)
        if "last" in text:
            open(self.gate, "w").close()

import time
narrow = io.TextIOWrapper(os.fdopen(os.dup(1), "wb", 0), encoding="latin-1", write_through=True)
for number, stream in enumerate([narrow, NoFlush(), RaisesOnce(), Asks()]):
    gate = f"gate{number}"
    real.flush()
    sys.stdout = Waits(stream, gate)
    ray.get(say.remote(f"{number} first \\u20ac"))
    ray.get(say.remote(f"{number} last"))
    while not os.path.exists(gate):
        time.sleep(0.005)
sys.stdout = real
ray.get(say.remote("end"))
ray.shutdown()
"""


def test_the_stream_may_use_the_session_itself(run_script: RunScript) -> None:
    done = run_script(
        PROGRAM,
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},
        encoding="utf-8",
    )
    lines = [
        # Lines that come together are written together.
        line.replace(line[line.index(" pid=") : line.index(")")], "").removeprefix("42:")
        for line in done.stdout.splitlines()
    ]
    assert lines == [
        "(say) 0 first \\u20ac",
        "(say) 0 last",
        "(say) 1 first \N{EURO SIGN}",
        "(say) 1 last",
        "(say) 2 first \N{EURO SIGN}",
        "(say) 2 last",
        "(say) 3 first \N{EURO SIGN}",
        "(say) 3 last",
        "(say) end",
    ]
    assert "42:(say" in done.stdout
