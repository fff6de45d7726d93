"""What a program chooses the size of: it works, or is refused with the limit; nothing ends for it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import mobula as ray
import pytest
from mobula import exceptions
from mobula.util.placement_group import placement_group, remove_placement_group

pytestmark = pytest.mark.mobula_only

NAME_MAX = 16 << 10
SIZES = [NAME_MAX + 1, 70_000, 300_000, 2_000_000]


@ray.remote
def one(*args: Any, **kwargs: Any) -> int:
    return 1


@ray.remote
class Counter:
    def add(self, *args: Any) -> int:
        return 1


def class_named(name: str) -> Any:
    return ray.remote(type(name, (), {"go": lambda self: 1}))


def function_named(name: str) -> Any:
    def function() -> int:
        return 1

    function.__name__ = function.__qualname__ = name
    return ray.remote(function)


LONG_NAMES: dict[str, Callable[[str], Any]] = {
    "actor": lambda text: Counter.options(name=text).remote(),
    "namespace of an actor": lambda text: Counter.options(name="n", namespace=text).remote(),
    "actor looked for": ray.get_actor,
    "namespace looked in": lambda text: ray.get_actor("n", text),
    "class": lambda text: class_named(text).remote(),
    "function": lambda text: function_named(text).remote(),
    "task": lambda text: one.options(name=text).remote(),
    "resource of a task": lambda text: one.options(resources={text: 1}).remote(),
    "resource of an actor": lambda text: Counter.options(resources={text: 1}).remote(),
    "resource of a bundle": lambda text: placement_group([{text: 1}]),
    "placement group": lambda text: placement_group([{"CPU": 1}], name=text),
    "accelerator": lambda text: one.options(accelerator_type=text).remote(),
}


@pytest.mark.usefixtures("shared_session")
class TestInOneSession:
    @pytest.mark.parametrize("what", LONG_NAMES)
    def test_a_name_that_is_too_long_is_refused_with_its_size_and_the_limit(
        self, what: str
    ) -> None:
        for size in SIZES:
            with pytest.raises(ValueError) as refused:
                LONG_NAMES[what]("n" * size)
            said = str(refused.value).replace(",", "")
            assert f"{size} bytes" in said
            assert f"at most {NAME_MAX}" in said
            assert len(said) < 300
        assert ray.get(one.remote(), timeout=60) == 1

    def test_names_as_long_as_they_may_be_work(self) -> None:
        name = "ü" * (NAME_MAX // 2)
        actor = Counter.options(name=name).remote()
        assert ray.get(actor.add.remote(), timeout=60) == 1
        assert ray.get(ray.get_actor(name).add.remote()) == 1
        assert name in ray.util.list_named_actors()
        ray.kill(actor)
        assert ray.get(class_named("K" * NAME_MAX).remote().go.remote(), timeout=60) == 1
        assert ray.get(function_named("f" * NAME_MAX).remote(), timeout=60) == 1
        assert ray.get(one.options(name=name).remote(), timeout=60) == 1
        group = placement_group([{"CPU": 1}], name=name)
        assert group.wait(60)
        remove_placement_group(group)

    def test_more_than_a_megabyte_of_names_of_resources_in_a_request_is_told_in_short(self) -> None:
        asked = {f"kind-{'r' * 200}-{i}": 1 for i in range(10_000)}
        ref = one.options(resources=asked).remote()
        with pytest.raises(exceptions.GetTimeoutError):
            ray.get(ref, timeout=0.2)
        told = subprocess.run(
            [sys.executable, "-m", "mobula", "explain"], capture_output=True, text=True, timeout=60
        )
        assert "and 9,98" in told.stdout
        assert len(told.stdout) < 20_000
        ray.cancel(ref)
        assert ray.get(one.remote(), timeout=60) == 1

    def test_too_many_kinds_of_resources_are_refused(self) -> None:
        asked = {str(i): 1 for i in range(100_001)}
        with pytest.raises(ValueError, match="100,001 kinds of resources, but at most 100,000"):
            one.options(resources=asked)
        with pytest.raises(ValueError, match="in all, but at most 67,108,864"):
            one.options(resources={f"{'r' * 16_000}{i}": 1 for i in range(5_000)})

    def test_a_group_of_thousands_of_different_bundles_is_one_message(self) -> None:
        group = placement_group([{"CPU": 1, f"kind{i}": 1} for i in range(5_000)])
        assert not group.wait(0.1)
        with pytest.raises(ValueError, match=r"\.\.\. and 4,980 more"):
            one.options(
                num_cpus=2,
                scheduling_strategy=ray.util.scheduling_strategies.PlacementGroupSchedulingStrategy(
                    group
                ),
            ).remote()
        remove_placement_group(group)
        assert ray.get(one.remote(), timeout=60) == 1

    def test_num_returns_has_a_limit(self) -> None:
        with pytest.raises(ValueError, match="num_returns is 2,147,483,647, but at most 1,000,000"):
            one.options(num_returns=2**31 - 1).remote()
        many = ray.remote(lambda: list(range(5_000))).options(num_returns=5_000).remote()
        assert ray.get(many, timeout=60) == list(range(5_000))

    def test_thousands_of_large_results_of_one_task(self) -> None:
        many = ray.remote(lambda: [bytes(110_000) for _ in range(4_000)])
        refs = many.options(num_returns=4_000).remote()
        assert len(ray.get(refs[3_999], timeout=60)) == 110_000

    def test_arguments_that_are_too_many_for_a_frame_are_refused(self) -> None:
        kilobytes = bytes(99_000)
        with pytest.raises(ValueError, match=r"arguments .* 536870912"):
            one.remote(*[kilobytes] * 6_000)
        small = ray.put(kilobytes)
        with pytest.raises(exceptions.RayError, match=r"arguments .* 536870912"):
            ray.get(one.remote(*[small] * 6_000), timeout=60)
        with pytest.raises(exceptions.RayError, match=r"arguments .* 536870912"):
            ray.get(Counter.options().remote().add.remote(*[small] * 6_000), timeout=60)
        assert ray.get(one.remote(*[small] * 200), timeout=60) == 1

    def test_results_that_are_too_many_for_a_frame_fail_the_task(self) -> None:
        many = ray.remote(max_retries=0)(lambda: [bytes(99_000)] * 6_000)
        refs = many.options(num_returns=6_000).remote()
        with pytest.raises(exceptions.RayError, match=r"results .* 536870912"):
            ray.get(refs[0], timeout=60)
        assert ray.get(one.remote(), timeout=60) == 1

    def test_a_long_exception_reaches_who_asks_also_inside_of_another_object(self) -> None:
        @ray.remote(max_retries=0)
        def fail(size: int) -> None:
            raise KeyError("x" * size)

        @ray.remote
        def ask(refs: list[Any]) -> str:
            try:
                ray.get(refs[0])
            except KeyError as error:
                return str(error)
            return ""

        for size in (70_000, 300_000, 2_000_000):
            assert "x" * 1000 in ray.get(ask.remote([fail.remote(size)]), timeout=60)

    def test_an_actor_whose_constructor_says_much(self) -> None:
        @ray.remote
        class Broken:
            def __init__(self, size: int) -> None:
                raise RuntimeError("x" * size)

            def go(self) -> None:
                pass

        for size in (70_000, 300_000, 2_000_000):
            with pytest.raises(exceptions.ActorDiedError):
                ray.get(Broken.remote(size).go.remote(), timeout=60)

    def test_variables_of_a_task_may_have_megabytes(self) -> None:
        variables = {f"V{i}": "v" * 1000 for i in range(2_000)} | {"LARGE": "x" * 1_000_000}
        task = ray.remote(lambda: (len(os.environ["LARGE"]), os.environ["V1999"]))
        ref = task.options(runtime_env={"env_vars": variables}).remote()
        assert ray.get(ref, timeout=60) == (1_000_000, "v" * 1000)
        with pytest.raises(ValueError, match="10,001 variables, but at most 10,000"):
            task.options(runtime_env={"env_vars": {f"V{i}": "" for i in range(10_001)}})

    def test_more_than_a_runtime_env_may_say_is_refused(self) -> None:
        with pytest.raises(ValueError, match=r"too large: .* of at most 16777216"):
            one.options(runtime_env={"env_vars": {"A": "x" * (17 << 20)}}).remote()
        assert ray.get(one.remote(), timeout=60) == 1

    def test_all_names_of_many_actors_are_listed(self) -> None:
        actors = [Counter.options(name=f"many-{i}", num_cpus=1).remote() for i in range(1200)]
        names = ray.util.list_named_actors()
        assert {f"many-{i}" for i in range(1200)} <= set(names)
        for actor in actors:
            ray.kill(actor)


def test_a_node_of_ten_thousand_kinds_and_labels(no_session: None) -> None:
    kinds = {f"kind-{i}": 3 for i in range(10_000)}
    labels = {f"key{i}": "v" * 50 for i in range(10_000)}
    variables = {f"E{i}": "v" * 1000 for i in range(1_000)}
    ray.init(
        num_cpus=2,
        resources=kinds,
        labels=labels,
        namespace="n" * NAME_MAX,
        runtime_env={"env_vars": variables},
    )

    @ray.remote
    def look() -> Any:
        context = ray.get_runtime_context()
        return (
            os.environ["E999"],
            len(context.get_node_labels()),
            len(context.get_assigned_resources()),
            context.namespace,
            len(context.runtime_env["env_vars"]),
            [name for name in os.environ if name.startswith("MOBULA_RUNTIME")],
            subprocess.run(["true"], check=False).returncode,
        )

    seen = ray.get(look.options(resources=kinds).remote(), timeout=60)
    assert seen[0] == "v" * 1000
    assert seen[1] >= 10_000
    assert seen[2] == 10_001
    assert seen[3:] == ("n" * NAME_MAX, 1000, [], 0)
    actor = Counter.options(resources=dict.fromkeys(kinds, 1)).remote()
    assert ray.get(actor.add.remote(), timeout=60) == 1
    assert ray.cluster_resources()["kind-9999"] == 3
    assert ray.available_resources()["kind-9999"] == 2
    assert ray.nodes()[0]["Resources"]["kind-9999"] == 3
    for command in (["status"], ["list", "actors"], ["list", "nodes"], ["explain"], ["memory"]):
        said = subprocess.run(
            [sys.executable, "-m", "mobula", *command],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        assert len(said.stdout) < 50_000, command


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"namespace": "n" * 70_000}, "70,000 bytes, but at most 16,384"),
        ({"resources": {"r" * 70_000: 1}}, "70,000 bytes, but at most 16,384"),
        ({"resources": {str(i): 1 for i in range(100_001)}}, "at most 100,000"),
        ({"labels": {"k" * 70_000: "v"}}, "70,000 bytes, but at most 16,384"),
        ({"labels": {"k": "v" * 70_000}}, "70,000 bytes, but at most 16,384"),
        ({"labels": {str(i): "" for i in range(100_001)}}, "at most 100,000"),
        ({"runtime_env": {"env_vars": {"E": "v" * (65 << 20)}}}, "at most 67,108,864"),
    ],
)
def test_what_is_too_long_for_init_is_refused_and_init_can_be_called_again(
    no_session: None, options: dict[str, Any], error: str
) -> None:
    with pytest.raises(ValueError, match=error):
        ray.init(num_cpus=1, **options)
    assert not ray.is_initialized()


def test_an_environment_and_a_path_of_megabytes_reach_the_workers(run_script: Any) -> None:
    done = run_script(
        """
import os, subprocess, sys
for i in range(2_000): os.environ[f"SERVICE_{i}"] = f"{i}" + "x" * 1000
os.environ["LARGE"] = "y" * 1_000_000
sys.path += [f"/nonexistent/{'z' * 200}{i}" for i in range(2_000)]
import mobula as ray
ray.init(num_cpus=1, runtime_env={"working_dir": "."})

@ray.remote
def look():
    return dict(os.environ), list(sys.path)

@ray.remote
class Actor:
    def look(self):
        return ray.get(look.remote())

mine = {name: value for name, value in os.environ.items() if name.startswith(("SERVICE", "LARGE"))}
for actor in (Actor.remote(), Actor.options(lifetime="detached", name="d").remote()):
    environ, path = ray.get(actor.look.remote(), timeout=100)
    assert {name: environ.get(name) for name in mine} == mine
    assert path[-2000:] == sys.path[-2000:]
more = look.options(runtime_env={"env_vars": {"A": "${LARGE}!"}})
environ, path = ray.get(more.remote(), timeout=100)
assert environ["A"] == mine["LARGE"] + "!"
print("alive")
""",
        timeout=200,
    )
    assert done.stdout.strip().endswith("alive")
