"""Lines that many workers print are printed once, with their number."""

from __future__ import annotations

import os
import random
import re
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import AGAINST_RAY

if not AGAINST_RAY:
    from mobula._log_repeats import _LENGTH_MAX, _LINES_MAX, Line, Repeats, Settings, settings_of

pytestmark = pytest.mark.mobula_only

RunScript = Callable[..., subprocess.CompletedProcess[str]]


def line(pid: int, text: str, is_stderr: bool = False) -> tuple[int, str, bool, str]:
    return pid, "task", is_stderr, text


def texts(lines: list[Line]) -> list[str]:
    return [f"{line.pid} {line.text.partition(' (set ')[0]}" for line in lines]


# ---- the rule ------------------------------------------------------------------------------------


def test_the_first_is_passed_on_and_the_others_are_counted() -> None:
    repeats = Repeats(Settings(window_seconds=5))
    assert texts(repeats.take([line(1, "a"), line(2, "a"), line(3, "a")], 10)) == ["1 a"]
    assert texts(repeats.take([line(4, "a")], 12)) == []
    assert repeats.next_due() == 15
    assert repeats.due(14.9) == []
    assert texts(repeats.due(15)) == ["4 a [repeated 3x across cluster]"]
    assert repeats.next_due() is None
    # Forgotten: it is news again.
    assert texts(repeats.take([line(2, "a")], 16)) == ["2 a"]
    assert repeats.end() == []


def test_one_repetition_is_passed_on_as_it_is() -> None:
    repeats = Repeats(Settings())
    repeats.take([line(1, "a"), line(2, "a")], 0)
    assert texts(repeats.end()) == ["2 a"]


def test_a_process_may_repeat_itself() -> None:
    repeats = Repeats(Settings())
    assert texts(repeats.take([line(1, "a")] * 3, 0)) == ["1 a"] * 3
    assert texts(repeats.take([line(2, "a")] * 3, 1)) == []
    assert texts(repeats.take([line(1, "a")], 2)) == ["1 a"]
    assert texts(repeats.end()) == ["2 a [repeated 3x across cluster]"]


def test_streams_and_texts_are_kept_apart() -> None:
    repeats = Repeats(Settings())
    different = [line(1, "a"), line(2, "a", is_stderr=True), line(3, "A"), line(4, "a 1")]
    assert len(repeats.take(different, 0)) == 4
    assert repeats.end() == []


def test_what_is_due_comes_before_what_is_new() -> None:
    repeats = Repeats(Settings(window_seconds=5))
    repeats.take([line(1, "a"), line(2, "a"), line(3, "a")], 0)
    passed = texts(repeats.take([line(4, "b"), line(4, "a")], 5))
    assert passed == ["3 a [repeated 2x across cluster]", "4 b", "4 a"]


def test_blank_and_long_lines_are_never_held_back() -> None:
    repeats = Repeats(Settings())
    long = "x" * (_LENGTH_MAX + 1)
    lines = [line(pid, text) for pid in range(3) for text in ("", "  ", long)]
    assert len(repeats.take(lines, 0)) == 9


def test_only_so_many_lines_are_known_and_none_is_lost() -> None:
    repeats = Repeats(Settings())
    repeats.take([line(1, "first"), line(2, "first"), line(3, "first")], 0)
    passed = repeats.take([line(1, str(i)) for i in range(_LINES_MAX)], 0)
    assert texts(passed).count("3 first [repeated 2x across cluster]") == 1
    assert len(passed) == _LINES_MAX + 1


def test_the_hint_how_to_see_all_comes_once() -> None:
    repeats = Repeats(Settings())
    repeats.take([line(pid, text) for text in "ab" for pid in range(3)], 0)
    assert ["MOBULA_DEDUP_LOGS=0" in line.text for line in repeats.end()] == [True, False]


@pytest.mark.random
def test_random_lines_are_all_accounted_for() -> None:
    seed = int(os.environ.get("MOBULA_SEED", "1"))
    generator = random.Random(seed)
    repeats = Repeats(Settings(window_seconds=5))
    now = 0.0
    sent: Counter[str] = Counter()
    passed: list[Line] = []
    for _ in range(500):
        now += generator.choice([0, 0.1, 1, 4])
        batch = [
            line(generator.randrange(4), generator.choice("abc"))
            for _ in range(generator.randrange(6))
        ]
        sent.update(text for _, _, _, text in batch)
        passed += repeats.take(batch, now)
        due = repeats.next_due()
        assert due is None or now < due <= now + 5
        if generator.random() < 0.2:
            passed += repeats.due(now)
    passed += repeats.end()
    accounted: Counter[str] = Counter()
    for each in passed:
        found = re.search(r"\[repeated (\d+)x", each.text)
        accounted[each.text[0]] += int(found[1]) if found else 1
    assert accounted == sent, f"MOBULA_SEED={seed}"


# ---- settings ------------------------------------------------------------------------------------


def test_settings_come_from_the_environment() -> None:
    assert settings_of({}) == Settings(5.0, None, None)
    assert settings_of({"MOBULA_DEDUP_LOGS": "0"}) is None
    settings = settings_of(
        {
            "MOBULA_DEDUP_LOGS_AGG_WINDOW_S": "0.5",
            "MOBULA_DEDUP_LOGS_ALLOW_REGEX": "loss|epoch",
            "MOBULA_DEDUP_LOGS_SKIP_REGEX": "^debug",
        }
    )
    assert settings is not None
    repeats = Repeats(settings)
    lines = [line(pid, text) for text in ("a loss", "debug a", "a debug") for pid in (1, 2)]
    assert texts(repeats.take(lines, 0)) == ["1 a loss", "2 a loss", "1 a debug"]
    assert repeats.next_due() == 0.5


@pytest.mark.parametrize(
    ("name", "value"), [("AGG_WINDOW_S", "soon"), ("AGG_WINDOW_S", "-1"), ("ALLOW_REGEX", "(")]
)
def test_settings_that_make_no_sense(name: str, value: str) -> None:
    with pytest.raises(ValueError, match=f"MOBULA_DEDUP_LOGS_{name}"):
        settings_of({f"MOBULA_DEDUP_LOGS_{name}": value})


# ---- a driver ------------------------------------------------------------------------------------

THREE_SAY = """
import os, sys
sys.path.insert(0, os.environ["TESTS"])
import mobula as ray
from meeting import meet

@ray.remote
def speak(folder, me):
    names = ["0", "1", "2"]
    assert meet(folder, me, names)
    print("the same")
    print("not", me)

def three_speak(folder):
    os.mkdir(folder)
    ray.get([speak.remote(folder, str(i)) for i in range(3)])

ray.init(num_cpus=3)
"""


def spoken(done: subprocess.CompletedProcess[str]) -> list[str]:
    lines = [re.sub(r"^\(speak pid=\d+\) ", "", line) for line in done.stdout.splitlines()]
    return sorted(line.partition(" (set ")[0] for line in lines)


def environment(**variables: str) -> dict[str, str]:
    return {**os.environ, "TESTS": str(Path(__file__).parent), **variables}


def test_nothing_is_lost_when_the_session_ends(run_script: RunScript) -> None:
    done = run_script(
        THREE_SAY + "three_speak('meeting')\nray.shutdown()\nprint('end')",
        env=environment(MOBULA_DEDUP_LOGS_AGG_WINDOW_S="1000"),
    )
    assert spoken(done) == [
        "end", "not 0", "not 1", "not 2", "the same", "the same [repeated 2x across cluster]"
    ]  # fmt: skip
    assert done.stdout.endswith("end\n")


def test_what_is_held_back_is_printed_when_the_window_ends(run_script: RunScript) -> None:
    done = run_script(
        THREE_SAY
        + """
import re, threading

all_seen = threading.Event()

class Watched:
    seen = 0
    def __init__(self, stream):
        self.stream = stream
    def write(self, text):
        for _, number in re.findall(r"the same( .repeated (\\d+)x)?", text):
            self.seen += int(number or 1)
        if self.seen == 3:
            all_seen.set()
        return self.stream.write(text)
    def __getattr__(self, name):
        return getattr(self.stream, name)

sys.stdout = Watched(sys.stdout)
three_speak("meeting")
print("seen", all_seen.wait(60))
ray.shutdown()
""",
        env=environment(MOBULA_DEDUP_LOGS_AGG_WINDOW_S="1"),
    )
    assert "seen True" in spoken(done)


def test_all_lines_are_printed_where_that_is_asked_for(run_script: RunScript) -> None:
    done = run_script(THREE_SAY + "three_speak('meeting')", env=environment(MOBULA_DEDUP_LOGS="0"))
    assert spoken(done) == ["not 0", "not 1", "not 2"] + ["the same"] * 3


def test_a_wrong_setting_keeps_the_session_from_starting(run_script: RunScript) -> None:
    done = run_script(
        "import mobula\nmobula.init(num_cpus=1)",
        status=1,
        env=environment(MOBULA_DEDUP_LOGS_SKIP_REGEX="("),
    )
    assert "MOBULA_DEDUP_LOGS_SKIP_REGEX" in done.stderr
