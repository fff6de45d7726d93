"""Modules and private names of Ray that libraries import, and what those that are there in name do."""

from __future__ import annotations

import importlib
import importlib.util
import logging
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mobula as ray
import pytest

pytestmark = pytest.mark.mobula_only


@pytest.fixture(scope="module")
def session() -> Iterator[None]:
    with ray.init(num_cpus=2):
        yield


def as_ray(code: str, cwd: Path) -> list[str]:
    """The lines that a program prints which says `import ray`."""
    done = subprocess.run(
        [sys.executable, "-m", "mobula.ray", "-c", code],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


# ---- modules that are there in name ------------------------------------------------------------

LIBRARIES = ["air", "data", "rllib", "serve", "train", "tune"]


@pytest.mark.parametrize(
    "name",
    [
        *LIBRARIES,
        *("air.config", "air.session", "data.context", "data.dataset", "data.iterator"),
        *("train._internal.session", "cluster_utils", "job_submission", "util.collective"),
        *("util.collective.collective", "util.client.common", "util.rpdb", "util.debugpy"),
    ],
)
def test_what_is_not_there_imports_and_says_why_when_it_is_called(name: str) -> None:
    module = importlib.import_module(f"mobula.{name}")
    assert module.__spec__ is not None and importlib.util.find_spec(f"mobula.{name}") is not None
    for one in module.__all__:
        thing = getattr(module, one)
        assert callable(thing) and thing.__name__ == one
        if isinstance(thing, type):
            assert not isinstance(module, thing)
            assert issubclass(type("Own", (thing,), {}), thing)
        if one in ("get_session", "nccl_available", "gloo_available"):
            assert not thing()
        elif one == "is_group_initialized":
            assert thing("group") is False
        elif one == "is_backend_available":
            assert thing("nccl") is False
        else:
            for call in (thing, lambda thing=thing: thing(1, two=2)):
                with pytest.raises(NotImplementedError, match=f"^ray.{name}.{one} is not there: "):
                    call()


@pytest.mark.parametrize("name", LIBRARIES)
def test_a_name_that_is_not_known_is_an_import_error(name: str, tmp_path: Path) -> None:
    code = f"""
import importlib.util
import ray.{name}
try:
    from ray.{name} import no_such_name
except ImportError as error:
    print(error.name)
try:
    import ray.{name}.no_such_module
except ModuleNotFoundError as error:
    print(error.name)
print(importlib.util.find_spec("ray.{name}.no_such_module"))
try:
    ray.{name}.no_such_name
except AttributeError as error:
    print("Ray Core only" in str(error), hasattr(ray, {name!r}))
class Own(getattr(ray.{name}, "Dataset", object)):
    pass
"""
    said = as_ray(code, tmp_path)
    assert said[0] in (f"ray.{name}", f"mobula.{name}")
    assert said[1:] == [f"ray.{name}.no_such_module", "None", "True True"]


LOOK = """
try:                                                # As flaml does.
    from ray.tune.analysis import ExperimentAnalysis
    print("analysis")
except ImportError:
    print("none")
try:
    from ray.tune import choice, loguniform, uniform
    print("spaces")
except ImportError:
    print("none")
try:                                                # As xgboost_ray and lightgbm_ray do.
    from ray import train, tune
    from ray.tune import is_session_enabled
    from ray.tune.integration.xgboost import TuneReportCallback
    print("tune")
except ImportError:
    print("none")
from ray.train._internal.session import get_session
print(get_session())
try:
    import ray.data.dataset
    from ray.data.dataset import Dataset as RayDataset
    print(isinstance([], ray.data.dataset.Dataset), isinstance({}, RayDataset))
except (ImportError, AttributeError):
    print("none")
from ray.data import from_pandas_refs               # As modin does.
try:
    from_pandas_refs([])
except NotImplementedError as error:
    print(error)
print(ray.util.client.ray.is_connected())
"""


def test_libraries_see_that_ray_tune_is_not_there(tmp_path: Path) -> None:
    assert as_ray(LOOK, tmp_path) == [
        "none",
        "none",
        "none",
        "None",
        "False False",
        "ray.data.from_pandas_refs is not there: it is part of Ray Data, a library above Ray Core, "
        "and Mobula is Ray Core only.",
        "False",
    ]


# ---- what is there -----------------------------------------------------------------------------

IMPORTS = """
import ray
from ray._private.services import get_node_ip_address
from ray._private.worker import (
    BaseContext, RESTORE_WORKER_MODE, SCRIPT_MODE, SPILL_WORKER_MODE, WORKER_MODE, global_worker
)
from ray.autoscaler.sdk import request_resources
from ray.experimental.multiprocessing import Pool
from ray.experimental.queue import Empty, Queue
from ray.experimental.state.api import get_actor, list_actors
from ray.experimental.state.common import ActorState
from ray.experimental.state.exception import RayStateApiException
from ray.util.client.common import ClientObjectRef
from ray.util.helpers import as_completed
from ray.util.state.common import DEFAULT_RPC_TIMEOUT, StateResource
import ray.cloudpickle.cloudpickle, ray._private.ray_constants, ray._private.utils, ray._raylet
for name in (
    "logger state worker _raylet ActorClassID FunctionID ClusterID _private.ray_constants "
    "ray_constants client_builder cross_language internal runtime_context _private.services "
    "_common.utils data __commit__"
).split():
    found = ray
    for part in name.split("."):
        found = getattr(found, part)
    assert found is not None
assert (SCRIPT_MODE, WORKER_MODE, RESTORE_WORKER_MODE, SPILL_WORKER_MODE) == (0, 1, 3, 4)
assert ray.state.node_ids and ray.worker.global_worker is global_worker
assert Queue is ray.util.queue.Queue and list_actors is ray.util.state.list_actors
import mobula.util.state.api as api, ray.experimental.state.api as old_api
assert old_api is api is ray.util.state.api
assert Pool is ray.util.multiprocessing.Pool
assert as_completed is ray.util.as_completed
assert not isinstance(1, ClientObjectRef)
with ray.init(num_cpus=1) as context:
    assert isinstance(context, BaseContext)
    ref = ray.put(1)
    assert isinstance(ref, ray._raylet.ObjectRef) and not isinstance(1, ray._raylet.ObjectRef)
    print(request_resources(num_cpus=1), list_actors(), get_node_ip_address())
"""


def test_names_that_libraries_import_are_there(tmp_path: Path) -> None:
    assert as_ray(IMPORTS, tmp_path) == ["None [] 127.0.0.1"]


def test_the_logger_is_the_one_that_init_sets_up() -> None:
    assert ray.logger is logging.getLogger("mobula")


def test_ids_of_functions_and_classes_are_unique_ids() -> None:
    for kind in (ray.FunctionID, ray.ActorClassID, ray._raylet.ClusterID):
        made = kind.from_random()
        assert kind.size() == 28 and kind(made.binary()) == made == kind.from_hex(made.hex())
        assert isinstance(made, ray.UniqueID) and kind.nil().is_nil()


def test_asking_for_machines_checks_what_is_asked_for(session: None) -> None:
    from mobula.autoscaler.sdk import request_resources

    for fine in ({}, {"num_cpus": 3}, {"bundles": [{"CPU": 1}]}, {"bundles": []}):
        request_resources(**fine)  # type: ignore[arg-type]
    for wrong in ({"num_cpus": "3"}, {"num_cpus": 1.5}, {"bundles": {"CPU": 1}}, {"bundles": [1]}):
        with pytest.raises(TypeError):
            request_resources(**wrong)  # type: ignore[arg-type]


def test_connecting_as_a_client_is_a_connection_error() -> None:
    for connect in (ray.util.connect, ray.util.client.ray.connect):
        with pytest.raises(ConnectionError, match="other machines"):
            connect("192.0.2.1:10001")
    ray.util.disconnect()
    assert ray.util.client.num_connected_contexts() == 0


def test_hooks_of_clients_change_nothing(session: None) -> None:
    from mobula._private import auto_init_hook, client_mode_hook

    def twice(x: int) -> int:
        return 2 * x

    assert client_mode_hook.client_mode_hook(twice) is twice
    assert auto_init_hook.wrap_auto_init(twice) is twice
    assert not client_mode_hook.client_mode_should_convert()
    with client_mode_hook.disable_client_hook():
        assert ray.get(ray.put(1)) == 1
    auto_init_hook.auto_init_ray()
    assert ray.is_initialized()


def test_variables_are_read_as_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    from mobula._private import ray_constants as constants

    cases: list[tuple[str, Any, Any, Any]] = [
        ("x", False, 3, 1.5),
        ("1", True, 1, 1.0),
        ("TRUE", True, 3, 1.5),
        ("", False, 3, 1.5),
        ("2.5", False, 3, 2.5),
        ("-3", False, -3, -3.0),
    ]
    for text, as_bool, as_integer, as_float in cases:
        monkeypatch.setenv("SOME_VARIABLE", text)
        assert constants.env_bool("SOME_VARIABLE", True) is as_bool
        assert constants.env_integer("SOME_VARIABLE", 3) == as_integer
        assert constants.env_float("SOME_VARIABLE", 1.5) == as_float
    monkeypatch.delenv("SOME_VARIABLE")
    assert (
        constants.env_bool("SOME_VARIABLE", True) and constants.env_integer("SOME_VARIABLE", 3) == 3
    )
    assert not constants.env_set_by_user("SOME_VARIABLE")


def test_addresses_are_built_and_taken_apart() -> None:
    from mobula._common import network_utils as network

    assert [network.build_address(*one) for one in (("1.2.3.4", 5), ("::1", "5"), ("host", 5))] == [
        "1.2.3.4:5",
        "[::1]:5",
        "host:5",
    ]
    texts = ("1.2.3.4:5", "[::1]:5", "host:5", "host", "::1")
    assert [network.parse_address(one) for one in texts] == [
        ("1.2.3.4", "5"),
        ("::1", "5"),
        ("host", "5"),
        None,
        None,
    ]
    assert 0 < network.find_free_port() < 65536
    assert network.is_ipv6("::1") and not network.is_ipv6("host")


def test_the_machine_says_what_it_has() -> None:
    from mobula._private import utils

    assert 0 < utils.get_used_memory() < utils.get_system_memory()
    assert utils.estimate_available_memory() + utils.get_used_memory() == pytest.approx(
        utils.get_system_memory(), rel=0.05
    )
    assert utils.get_num_cpus() >= 1
    assert utils.get_ray_doc_version() == "releases-2.60.0"


def test_groups_and_their_bundles_are_checked_before_they_are_made(session: None) -> None:
    from mobula.util.placement_group import (
        PlacementGroup,
        check_placement_group_index,
        placement_group,
        remove_placement_group,
        validate_placement_group,
    )

    group = placement_group([{"CPU": 1}])
    for index in (-1, 0):
        check_placement_group_index(group, index)
    check_placement_group_index(PlacementGroup.empty(), -1)
    for wrong in ((group, 1), (group, -2), (PlacementGroup.empty(), 0)):
        with pytest.raises(ValueError, match="bundle index"):
            check_placement_group_index(*wrong)
    remove_placement_group(group)
    assert validate_placement_group([{"CPU": 1}], "SPREAD", "detached") is True
    wrong_ones: list[dict[str, Any]] = [
        {"bundles": []},
        {"bundles": [{}]},
        {"bundles": [{"CPU": 1}], "strategy": "x"},
        {"bundles": [{"CPU": 1}], "lifetime": "x"},
    ]
    for one in wrong_ones:
        with pytest.raises(ValueError):
            validate_placement_group(**one)


# ---- actors that are called together -----------------------------------------------------------


class Adder:
    def __init__(self, start: int, step: int = 1) -> None:
        self.value = start
        self.step = step

    def add(self, count: int = 1) -> int:
        self.value += count * self.step
        return self.value

    def sleep(self) -> None:
        time.sleep(600)


def group_of(count: int, **options: Any) -> Any:
    from mobula.util.actor_group import ActorGroup

    return ActorGroup(Adder, num_actors=count, num_cpus_per_actor=0, **options)


def test_a_group_calls_each_of_its_actors(session: None) -> None:
    group = group_of(3, init_args=(10,), init_kwargs={"step": 2})
    assert ray.get(group.add.remote()) == [12, 12, 12]
    assert ray.get(group[1].actor.add.remote(count=2)) == 16
    assert ray.get(group.add.remote(0)) == [12, 16, 12]
    assert len(group) == 3 and [one.metadata for one in group] == group.actor_metadata == [None] * 3
    with pytest.raises(TypeError, match="cannot be called directly"):
        group.add(1)
    with pytest.raises(AttributeError):
        group.no_such_method.remote()
    with pytest.raises(IndexError):
        group[3]


def test_actors_join_and_leave_a_group(session: None) -> None:
    group = group_of(2, init_args=(0,))
    ray.get(group[0].actor.add.remote(5))
    group.add_actors(1)
    assert ray.get(group.add.remote()) == [6, 1, 1]
    group.remove_actors([0, 2])
    assert ray.get(group.add.remote()) == [2]


def test_a_group_ends_and_starts_again(session: None) -> None:
    group = group_of(2, init_args=(0,))
    old = group[0].actor
    with pytest.raises(RuntimeError, match="already been started"):
        group.start()
    group.shutdown()
    with pytest.raises(ray.exceptions.ActorDiedError):
        ray.get(old.add.remote())
    for use in (lambda: group.add.remote(), lambda: group[0], lambda: group.actors):
        with pytest.raises(RuntimeError, match="has been shutdown"):
            use()
    assert len(group) == 0
    group.shutdown()
    group.start()
    assert ray.get(group.add.remote()) == [1, 1]


def test_an_actor_that_is_busy_is_killed_when_its_group_ends(session: None) -> None:
    group = group_of(1, init_args=(0,))
    busy = group.sleep.remote()
    group.shutdown(patience_s=0.05)
    with pytest.raises(ray.exceptions.ActorDiedError):
        ray.get(busy, timeout=60)


def test_a_group_of_nobody_is_refused() -> None:
    from mobula.util.actor_group import ActorGroup

    with pytest.raises(ValueError, match="must be greater than 0"):
        ActorGroup(Adder, num_actors=0)
    with pytest.raises(ValueError, match="must not be negative"):
        ActorGroup(Adder, num_gpus_per_actor=-1)
