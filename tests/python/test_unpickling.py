"""Values and functions that came, but cannot be made again from their pickles."""

from __future__ import annotations

from typing import Any

import mobula as ray
import pytest

pytestmark = pytest.mark.usefixtures("shared_session")


class Broken:
    def __reduce__(self) -> Any:
        return int, ("not a number",)


def test_a_result_that_cannot_be_unpickled_says_why() -> None:
    @ray.remote
    def make() -> Broken:
        return Broken()

    with pytest.raises(ray.exceptions.RaySystemError, match="not a number"):
        ray.get(make.remote())


def test_a_put_value_that_cannot_be_unpickled_says_why() -> None:
    with pytest.raises(ray.exceptions.RaySystemError, match="not a number"):
        ray.get(ray.put([Broken()]))


def test_an_argument_that_cannot_be_unpickled_fails_its_task_only() -> None:
    @ray.remote(max_retries=0)
    def use(value: Any) -> Any:
        return value

    with pytest.raises(ray.exceptions.RaySystemError, match="not a number") as caught:
        ray.get(use.remote(Broken()))
    assert isinstance(caught.value, ray.exceptions.RayTaskError)
    assert ray.get(use.remote(5)) == 5


def test_a_function_that_cannot_be_loaded_says_that_and_why() -> None:
    part = Broken()

    @ray.remote(max_retries=0)
    def use() -> str:
        return str(part)

    with pytest.raises(RuntimeError, match=r"(?s)failed to import on the worker.*not a number"):
        ray.get(use.remote())


@pytest.mark.mobula_only
def test_the_class_of_the_original_error_is_its_cause() -> None:
    with pytest.raises(ray.exceptions.RaySystemError) as caught:
        ray.get(ray.put(Broken()))
    assert isinstance(caught.value.__cause__, ValueError)
