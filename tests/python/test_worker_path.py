"""sys.path of workers follows that of the driver, and costs tasks nothing."""

from __future__ import annotations

import importlib
import os
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mobula as ray
import pytest
from conftest import start
from mobula import _worker_path
from mobula.job_config import JobConfig

pytestmark = pytest.mark.mobula_only

MODULE = """
class Value:
    def __init__(self, number):
        self.number = number
    def doubled(self):
        return Value(2 * self.number)

def answer(value=None):
    return {answer!r}
"""

made = 0


@pytest.fixture
def make_module(tmp_path: Path) -> Iterator[Callable[..., str]]:
    """Writes a module that was never there before into a folder, and tells its name."""
    path = list(sys.path)

    def make(folder: Path, name: str = "", answer: Any = "here") -> str:
        global made
        made += 1
        name = name or f"found_later_{os.getpid()}_{made}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.py").write_text(MODULE.format(answer=answer))
        return name

    yield make
    sys.path = path


@pytest.fixture
def found(make_module: Callable[..., str], tmp_path: Path) -> Any:
    """A module on a path that was added after `init`."""
    name = make_module(tmp_path / "added")
    sys.path.insert(0, str(tmp_path / "added"))
    return importlib.import_module(name)


@ray.remote
def nothing() -> int:
    return os.getpid()


@ray.remote
def doubled(value: Any) -> Any:
    return value.doubled()


@pytest.fixture
def session(shared_session: None) -> None:
    """One with a worker that is there before anything changes."""
    ray.get(nothing.remote())


# ---- what comes from a path that was added ------------------------------------------------------


def test_a_function_of_a_module_found_later_runs(session: None, found: Any) -> None:
    assert ray.get(ray.remote(found.answer).remote()) == "here"


def test_a_module_found_later_is_used_in_a_function(session: None, found: Any) -> None:
    @ray.remote
    def use() -> Any:
        return found.answer()

    assert ray.get(use.remote()) == "here"


def test_a_module_found_later_is_imported_in_a_function(
    session: None, make_module: Callable[..., str], tmp_path: Path
) -> None:
    """The driver itself never imports it."""
    name = make_module(tmp_path / "added")
    sys.path.append(str(tmp_path / "added"))

    @ray.remote
    def use() -> Any:
        return importlib.import_module(name).answer()

    assert ray.get(use.remote()) == "here"


def test_values_of_a_module_found_later_are_arguments_and_results(
    session: None, found: Any
) -> None:
    assert ray.get(doubled.remote(found.Value(4))).number == 8  # An old function.
    assert ray.get(doubled.remote(ray.put(found.Value(5)))).number == 10


def test_an_actor_class_of_a_module_found_later_works(session: None, found: Any) -> None:
    actor = ray.remote(found.Value).remote(3)
    assert ray.get(actor.doubled.remote()).number == 6


def test_an_actor_that_was_there_before_takes_new_values(
    session: None, make_module: Callable[..., str], tmp_path: Path
) -> None:
    @ray.remote
    class Actor:
        def double(self, value: Any) -> Any:
            return value.doubled()

    actors = [Actor.remote(), Actor.options(name="stays", lifetime="detached").remote()]
    ray.get([actor.__ray_ready__.remote() for actor in actors])
    name = make_module(tmp_path / "added")
    sys.path.append(str(tmp_path / "added"))
    value = importlib.import_module(name).Value(6)
    assert [ray.get(actor.double.remote(value)).number for actor in actors] == [12, 12]
    ray.kill(actors[1])


def test_nested_tasks_find_it(session: None, found: Any) -> None:
    @ray.remote
    def outer() -> Any:
        return ray.get([ray.remote(found.answer).remote(), doubled.remote(found.Value(1))])[0]

    assert ray.get(outer.remote()) == "here"


def test_old_and_new_workers_find_it(session: None, found: Any) -> None:
    @ray.remote(max_calls=1)
    def use() -> Any:
        return os.getpid(), found.answer()

    results = ray.get([use.remote() for _ in range(3)])
    assert len({pid for pid, _ in results}) == 3
    assert {answer for _, answer in results} == {"here"}


def test_workers_of_an_environment_find_it(session: None, found: Any) -> None:
    @ray.remote(runtime_env={"env_vars": {"COLOUR": "red"}})
    def use() -> Any:
        return os.environ["COLOUR"], found.answer()

    assert ray.get(use.remote()) == ("red", "here")


def test_a_generator_finds_it(session: None, found: Any) -> None:
    @ray.remote
    def numbers() -> Iterator[Any]:
        yield found.Value(1)

    assert [ray.get(ref).number for ref in numbers.remote()] == [1]


# ---- ways of changing it ------------------------------------------------------------------------


def test_a_path_that_is_removed_after_the_import_is_found(
    session: None, make_module: Callable[..., str], tmp_path: Path
) -> None:
    name = make_module(tmp_path / "for_a_moment")
    sys.path.insert(0, str(tmp_path / "for_a_moment"))
    module = importlib.import_module(name)
    del sys.path[0]
    assert ray.get(ray.remote(module.answer).remote()) == "here"
    import_something_new(make_module, tmp_path)  # The driver tells that it has gone.
    again = ray.remote(max_calls=1)(module.answer)
    assert ray.get([again.remote() for _ in range(3)]) == ["here"] * 3


def import_something_new(make_module: Callable[..., str], tmp_path: Path) -> None:
    name = make_module(tmp_path / "another")
    sys.path.append(str(tmp_path / "another"))
    importlib.import_module(name)


def test_a_new_list_counts_as_well(
    session: None, make_module: Callable[..., str], tmp_path: Path
) -> None:
    name = make_module(tmp_path / "added")
    sys.path = [*sys.path, str(tmp_path / "added")]
    assert ray.get(ray.remote(importlib.import_module(name).answer).remote()) == "here"


def test_the_first_of_two_modules_of_a_name_is_found(
    session: None, make_module: Callable[..., str], tmp_path: Path
) -> None:
    name = make_module(tmp_path / "second", answer="second")
    sys.path.append(str(tmp_path / "second"))
    import_something_new(make_module, tmp_path)
    make_module(tmp_path / "first", name, answer="first")
    sys.path.insert(0, str(tmp_path / "first"))
    module = importlib.import_module(name)
    assert module.answer() == "first"
    assert ray.get(ray.remote(module.answer).remote()) == "first"


def test_entries_that_are_no_texts_are_passed_over(session: None, found: Any) -> None:
    sys.path[:0] = [None, b"/somewhere", Path("/somewhere"), 3]  # type: ignore[list-item]
    sys.modules.pop("colorsys", None)
    import_something_new(lambda folder: "colorsys", Path("/nowhere"))
    assert ray.get(ray.remote(found.answer).remote()) == "here"


def test_what_python_does_with_a_path_of_odd_bytes_works_in_workers(
    session: None, make_module: Callable[..., str], tmp_path: Path
) -> None:
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    name = make_module(folder)
    sys.path.append(str(folder))
    assert ray.get(ray.remote(importlib.import_module(name).answer).remote()) == "here"


RELATIVE = """
import os, sys
import mobula as ray

ray.init(num_cpus=1)

@ray.remote
def warm():
    return os.getpid()

ray.get(warm.remote())
sys.path.append("plugins")
import of_plugins
os.mkdir("below"); os.chdir("below")
sys.path.append("")
open("of_below.py", "w").write("def answer(): return 'below'\\n")
import of_below

@ray.remote(max_calls=1)
def use():
    return of_plugins.answer(), of_below.answer()

print(ray.get(use.remote()))
print(ray.get(use.remote()))  # In a new worker.
ray.shutdown()
assert not [finder for finder in sys.meta_path if "_worker_path" in type(finder).__module__]
sys.path[:] = [entry for entry in sys.path if entry not in ("plugins", "")]
sys.path.append(os.path.abspath(os.path.join(os.pardir, "plugins")))
sys.path.append(os.getcwd())
ray.init(num_cpus=1)
print(ray.get(use.remote()))
"""


def test_relative_entries_and_a_second_session(
    run_script: Callable[..., Any], tmp_path: Path
) -> None:
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "of_plugins.py").write_text("def answer(): return 'plugins'\n")
    said = run_script(RELATIVE).stdout.splitlines()
    assert said == ["('plugins', 'below')"] * 3


FORK = """
import os, sys
import mobula as ray

ray.init(num_cpus=1)
folder, before = sys.argv[1], sys.path[:]
if os.fork() == 0:
    sys.path.insert(0, folder)
    import only_of_child
    os._exit(0)
os.wait()

@ray.remote
def see():
    return list(sys.path)

assert folder not in ray.get(see.remote())
print("fine")
"""


def test_a_forked_child_tells_nothing(run_script: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "child").mkdir()
    (tmp_path / "child" / "only_of_child.py").touch()
    assert run_script(FORK, str(tmp_path / "child")).stdout == "fine\n"


# ---- directories that are gone --------------------------------------------------------------------

GONE = """
import os, sys, tempfile
import mobula as ray

@ray.remote(max_calls=1)
def where():
    try:
        return os.getcwd()
    except FileNotFoundError:
        return "gone"

def leave():
    folder = tempfile.mkdtemp(); os.chdir(folder); os.rmdir(folder)

start = os.getcwd()
ray.init(num_cpus=1)
leave()
assert ray.get(where.remote()) == start
assert ray.get(where.remote()) == start  # In a new worker.
sys.path.append("")
import colorsys
assert ray.get(where.remote()) == start
ray.shutdown()
ray.init(num_cpus=1)
print(ray.get(where.remote()))
"""


def test_a_working_directory_may_be_removed(run_script: Callable[..., Any]) -> None:
    assert run_script(GONE).stdout == "/\n"


# ---- what hinders telling and following ----------------------------------------------------------


def make_teller(file: Path) -> _worker_path._Teller:
    return _worker_path._Teller(str(file), [], ())


def test_an_import_does_not_wait_for_a_thread_that_tells(tmp_path: Path) -> None:
    """That one may import what the import holds the lock of."""
    teller = make_teller(tmp_path / "told")
    imported = threading.Event()

    def imports() -> None:
        teller.find_spec("anything", None)
        imported.set()

    with teller._lock:
        threading.Thread(target=imports, daemon=True).start()
        assert imported.wait(60)
    assert not (tmp_path / "told").exists()
    teller.tell()
    assert (tmp_path / "told").exists()


def test_a_change_that_cannot_be_told_is_warned_of_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_worker_path.logging.getLogger("mobula"), "propagate", True)
    teller = make_teller(tmp_path / "no_folder" / "told")
    for _ in range(3):
        teller.find_spec("anything", None)
        teller.tell()
    assert len(caplog.records) == 1
    monkeypatch.setattr(sys, "path", [*sys.path, "/one/more"])
    teller.tell()
    assert len(caplog.records) == 2


def test_a_worker_passes_over_a_file_that_it_cannot_read(tmp_path: Path) -> None:
    before = list(sys.path)
    for file in (tmp_path, tmp_path / "none", Path(__file__) / "below", tmp_path / ("x" * 300)):
        assert _worker_path._Follower(str(file)).find_spec("anything", None) is None
    assert sys.path == before


# ---- merging ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("own", "before", "now", "expected"),
    [
        ("abc", "abc", "nabc", "nabc"),
        ("abc", "abc", "abcn", "abcn"),
        ("abc", "abc", "cab", "cab"),
        ("Eabc", "abc", "nabc", "Enabc"),  # What an environment put first stays first.
        ("abEc", "abc", "abnc", "abnEc"),
        ("abcE", "abc", "abcn", "abcnE"),
        ("ac", "abc", "nabc", "nac"),  # What the worker removed stays away.
        ("abEc", "abc", "abx", "abxE"),
        ("abnc", "abc", "nabc", "nabc"),  # Both have added it.
        ("", "abc", "abcn", "n"),
    ],
)
def test_a_workers_own_entries_keep_their_place(
    own: str, before: str, now: str, expected: str
) -> None:
    assert "".join(_worker_path.merged(list(own), list(before), list(now))) == expected


def test_entries_of_a_worker_that_are_no_texts_stay() -> None:
    assert _worker_path.merged([None, "a", 3], ["a"], ["b", "a"]) == [None, "b", "a", 3]


# ---- code_search_path -------------------------------------------------------------------------------


@pytest.mark.usefixtures("no_session")
def test_a_code_search_path_is_that_of_workers(
    make_module: Callable[..., str], tmp_path: Path
) -> None:
    names = [make_module(tmp_path / "one"), make_module(tmp_path / "two")]
    both = make_module(tmp_path / "one", answer="one")
    make_module(tmp_path / "two", both, answer="two")
    before = list(sys.path)
    start(job_config=JobConfig(code_search_path=[str(tmp_path / "one"), str(tmp_path / "two")]))

    @ray.remote
    def use() -> Any:
        return [importlib.import_module(name).answer() for name in (*names, both)]

    @ray.remote
    class Actor:
        def use(self) -> Any:
            return [importlib.import_module(name).answer() for name in (*names, both)]

    # The last one comes first, as in Ray.
    assert ray.get(use.remote()) == ["here", "here", "two"]
    assert ray.get(Actor.remote().use.remote()) == ["here", "here", "two"]
    assert sys.path == before
    import_something_new(make_module, tmp_path)  # Which does not take it away.
    again = ray.remote(max_calls=1)(use._function)
    assert ray.get([again.remote() for _ in range(3)]) == [["here", "here", "two"]] * 3


@pytest.mark.usefixtures("no_session")
def test_a_code_search_path_may_be_relative_missing_and_a_path(tmp_path: Path) -> None:
    script = """
    import sys
    import mobula as ray
    from pathlib import Path
    from mobula.job_config import JobConfig
    ray.init(num_cpus=1, job_config=JobConfig(code_search_path=["below", Path("/no/such")]))
    print(ray.get(ray.remote(lambda: sys.path[:3]).remote()))
    """
    import subprocess

    (tmp_path / "script.py").write_text(textwrap.dedent(script))
    out = subprocess.check_output(
        [sys.executable, "script.py"], cwd=tmp_path, text=True, timeout=60
    )
    assert out.strip() == str([str(tmp_path), "/no/such", str(tmp_path / "below")])


@pytest.mark.usefixtures("no_session")
def test_a_code_search_path_of_something_else_is_refused() -> None:
    with pytest.raises(TypeError, match="code_search_path"):
        start(job_config=JobConfig(code_search_path=[3]))  # type: ignore[list-item]
    assert not ray.is_initialized()
