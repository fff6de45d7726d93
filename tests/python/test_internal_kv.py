"""The node's table of keys and values."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from typing import Any

import mobula as ray
import pytest
from mobula.experimental import internal_kv
from mobula.experimental.internal_kv import (
    _internal_kv_del,
    _internal_kv_exists,
    _internal_kv_get,
    _internal_kv_initialized,
    _internal_kv_list,
    _internal_kv_put,
)
from mobula.util.state import list_tasks


@pytest.fixture(autouse=True)
def session() -> Iterator[None]:
    with ray.init(num_cpus=2):
        yield


def test_put_says_whether_there_was_a_value_and_overwrites_it_unless_told_otherwise() -> None:
    assert _internal_kv_put("key", "one") is False
    assert _internal_kv_put("key", b"two") is True
    assert _internal_kv_get("key") == b"two"
    assert _internal_kv_put("key", "three", overwrite=False) is True
    assert _internal_kv_get(b"key") == b"two"
    assert _internal_kv_put("other", "one", False) is False
    assert _internal_kv_get("other") == b"one"


def test_what_is_not_there_is_none() -> None:
    assert _internal_kv_get("key") is None
    assert not _internal_kv_exists("key")
    assert _internal_kv_del("key") == 0
    assert _internal_kv_list("") == []


def test_an_empty_value_is_a_value() -> None:
    _internal_kv_put("key", "")
    assert _internal_kv_get("key") == b""
    assert _internal_kv_exists("key")


def test_namespaces_do_not_see_each_other() -> None:
    _internal_kv_put("key", "plain")
    _internal_kv_put("key", "in n", namespace="n")
    assert _internal_kv_get("key") == b"plain"
    assert _internal_kv_get("key", namespace=b"n") == b"in n"
    assert _internal_kv_list("k", namespace="n") == [b"key"]
    assert _internal_kv_del("key", namespace="n") == 1
    assert _internal_kv_exists("key")


def test_keys_are_listed_and_removed_by_what_they_begin_with() -> None:
    for key in (b"a", b"b1", b"b2", b"b\xff\x00", "ü"):
        _internal_kv_put(key, "x")
    assert _internal_kv_list("b") == [b"b1", b"b2", b"b\xff\x00"]
    assert len(_internal_kv_list("")) == 5
    assert _internal_kv_del("b", del_by_prefix=True) == 3
    assert _internal_kv_list("") == [b"a", "ü".encode()]


def test_tasks_and_the_driver_share_it() -> None:
    @ray.remote
    def double(key: str) -> bool:
        value = _internal_kv_get(key)
        _internal_kv_put("from the task", value * 2)
        return _internal_kv_initialized()

    _internal_kv_put("key", "x")
    assert ray.get(double.remote("key"))
    assert _internal_kv_get("from the task") == b"xx"


def test_values_of_many_sizes_come_back_as_they_were() -> None:
    for size in (1, 65_535, 65_536, 65_537, 5_000_000, 16 << 20):
        value = os.urandom(1024) * (size // 1024) + b"y" * (size % 1024)
        _internal_kv_put("key", value)
        assert _internal_kv_get("key") == value


def test_what_is_too_long_is_refused_and_changes_nothing() -> None:
    _internal_kv_put("key", "here")
    with pytest.raises(ValueError, match="16777216 bytes, this one has 16777217"):
        _internal_kv_put("key", b"x" * ((16 << 20) + 1))
    with pytest.raises(ValueError, match="8192 bytes"):
        _internal_kv_put("k" * 8193, "")
    assert _internal_kv_get("key") == b"here"
    assert _internal_kv_list("") == [b"key"]


def test_a_full_table_says_so_and_has_room_again_when_something_is_removed() -> None:
    value = b"x" * (16 << 20)
    for number in range(7):
        _internal_kv_put(str(number), value)
    with pytest.raises(
        ray.exceptions.ObjectStoreFullError, match="table of keys and values is full"
    ):
        _internal_kv_put("one more", value)
    assert not _internal_kv_exists("one more")
    assert _internal_kv_del("0") == 1
    _internal_kv_put("one more", value)


@pytest.mark.parametrize("wrong", [1, None, ["a"], bytearray(b"a")])
def test_keys_and_values_are_texts_or_bytes(wrong: Any) -> None:
    with pytest.raises(TypeError, match="The key must be bytes or a string"):
        _internal_kv_get(wrong)
    with pytest.raises(TypeError, match="The value must be bytes or a string"):
        _internal_kv_put("key", wrong)


def test_names_that_look_like_those_of_namespaces_are_refused() -> None:
    with pytest.raises(ValueError, match="cannot begin with @namespace_"):
        _internal_kv_put("@namespace_n", "x")


def test_many_threads_use_it_at_once() -> None:
    from concurrent.futures import ThreadPoolExecutor

    def put_and_get(number: int) -> bool:
        value = bytes([number]) * (100_000 * (number % 4))
        _internal_kv_put(f"key{number}", value)
        return _internal_kv_get(f"key{number}") == value

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(put_and_get, range(64)))


def test_a_worker_that_dies_while_it_puts_leaves_the_table_as_it_was() -> None:
    @ray.remote(max_retries=0)
    def put_for_ever(number: int) -> None:
        while True:
            _internal_kv_put(f"key{number}", bytes([number]) * (4 << 20))

    refs = [put_for_ever.remote(number) for number in range(2)]
    deadline = time.monotonic() + 30
    while len(_internal_kv_list("key")) < 2:
        assert time.monotonic() < deadline
    for row in list_tasks(filters=[("state", "=", "RUNNING")]):
        os.kill(row.worker_pid, signal.SIGKILL)
    for ref in refs:
        with pytest.raises(ray.exceptions.WorkerCrashedError):
            ray.get(ref)
    for number in range(2):
        assert _internal_kv_get(f"key{number}") == bytes([number]) * (4 << 20)


def test_without_a_session_it_says_so() -> None:
    ray.shutdown()
    assert not internal_kv._internal_kv_initialized()
    with pytest.raises(ray.exceptions.RaySystemError, match="init"):
        internal_kv._internal_kv_get("key")
