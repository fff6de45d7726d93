"""Starting, ending, and what a session says about itself."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mobula as ray
import pytest
from conftest import start
from mobula import exceptions

RunScript = Callable[..., subprocess.CompletedProcess[str]]


@ray.remote
def add(x: int, y: int = 1) -> int:
    return x + y


def test_shutdown_before_init_and_twice_does_nothing(no_session: None) -> None:
    ray.shutdown()
    ray.shutdown()
    assert not ray.is_initialized()


def test_is_initialized_follows_init_and_shutdown(no_session: None) -> None:
    assert not ray.is_initialized()
    start()
    assert ray.is_initialized()
    ray.shutdown()
    assert not ray.is_initialized()


def test_the_function_is_initialized_is_true_itself(no_session: None) -> None:
    # Programs in the wild forget the parentheses.
    if ray.is_initialized:
        ray.shutdown()
    start()
    assert ray.get(add.remote(1)) == 2


def test_the_context_ends_the_session_with_its_block(no_session: None) -> None:
    with start() as context:
        assert ray.is_initialized()
        assert context.address_info["node_id"] == ray.nodes()[0]["NodeID"]
        assert os.path.isdir(context.address_info["session_dir"])
        assert context.dashboard_url == ""
        assert context.python_version == sys.version.split()[0]
        assert re.match(r"\d+\.\d+", context.ray_version)
        assert ray.get(add.remote(1)) == 2
    assert not ray.is_initialized()


def test_disconnect_ends_the_session(no_session: None) -> None:
    context = start()
    context.disconnect()
    assert not ray.is_initialized()


@pytest.mark.mobula_only
def test_the_session_directory_is_gone_afterwards(no_session: None) -> None:
    directory = start().address_info["session_dir"]
    assert os.path.isdir(directory)
    ray.shutdown()
    assert not os.path.exists(directory)


def test_a_second_init_is_refused(no_session: None) -> None:
    first = start()
    with pytest.raises(RuntimeError, match="ignore_reinit_error"):
        ray.init()
    again = ray.init(ignore_reinit_error=True)
    assert again.address_info["node_id"] == first.address_info["node_id"]
    assert ray.get(add.remote(1)) == 2


def test_the_first_call_starts_a_session(no_session: None) -> None:
    assert ray.get(add.remote(1)) == 2
    assert ray.is_initialized()


def test_put_starts_a_session(no_session: None) -> None:
    assert ray.get(ray.put("x")) == "x"


def test_functions_work_in_the_next_session(no_session: None) -> None:
    start()
    assert ray.get(add.remote(1)) == 2
    ray.shutdown()
    start()
    assert ray.get(add.remote(2)) == 3


def test_refs_of_an_ended_session_are_dead(no_session: None) -> None:
    start()
    ref = add.remote(1)
    assert ray.get(ref) == 2
    text = repr(ref)
    ray.shutdown()
    assert repr(ref) == text
    start()
    with pytest.raises((ValueError, exceptions.RayError)):
        ray.get(ref)
    with pytest.raises((ValueError, exceptions.RayError)):
        ray.get(add.remote(ref))
    assert ray.get(add.remote(2)) == 3


@pytest.mark.parametrize("call", [ray.nodes, ray.cluster_resources, ray.available_resources])
def test_state_needs_a_session(no_session: None, call: Callable[[], Any]) -> None:
    with pytest.raises(exceptions.RaySystemError):
        call()


def test_the_size_of_the_store_may_be_a_float(no_session: None) -> None:
    start(num_cpus=1, object_store_memory=1.5e8)
    assert ray.cluster_resources()["object_store_memory"] == 150_000_000


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"no_such_keyword": 1}, RuntimeError),
        ({"num_cpus": -1}, ValueError),
        ({"num_cpus": 1.5}, ValueError),
        ({"num_gpus": -1}, ValueError),
        ({"resources": {"slot": -1}}, ValueError),
        ({"resources": {"slot": 0.5}}, ValueError),
        ({"object_store_memory": 3}, ValueError),
        ({"object_store_memory": float("nan")}, (TypeError, ValueError)),
        ({"namespace": 3}, TypeError),
        ({"namespace": ""}, ValueError),
        ({"logging_level": "no such level"}, ValueError),
        ({"local_mode": True}, RuntimeError),
        pytest.param({"num_cpus": "2"}, TypeError, marks=pytest.mark.mobula_only),
        pytest.param({"resources": [1]}, TypeError, marks=pytest.mark.mobula_only),
        pytest.param({"resources": {"CPU": 1}}, ValueError, marks=pytest.mark.mobula_only),
        pytest.param({"labels": {"a": 3}}, TypeError, marks=pytest.mark.mobula_only),
        pytest.param({"runtime_env": 3}, TypeError, marks=pytest.mark.mobula_only),
        ({"runtime_env": {"pip": ["x"], "uv": ["x"]}}, ValueError),
        pytest.param({"address": "auto"}, ConnectionError, marks=pytest.mark.mobula_only),
        pytest.param({"address": "192.0.2.77:1"}, ConnectionError, marks=pytest.mark.mobula_only),
        pytest.param({"job_config": 3}, TypeError, marks=pytest.mark.mobula_only),
    ],
)
def test_what_init_refuses(no_session: None, options: dict[str, Any], error: Any) -> None:
    with pytest.raises(error):
        start(**options)
    assert not ray.is_initialized()


def test_only_the_address_may_be_positional(no_session: None) -> None:
    with pytest.raises(TypeError):
        ray.init(None, 2)  # type: ignore[misc]


def test_nodes_have_the_usual_keys(no_session: None) -> None:
    start(num_cpus=3, num_gpus=2, resources={"slot": 5}, namespace="here")
    (node,) = ray.nodes()
    assert node["Alive"] is True
    assert node["alive"] is True
    assert node["Resources"]["CPU"] == 3
    assert node["Resources"]["GPU"] == 2
    assert node["Resources"]["slot"] == 5
    assert node["NodeManagerHostname"] == os.uname().nodename
    for key in ("NodeID", "NodeManagerAddress", "NodeName", "Labels", "ObjectManagerPort"):
        assert key in node


def test_resources_of_the_cluster(no_session: None) -> None:
    start(num_cpus=3, num_gpus=2, resources={"slot": 5}, object_store_memory=200 << 20)
    total = ray.cluster_resources()
    assert total["CPU"] == 3
    assert total["GPU"] == 2
    assert total["slot"] == 5
    assert total["object_store_memory"] == 200 << 20
    assert total["memory"] > 0
    assert ray.available_resources()["CPU"] == 3


@pytest.mark.mobula_only
def test_cpus_are_counted_by_affinity(run_script: RunScript) -> None:
    first = str(min(os.sched_getaffinity(0)))
    text = """
import os, sys
os.sched_setaffinity(0, {int(sys.argv[1])})
import mobula as ray
ray.init()
print(ray.cluster_resources()["CPU"])
"""
    assert run_script(text, first).stdout.split() == ["1.0"]


@pytest.mark.mobula_only
def test_environment_variables_for_workers(no_session: None) -> None:
    start(runtime_env={"env_vars": {"MOBULA_TEST_VARIABLE": "a=b c"}})

    @ray.remote
    def read() -> str | None:
        return os.environ.get("MOBULA_TEST_VARIABLE")

    assert ray.get(read.remote()) == "a=b c"
    assert "MOBULA_TEST_VARIABLE" not in os.environ


def test_one_cpu_is_enough_for_nested_tasks(no_session: None) -> None:
    start(num_cpus=1)

    @ray.remote
    def down(levels: int) -> int:
        return 0 if levels == 0 else 1 + int(ray.get(down.remote(levels - 1)))

    assert ray.get(down.remote(5)) == 5


def test_no_cpus_run_only_what_needs_none(no_session: None) -> None:
    start(num_cpus=0)

    @ray.remote
    def one() -> int:
        return 1

    waiting = one.remote()
    assert ray.get(one.options(num_cpus=0).remote()) == 1
    assert ray.wait([waiting], timeout=0.1) == ([], [waiting])


def test_init_inside_a_task_is_refused(no_session: None) -> None:
    start()

    @ray.remote
    def inside() -> tuple[bool, str]:
        try:
            ray.init()
        except RuntimeError as error:
            return ray.is_initialized(), str(error)
        return ray.is_initialized(), "no error"

    initialized, text = ray.get(inside.remote())
    assert initialized
    assert "ignore_reinit_error" in text


@pytest.mark.mobula_only
def test_200_sessions_leak_nothing(run_script: RunScript) -> None:
    text = """
import gc, os, threading
import mobula as ray

@ray.remote
def one():
    return 1

def look():
    gc.collect()
    status = dict(line.split(":", 1) for line in open("/proc/self/status"))
    return {
        "descriptors": len(os.listdir("/proc/self/fd")),
        "threads": int(status["Threads"]),
        "python threads": threading.active_count(),
        "mappings": sum("memfd" in line for line in open("/proc/self/maps")),
        "children": len(open(f"/proc/self/task/{os.getpid()}/children").read().split()),
    }, int(status["VmRSS"].split()[0])

def session(with_task):
    ray.init(num_cpus=1, object_store_memory=100 << 20)
    if with_task:
        assert ray.get(one.remote()) == 1
    ray.shutdown()

for i in range(20):
    session(True)
before, memory_before = look()
for i in range(180):
    session(i % 9 == 0)
after, memory_after = look()
assert after == before, (before, after)
print(memory_before, memory_after)
# Allocators settle in the first sessions; afterwards a session must not cost 20 KiB each.
assert memory_after - memory_before < 180 * 20, (memory_before, memory_after)
"""
    run_script(text, timeout=240)


@pytest.mark.mobula_only
def test_importing_is_lean(run_script: RunScript) -> None:
    text = """
import sys
import mobula
heavy = {"numpy", "asyncio", "multiprocessing", "ssl", "http", "pandas", "torch"}
print(sorted(heavy & set(sys.modules)))
"""
    assert run_script(text).stdout.split("\n")[0] == "[]"


@pytest.mark.mobula_only
def test_a_program_works_without_numpy(run_script: RunScript) -> None:
    text = """
import sys

class NoNumpy:
    def find_spec(self, name, path=None, target=None):
        if name == "numpy" or name.startswith("numpy."):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, NoNumpy())
import mobula as ray

@ray.remote
def double(values):
    assert "numpy" not in sys.modules
    return [2 * v for v in values]

print(ray.get(double.remote([1, 2])), ray.get(ray.put(b"x" * 1_000_000))[:1])
assert "numpy" not in sys.modules
"""
    assert run_script(text).stdout == "[2, 4] b'x'\n"


def test_the_version_is_the_one_of_the_project() -> None:
    project = Path(__file__).parents[2] / "pyproject.toml"
    if "mobula" not in ray.__name__:
        pytest.skip("not Mobula")
    found = re.search(r'^version = "(.*)"$', project.read_text(), re.M)
    assert found is not None
    assert found[1] == ray.__version__


def test_everything_public_is_there() -> None:
    names = (
        "ObjectRef available_resources cluster_resources get get_gpu_ids init is_initialized nodes "
        "put remote shutdown timeline util wait exceptions"
    )
    for name in names.split(" "):
        assert hasattr(ray, name), name


def test_the_memory_that_tasks_may_ask_for_can_be_given(no_session: None) -> None:
    start(_memory=10**9)
    assert ray.cluster_resources()["memory"] == 10**9
    assert ray.get(add.options(memory=10**9).remote(1)) == 2
    too_much = add.options(memory=2 * 10**9).remote(1)
    assert ray.wait([too_much], timeout=0.2)[0] == []


@pytest.mark.mobula_only
def test_a_wrong_amount_of_memory_is_refused_at_once(no_session: None) -> None:
    for wrong, error in ((-1, ValueError), (1.5, ValueError), ("1", TypeError)):
        with pytest.raises(error):
            ray.init(_memory=wrong)
    assert not ray.is_initialized()
