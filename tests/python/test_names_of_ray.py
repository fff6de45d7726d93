"""Names that Ray programs import or look at, for other languages and far clusters among them."""

from __future__ import annotations

import inspect
import os
import pickle
from typing import Any

import mobula as ray
import pytest
from mobula import exceptions


def add(left: int, right: int = 1) -> int:
    """Adds two numbers."""
    return left + right


def count(limit: int) -> Any:
    """Counts."""
    yield from range(limit)


@pytest.mark.mobula_only
@pytest.mark.parametrize(
    ("function", "options"),
    [
        (add, {}),
        (add, {"num_cpus": 2, "name": "other"}),
        (add, {"retry_exceptions": True, "max_calls": 2}),
        (add, {"runtime_env": {"env_vars": {"A": "1"}}}),
        (count, {}),
    ],
)
def test_remote_has_the_signature_name_and_docstring_of_its_function(
    function: Any, options: dict[str, Any]
) -> None:
    made = ray.remote(**options)(function) if options else ray.remote(function)
    assert inspect.signature(made.remote) == inspect.signature(function)
    assert made.remote.__name__ == function.__name__
    assert made.remote.__doc__ == function.__doc__
    assert inspect.signature(made.options(num_cpus=1).remote) == inspect.signature(function)


@pytest.mark.mobula_only
def test_methods_have_the_signature_of_their_function() -> None:
    @ray.remote
    class Adder:
        def add(self, left: int, right: int = 1) -> int:
            return left + right

    with ray.init(num_cpus=1):
        adder = Adder.remote()
        assert list(inspect.signature(adder.add.remote).parameters)[-2:] == ["left", "right"]


def test_languages_have_names() -> None:
    assert [str(ray.Language.PYTHON), str(ray.Language.JAVA), repr(ray.Language.CPP)] == [
        "PYTHON",
        "JAVA",
        "CPP",
    ]


@pytest.mark.mobula_only
def test_other_languages_are_refused_with_the_reason() -> None:
    with pytest.raises(NotImplementedError, match=r"java_function\('C', 'f'\).*Python only"):
        ray.java_function("C", "f")
    with pytest.raises(NotImplementedError, match="java_actor_class"):
        ray.java_actor_class("C")


@pytest.mark.mobula_only
def test_client_starts_a_session_on_this_machine() -> None:
    builder = ray.client().namespace("mine").env({"env_vars": {"FROM_CLIENT": "yes"}})
    with builder.connect() as context:
        assert context.ray_version == ray.__version__
        assert ray.get_runtime_context().namespace == "mine"

        @ray.remote
        def variable() -> str | None:
            import os

            return os.environ.get("FROM_CLIENT")

        assert ray.get(variable.remote()) == "yes"
    assert not ray.is_initialized()


@pytest.mark.mobula_only
def test_client_to_another_machine_is_a_connection_error() -> None:
    for address in ("ray://example.invalid:10001", "127.0.0.1:10001"):
        with pytest.raises(ConnectionError):
            ray.client(address).connect()
    with pytest.raises(TypeError):
        ray.client(1)  # type: ignore[arg-type]


def test_actor_died_error_of_nothing() -> None:
    error = exceptions.ActorDiedError()
    assert error.actor_id is None and error.args == ()
    assert str(error) == "The actor died unexpectedly before finishing this task."


def test_actor_died_error_of_what_the_constructor_raised() -> None:
    cause = exceptions.RayTaskError(
        "f", "Traceback\nValueError: no", ValueError("no"), actor_id="ab" * 16
    )
    error = exceptions.ActorDiedError(cause)
    assert error.actor_id == "ab" * 16
    assert "creation task" in str(error) and "ValueError: no" in str(error)
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.actor_id) == (str(error), error.actor_id)


def test_errors_made_by_hand_have_the_args_they_were_made_of() -> None:
    assert exceptions.TaskCancelledError().args == ()
    assert exceptions.RaySystemError("x").args == ("x",)
    assert exceptions.RayActorError("id", "text").args == ("id", "text")
    assert exceptions.ActorUnavailableError("busy", None).args == ("busy", None)
    assert exceptions.RuntimeEnvSetupError().args == ()
    assert exceptions.ActorAlreadyExistsError("x").error_message == "x"


def test_an_actor_error_raised_by_a_task_arrives_with_its_class_and_text() -> None:
    @ray.remote(max_retries=0)
    def fail() -> None:
        raise exceptions.ActorDiedError

    options: dict[str, Any] = {"num_cpus": 1}
    with ray.init(**options):
        with pytest.raises(exceptions.ActorDiedError, match="unexpectedly") as caught:
            ray.get(fail.remote())
        assert isinstance(caught.value, exceptions.RayTaskError)


def test_some_modules_need_no_import_of_their_own() -> None:
    loaded = ray.cloudpickle.loads(ray.cloudpickle.dumps(lambda: 7))
    assert loaded() == 7
    assert not ray.experimental.internal_kv._internal_kv_initialized()
    assert callable(ray.experimental.tqdm_ray.tqdm)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        ray.nothing  # type: ignore[attr-defined]  # noqa: B018


def test_the_context_knows_the_folder_of_sessions_and_the_group_by_its_old_name() -> None:
    options: dict[str, Any] = {"num_cpus": 1}
    with ray.init(**options):
        context = ray.get_runtime_context()
        assert os.path.isdir(context.get_temp_dir())
        assert context.get_session_name() in os.listdir(context.get_temp_dir())
        assert context.current_placement_group_id.is_nil()


def test_get_put_and_wait_can_be_looked_at() -> None:
    shown = {
        name: [one for one in inspect.signature(getattr(ray, name)).parameters if one[0] != "_"]
        for name in ("get", "put", "wait")
    }
    assert shown == {
        "get": ["object_refs", "timeout"],
        "put": ["value"],
        "wait": ["ray_waitables", "num_returns", "timeout", "fetch_local"],
    }
    assert all((getattr(ray, name).__doc__ or "").strip() for name in shown)


def test_put_takes_its_value_by_name(shared_session: None) -> None:
    assert ray.get(ray.put(value=1)) == 1
    assert ray.get(ray.put(2, _owner=None)) == 2
    for wrong in ((), (1, 2)):
        with pytest.raises(TypeError):
            ray.put(*wrong)  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        ray.put(1, absent=2)  # type: ignore[call-arg]


def test_private_modules_are_there_with_the_package() -> None:
    assert ray._private.worker.global_worker is not None
    assert callable(ray._common.test_utils.wait_for_condition)


def test_ids_are_made_of_bytes_and_of_digits() -> None:
    made = ray.JobID.from_int(5)
    assert ray.JobID(made.binary()) == made == ray.JobID.from_hex(made.hex())
    with pytest.raises(ValueError):
        ray.JobID(b"too long")
