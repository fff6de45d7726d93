#!/usr/bin/env python3
"""Plants mistakes in the state machines of actors, one at a time, and sees that the test finds them.

    tools/planted_bugs.py --build build/release

A simulation that finds nothing says little unless it finds what is known to be wrong. Each mistake is a
change of a few words in a copy of the sources; the test is compiled with it and must fail. Nothing in
the work tree changes. Exit status 1: a mistake was not found, or cannot be planted any more.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "src" / "core" / "actors"
SOURCES = ("actor_registry.cc", "call_queue.cc", "actors_random_test.cc")
TEST_SECONDS_MAX = 120


@dataclass(frozen=True)
class Mistake:
    what: str
    file: str
    right: str
    wrong: str


MISTAKES = (
    Mistake(
        "a call that had started runs again without a retry",
        "call_queue.cc",
        "(had_started && retries_left == 0)",
        "(had_started && retries_left < -1)",
    ),
    Mistake(
        "lost calls wait behind those that came after them",
        "call_queue.cc",
        "line_.push_front(call);",
        "line_.push_back(call);",
    ),
    Mistake(
        "a call whose arguments are missing is passed by others",
        "call_queue.cc",
        "list_of(call).push_back(call);",
        "ready ? line_.push_front(call) : list_of(call).push_back(call);",
    ),
    Mistake(
        "calls of a dead actor wait",
        "call_queue.cc",
        "if (reach_ == Reach::kDead) return Fate::kDead;\n  if (reach_ == Reach::kRestarting &&",
        "if (reach_ == Reach::kRestarting &&",
    ),
    Mistake(
        "calls that nobody waits for are left while the actor restarts",
        "call_queue.cc",
        "if (call->ready && !call->is_retried) return call;",
        "if (call->ready && call->is_retried) return nullptr;",
    ),
    Mistake(
        "an actor comes back once more than allowed",
        "actor_registry.cc",
        "actor.restarts < static_cast<uint32_t>(actor.options.restarts_max)",
        "actor.restarts <= static_cast<uint32_t>(actor.options.restarts_max)",
    ),
    Mistake(
        "callers do not wait for an actor that dies in its first constructor",
        "actor_registry.cc",
        "if (!actor.was_made) return;",
        "",
    ),
    Mistake(
        "who connects to an actor that was never made does not wait for it",
        "actor_registry.cc",
        "} else if (actor.was_made) {",
        "} else if (actor.restarts > 0) {",
    ),
    Mistake(
        "callers of a new actor are not told where it is",
        "actor_registry.cc",
        "effects.emplace_back(Introduce{id, caller, worker});",
        "if (actor.restarts == 0) effects.emplace_back(Introduce{id, caller, worker});",
    ),
    Mistake(
        "who connects to a dead actor is not told",
        "actor_registry.cc",
        "effects.emplace_back(TellDead{id, caller, actor.death});\n  } else if",
        "return;\n  } else if",
    ),
    Mistake(
        "an actor whose last handle went while it was made stays",
        "actor_registry.cc",
        "if (!actor.unreachable) return;\n  actor.asked_to_exit",
        "if (actor.restarts == 0) return;\n  actor.asked_to_exit",
    ),
    Mistake(
        "the name of a dead actor stays taken",
        "actor_registry.cc",
        "(std::move(death));\n  give_up_name(id, actor);",
        "(std::move(death));\n  if (actor.restarts == 0) give_up_name(id, actor);",
    ),
    Mistake(
        "a dead caller is remembered",
        "actor_registry.cc",
        "actors_.at(id).callers.erase(process);",
        "if (actors_.at(id).restarts == 0) actors_.at(id).callers.erase(process);",
    ),
    Mistake(
        "an actor that is dead and unreachable is never forgotten",
        "actor_registry.cc",
        "case Phase::kDead:\n      forget_if_done(id);",
        "case Phase::kDead:\n      if (actor.restarts == 0) forget_if_done(id);",
    ),
)


def compile_commands(build: Path) -> dict[str, list[str]]:
    """The compiler's command for each of the sources, as ninja would run it."""
    listed = subprocess.run(
        ["ninja", "-C", str(build), "-t", "commands", "src/core/mobula_core_test"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    found = {}
    for line in listed.splitlines():
        for source in SOURCES:
            if re.search(rf"-c \S*{source}$", line):
                found[source] = shlex.split(line)
    missing = set(SOURCES) - found.keys()
    if missing:
        raise SystemExit(f"{build} does not compile {sorted(missing)}")
    return found


def compiled(command: list[str], build: Path, source: Path, output: Path) -> None:
    arguments = command[: command.index("-o")] + ["-o", str(output), "-c", str(source)]
    arguments = [part for part in arguments if part not in ("-MD",)]
    if "-MT" in arguments:
        at = arguments.index("-MT")
        del arguments[at : at + 2]
    if "-MF" in arguments:
        at = arguments.index("-MF")
        del arguments[at : at + 2]
    subprocess.run([*arguments, "-O1"], cwd=build, check=True)


def is_found(
    mistake: Mistake | None, commands: dict[str, list[str]], build: Path, folder: Path
) -> bool:
    """Does the random test fail? Without a mistake: of the sources as they are."""
    objects = []
    for source in SOURCES:
        output = folder / f"{source}.o"
        objects.append(output)
        text = (FOLDER / source).read_text()
        if mistake is not None and mistake.file == source:
            if text.count(mistake.right) != 1:
                raise SystemExit(f"cannot plant {mistake.what!r}: {source} has changed")
            text = text.replace(mistake.right, mistake.wrong)
        elif output.exists() and not (folder / f"{source}.planted").exists():
            continue
        planted = mistake is not None and mistake.file == source
        copy = folder / source
        copy.write_text(text)
        compiled(commands[source], build, copy, output)
        marker = folder / f"{source}.planted"
        marker.touch() if planted else marker.unlink(missing_ok=True)
    program = folder / "planted"
    libraries = ["-lgtest", "-lgtest_main", "-lpthread"]
    compiler = next(part for part in commands[SOURCES[0]] if re.search(r"(c\+\+|g\+\+)\S*$", part))
    subprocess.run([compiler, *map(str, objects), *libraries, "-o", str(program)], check=True)
    try:
        end = subprocess.run([program], capture_output=True, timeout=TEST_SECONDS_MAX)
    except subprocess.TimeoutExpired:
        return True
    return end.returncode != 0


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--build", type=Path, default=ROOT / "build" / "release")
    build = parser.parse_args().build.resolve()
    os.environ.pop("MOBULA_SEED", None)
    commands = compile_commands(build)
    missed = 0
    with tempfile.TemporaryDirectory(prefix="planted-bugs-") as name:
        folder = Path(name)
        if is_found(None, commands, build, folder):
            print("the test fails without any planted mistake", file=sys.stderr)
            return 1
        for mistake in MISTAKES:
            found = is_found(mistake, commands, build, folder)
            missed += not found
            print(f"{'found ' if found else 'MISSED'}  {mistake.what}", flush=True)
    print(f"{len(MISTAKES) - missed} of {len(MISTAKES)} planted mistakes found")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
