"""Runtime environments of jobs and tasks: variables, inheritance, hooks, interpreters, failures."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mobula as ray
import pytest
from conftest import start

pytestmark = pytest.mark.mobula_only  # Ray takes seconds for each environment.

HERE = os.path.dirname(__file__)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOBULA_CACHE_DIR", str(tmp_path / "cache"))


@pytest.fixture
def session(no_session: None) -> Iterator[None]:
    start(runtime_env={"env_vars": {"A": "a", "B": "b"}})
    yield


@ray.remote
def look(*names: str) -> list[str | None]:
    return [os.environ.get(name) for name in names]


@ray.remote
def process() -> int:
    return os.getpid()


def variables(**values: str) -> dict[str, Any]:
    return {"env_vars": values}


# ---- variables and inheritance -------------------------------------------------------------------


@pytest.mark.usefixtures("session")
def test_a_task_has_the_variables_of_its_job_and_its_own() -> None:
    assert ray.get(look.remote("A", "B", "C")) == ["a", "b", None]
    other = look.options(runtime_env=variables(B="other", C="c"))
    assert ray.get(other.remote("A", "B", "C")) == ["a", "other", "c"]
    assert ray.get(look.remote("A", "B", "C")) == ["a", "b", None]
    assert "A" not in os.environ


@pytest.mark.usefixtures("session")
def test_tasks_of_one_environment_share_workers_and_those_of_others_never_do() -> None:
    plain = set(ray.get([process.remote() for _ in range(20)]))
    first = process.options(runtime_env=variables(X="1"))
    second = process.options(runtime_env=variables(X="2"))
    ones = set(ray.get([first.remote() for _ in range(20)]))
    twos = set(ray.get([second.remote() for _ in range(20)]))
    again = set(ray.get([process.options(runtime_env=variables(X="1")).remote()]))
    assert not plain & ones
    assert not plain & twos
    assert not ones & twos
    assert again <= ones
    assert len(ones) <= 2


@pytest.mark.usefixtures("session")
def test_many_tasks_of_many_environments_each_run_in_their_own() -> None:
    refs = [look.options(runtime_env=variables(X=str(i % 4))).remote("X") for i in range(200)] + [
        look.remote("X") for _ in range(50)
    ]
    assert ray.get(refs) == [[str(i % 4)] for i in range(200)] + [[None]] * 50


def test_an_empty_environment_in_options_leaves_that_of_the_decorator() -> None:
    @ray.remote(runtime_env={"env_vars": {"OF_DECORATOR": "1"}})
    def variables() -> tuple[str | None, str | None]:
        return os.environ.get("OF_DECORATOR"), os.environ.get("OF_OPTIONS")

    assert ray.get(variables.options(runtime_env={}).remote()) == ("1", None)
    assert ray.get(variables.options(runtime_env=None).remote()) == ("1", None)
    other = {"env_vars": {"OF_OPTIONS": "2"}}
    assert ray.get(variables.options(runtime_env=other).remote()) == (None, "2")


@pytest.mark.usefixtures("session")
def test_children_inherit_and_merge() -> None:
    @ray.remote
    def parent() -> Any:
        merged = look.options(runtime_env=variables(C="changed", D="d"))
        return ray.get([look.remote("A", "C"), merged.remote("A", "C", "D")])

    in_one = parent.options(runtime_env=variables(C="c"))
    assert ray.get(in_one.remote()) == [["a", "c"], ["a", "changed", "d"]]


@pytest.mark.usefixtures("session")
def test_variables_may_refer_to_others() -> None:
    environment = variables(X="${A}-$B", PATH="/first:${PATH}", EMPTY="x${NO_SUCH}y", Y="${X}!")
    names = ("X", "PATH", "EMPTY", "Y")
    x, path, empty, y = ray.get(look.options(runtime_env=environment).remote(*names))
    assert (x, empty, y) == ("a-b", "xy", "a-b!")
    assert path is not None
    assert path.startswith("/first:/")


@pytest.mark.usefixtures("session")
def test_variables_are_there_when_the_interpreter_starts() -> None:
    @ray.remote(runtime_env=variables(PYTHONHASHSEED="7"))
    def seed() -> tuple[int, str]:
        with open("/proc/self/environ", "rb") as file:
            return sys.flags.hash_randomization, str(b"PYTHONHASHSEED=7" in file.read())

    assert ray.get(seed.remote()) == (1, "True")


@pytest.mark.usefixtures("session")
def test_the_context_says_what_the_environment_is() -> None:
    @ray.remote
    def context() -> tuple[dict[str, Any], str, str]:
        known = ray.get_runtime_context()
        return (
            dict(known.runtime_env),
            type(known.runtime_env).__name__,
            known.get_runtime_env_string(),
        )

    assert ray.get_runtime_context().runtime_env == {"env_vars": {"A": "a", "B": "b"}}
    assert ray.get(context.remote())[0] == {"env_vars": {"A": "a", "B": "b"}}
    seen, kind, text = ray.get(context.options(runtime_env=variables(B="n")).remote())
    assert seen == {"env_vars": {"A": "a", "B": "n"}}
    assert kind == "RuntimeEnv"
    assert text == '{"env_vars": {"A": "a", "B": "n"}}'


@pytest.mark.usefixtures("session")
def test_an_empty_environment_is_that_of_the_job() -> None:
    assert ray.get(look.options(runtime_env={}).remote("A")) == ["a"]
    assert ray.get(look.options(runtime_env={"env_vars": {}}).remote("A")) == ["a"]
    assert ray.get(look.options(runtime_env=variables(A="a")).remote("A")) == ["a"]


@pytest.mark.usefixtures("session")
def test_generators_and_placed_tasks_have_environments_too() -> None:
    @ray.remote(runtime_env=variables(X="x"))
    def items() -> Iterator[str | None]:
        yield os.environ.get("X")
        yield "end"

    assert [ray.get(ref) for ref in items.remote()] == ["x", "end"]
    from mobula.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    placed = look.options(scheduling_strategy=here, runtime_env=variables(X="y"))
    assert ray.get(placed.remote("X")) == ["y"]


@pytest.mark.usefixtures("no_session")
def test_the_same_remote_function_inherits_from_the_next_job() -> None:
    function = look.options(runtime_env=variables(C="c"))
    for value in ("1", "2"):
        start(runtime_env=variables(A=value))
        assert ray.get(function.remote("A", "C")) == [value, "c"]
        ray.shutdown()


# ---- hooks and interpreters ----------------------------------------------------------------------


@pytest.mark.usefixtures("no_session")
def test_a_hook_runs_once_in_each_worker_before_its_tasks() -> None:
    def hook() -> None:
        os.environ["HOOKED"] = os.environ.get("HOOKED", "") + "x"

    start(runtime_env={"worker_process_setup_hook": hook, "env_vars": {"A": "a"}})
    assert ray.get([look.remote("HOOKED", "A") for _ in range(10)]) == [["x", "a"]] * 10
    seen = ray.get_runtime_context().runtime_env
    assert seen["worker_process_setup_hook"].endswith("hook")


@pytest.mark.usefixtures("no_session")
def test_a_hook_can_be_named(tmp_path: Path) -> None:
    (tmp_path / "my_hooks.py").write_text("import os\ndef set(): os.environ['HOOKED'] = 'named'\n")
    start()
    environment = {
        "worker_process_setup_hook": "my_hooks.set",
        "env_vars": {"PYTHONPATH": str(tmp_path)},
        "py_modules": [str(tmp_path / "my_hooks.py")],
    }
    assert ray.get(look.options(runtime_env=environment).remote("HOOKED")) == ["named"]


@pytest.mark.usefixtures("session")
def test_a_hook_that_fails_fails_the_tasks_with_its_own_error() -> None:
    def hook() -> None:
        raise ValueError("the hook is broken")

    broken = look.options(runtime_env={"worker_process_setup_hook": hook})
    with pytest.raises(ray.exceptions.RuntimeEnvSetupError, match="ValueError: the hook is broken"):
        ray.get(broken.remote("A"), timeout=60)
    assert ray.get(look.remote("A")) == ["a"]


@pytest.mark.usefixtures("session")
def test_another_interpreter_command_can_be_given() -> None:
    @ray.remote
    def options() -> dict[str, Any]:
        return dict(sys._xoptions)

    command = f"{sys.executable} -X mine=1"
    assert ray.get(options.options(runtime_env={"py_executable": command}).remote()) == {
        "mine": "1"
    }


@pytest.mark.usefixtures("session")
@pytest.mark.parametrize(
    ("environment", "text"),
    [
        ({"py_executable": "/no/such/python"}, "no program '/no/such/python'"),
        ({"py_executable": "/bin/false"}, "the process that prepared it has ended"),
        ({"conda": "mine"}, "conda environments are not supported"),
        ({"image_uri": "image"}, "containers are not supported"),
        ({"container": {"image": "image"}}, "containers are not supported"),
        ({"working_dir": "s3://bucket/dir.zip"}, "only local directories"),
        ({"py_modules": ["https://example.org/module.zip"]}, "only local directories"),
    ],
)
def test_an_environment_that_cannot_be_fails_its_tasks_and_no_others(
    environment: dict[str, Any], text: str
) -> None:
    broken = look.options(runtime_env=environment)
    bad = [broken.remote("A") for _ in range(3)]
    good = look.remote("A")
    for ref in bad:
        with pytest.raises(ray.exceptions.RuntimeEnvSetupError) as caught:
            ray.get(ref, timeout=60)
        assert text in str(caught.value)
        assert str(caught.value).startswith("Failed to set up runtime environment.")
    assert ray.get(good, timeout=60) == ["a"]


@pytest.mark.usefixtures("no_session")
def test_the_environment_of_a_job_that_cannot_be_fails_its_tasks() -> None:
    start(runtime_env={"conda": "mine"})
    with pytest.raises(ray.exceptions.RuntimeEnvSetupError, match="conda"):
        ray.get(look.remote("A"), timeout=60)
    with pytest.raises(ray.exceptions.RuntimeEnvSetupError, match="conda"):
        ray.get(look.remote("A"), timeout=60)
    environment = {"conda": None, "env_vars": {"A": "1"}}
    with pytest.raises(ray.exceptions.RuntimeEnvSetupError, match="conda"):
        ray.get(look.options(runtime_env=environment).remote("A"), timeout=60)


SLOW = """#!/bin/sh
echo "started" >> {log}
echo "it is slow"
sleep 1000 &
echo $! >> {log}
wait
"""


def slow_interpreter(folder: Path) -> tuple[str, Path]:
    log = folder / "log"
    script = folder / "slow.sh"
    script.write_text(SLOW.format(log=log))
    script.chmod(0o755)
    return str(script), log


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def is_gone(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().split(")")[1].split()[0] == "Z"
    except OSError:
        return True


@pytest.mark.usefixtures("session")
def test_setting_up_has_a_time_limit_and_leaves_nothing(tmp_path: Path) -> None:
    script, log = slow_interpreter(tmp_path)
    environment = {"py_executable": script, "config": {"setup_timeout_seconds": 1}}
    slow = look.options(runtime_env=environment).remote("A")
    assert ray.get(look.remote("A")) == ["a"]  # Others do not wait for it.
    with pytest.raises(ray.exceptions.RuntimeEnvSetupError) as caught:
        ray.get(slow, timeout=60)
    assert "setup_timeout_seconds" in str(caught.value)
    assert "it is slow" in str(caught.value)
    pid = int(log.read_text().split()[1])
    wait_until(lambda: is_gone(pid))


@pytest.mark.usefixtures("session")
def test_setting_up_ends_when_the_last_task_is_cancelled(tmp_path: Path) -> None:
    script, log = slow_interpreter(tmp_path)
    slow = look.options(runtime_env={"py_executable": script}).remote("A")
    wait_until(lambda: log.exists() and len(log.read_text().split()) == 2)
    ray.cancel(slow)
    with pytest.raises(ray.exceptions.TaskCancelledError):
        ray.get(slow, timeout=60)
    pid = int(log.read_text().split()[1])
    wait_until(lambda: is_gone(pid))


@pytest.mark.usefixtures("session")
def test_setting_up_ends_with_the_session(tmp_path: Path) -> None:
    script, log = slow_interpreter(tmp_path)
    look.options(runtime_env={"py_executable": script}).remote("A")
    wait_until(lambda: log.exists() and len(log.read_text().split()) == 2)
    ray.shutdown()
    pid = int(log.read_text().split()[1])
    wait_until(lambda: is_gone(pid))


@pytest.mark.usefixtures("session")
def test_a_crashed_worker_is_replaced_in_its_environment() -> None:
    @ray.remote(max_retries=1, runtime_env=variables(X="x"))
    def crash_once(path: str) -> str | None:
        if not os.path.exists(path):
            Path(path).touch()
            os._exit(1)
        return os.environ.get("X")

    folder = ray.get_runtime_context().get_session_name()
    path = os.path.join(os.environ["MOBULA_CACHE_DIR"], folder)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    assert ray.get(crash_once.remote(path)) == "x"


@pytest.mark.usefixtures("session")
def test_an_environment_that_was_not_used_for_long_is_made_again() -> None:
    refs = [look.options(runtime_env=variables(X=str(i))).remote("X") for i in range(12)]
    assert ray.get(refs) == [[str(i)] for i in range(12)]
    assert ray.get(look.options(runtime_env=variables(X="0")).remote("X")) == ["0"]


# ---- validation ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "error", "text"),
    [
        ({"env_vars": {"a": 1}}, TypeError, "the value 1"),
        ({"env_vars": {1: "a"}}, TypeError, "the key 1"),
        ({"env_vars": ["a"]}, TypeError, "Dict"),
        ({"working_dir": 3}, TypeError, "must be a string"),
        ({"working_dir": "/no/such"}, ValueError, "not a valid path"),
        ({"working_dir": "s3://a/b"}, ValueError, "Only"),
        ({"py_modules": "/tmp"}, TypeError, "list of strings"),
        ({"py_modules": [3]}, TypeError, "must be a string"),
        ({"py_modules": ["/no/such.whl"]}, ValueError, "not a valid path"),
        ({"pip": 3}, TypeError, "List"),
        ({"pip": [1]}, TypeError, "List"),
        ({"pip": "no_file.txt"}, ValueError, "not a valid file"),
        ({"pip": {}}, ValueError, "packages"),
        ({"pip": {"packages": 3}}, ValueError, "packages"),
        ({"pip": {"packages": ["a"], "bogus": 1}}, ValueError, "only have these fields"),
        ({"pip": {"packages": ["a"], "pip_check": 3}}, TypeError, "pip_check"),
        ({"pip": {"packages": ["a"], "pip_version": 3}}, TypeError, "pip_version"),
        ({"uv": 3}, TypeError, "List"),
        ({"uv": {"packages": ["a"], "bogus": 1}}, ValueError, "only have these fields"),
        ({"pip": ["a"], "uv": ["b"]}, ValueError, "at the same time"),
        ({"pip": ["a"], "conda": "b"}, ValueError, "at the same time"),
        ({"conda": 3}, TypeError, "conda"),
        ({"conda": "no.yml"}, ValueError, "YAML"),
        ({"image_uri": "x", "pip": ["a"]}, ValueError, "together"),
        ({"excludes": "a"}, TypeError, "excludes"),
        ({"config": 3}, TypeError, "config"),
        ({"config": {"setup_timeout_seconds": 0}}, ValueError, "greater than zero"),
        ({"config": {"setup_timeout_seconds": "a"}}, TypeError, "int"),
        ({"config": {"eager_install": 3}}, TypeError, "boolean"),
        ({"config": {"log_files": 3}}, TypeError, "log_files"),
        ({"worker_process_setup_hook": 3}, TypeError, "must be a function"),
        ({"py_executable": 3}, TypeError, "py_executable"),
    ],
)
def test_what_cannot_be_an_environment_is_refused_at_once(
    fields: dict[str, Any], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        ray.runtime_env.RuntimeEnv(**fields)
    with pytest.raises(error, match=text):
        ray.remote(runtime_env=fields)(lambda: 1)
    with pytest.raises(error, match=text):
        look.options(runtime_env=fields)
    with pytest.raises(error, match=text):
        ray.init(num_cpus=1, runtime_env=fields)
    assert not ray.is_initialized()


def test_a_runtime_env_is_a_dict() -> None:
    environment = ray.runtime_env.RuntimeEnv(
        env_vars={"a": "b"}, pip=["x", "y", "x"], bogus=3, working_dir=None, excludes=[]
    )
    assert environment == {
        "env_vars": {"a": "b"},
        "pip": {"packages": ["x", "y"], "pip_check": False},
        "bogus": 3,
    }
    assert environment.env_vars() == {"a": "b"}
    assert environment.has_pip()
    assert not environment.has_uv()
    environment["env_vars"] = {"c": "d"}
    with pytest.raises(TypeError):
        environment["env_vars"] = {"c": 1}
    again = ray.runtime_env.RuntimeEnv.deserialize(environment.serialize())
    assert again == environment
    assert again["env_vars"] == {"c": "d"}
    import pickle

    assert pickle.loads(pickle.dumps(environment)) == environment


def test_the_configuration_of_an_environment_has_defaults() -> None:
    config = ray.runtime_env.RuntimeEnvConfig()
    assert config == {"setup_timeout_seconds": 600, "eager_install": True, "log_files": []}
    environment = ray.runtime_env.RuntimeEnv(config={"setup_timeout_seconds": 3})
    assert environment["config"]["setup_timeout_seconds"] == 3
    assert environment["config"]["eager_install"] is True


@pytest.mark.usefixtures("session")
def test_fields_that_nobody_knows_mean_nothing() -> None:
    environment = {"bogus": 3, "env_vars": {"X": "x"}}
    assert ray.get(look.options(runtime_env=environment).remote("X")) == ["x"]


@pytest.mark.usefixtures("session")
def test_an_environment_that_is_too_large_is_refused() -> None:
    with pytest.raises(ValueError, match="too large"):
        look.options(runtime_env=variables(X="x" * (17 << 20))).remote("X")
    assert ray.get(look.remote("A")) == ["a"]


# ---- actors --------------------------------------------------------------------------------------


@ray.remote
class Looker:
    def look(self, name: str) -> str | None:
        return os.environ.get(name)


@pytest.mark.usefixtures("session")
def test_actors_have_environments_and_inherit_them() -> None:
    actor = Looker.options(runtime_env=variables(X="x")).remote()
    assert ray.get([actor.look.remote("X"), actor.look.remote("A")]) == ["x", "a"]
    assert ray.get(Looker.remote().look.remote("X")) is None

    @ray.remote(runtime_env=variables(X="of the task"))
    def parent() -> Any:
        return ray.get(Looker.remote().look.remote("X"))

    assert ray.get(parent.remote()) == "of the task"


@pytest.mark.usefixtures("session")
def test_an_actor_whose_environment_cannot_be_fails_its_calls() -> None:
    actor = Looker.options(runtime_env={"conda": "mine"}).remote()
    with pytest.raises(ray.exceptions.RuntimeEnvSetupError, match="conda"):
        ray.get(actor.look.remote("A"), timeout=60)
    with pytest.raises(TypeError):
        Looker.options(runtime_env=variables(X=1)).remote()  # type: ignore[arg-type]
