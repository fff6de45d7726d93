"""The cluster's table of keys and values, as libraries use it."""

from __future__ import annotations

import importlib

from oracle.cases import ENGINE, attempt, case, ray, run

kv = importlib.import_module(f"{ENGINE}.experimental.internal_kv")


@case
def put_says_whether_there_was_one():
    return (
        kv._internal_kv_put("a", "1"),
        kv._internal_kv_put("a", "2"),
        kv._internal_kv_put("a", "3", overwrite=False),
        kv._internal_kv_put("a", "4", False),
        kv._internal_kv_get("a").decode(),
    )


@case
def a_key_that_there_is_not():
    return kv._internal_kv_get("none"), kv._internal_kv_exists("none"), kv._internal_kv_del("none")


@case
def texts_and_bytes_are_the_same_key():
    kv._internal_kv_put(b"bytes", b"1")
    kv._internal_kv_put("text", "ü")
    return (
        kv._internal_kv_get("bytes").decode(),
        kv._internal_kv_get(b"text").decode(),
        kv._internal_kv_exists(b"text"),
    )


@case
def an_empty_value():
    kv._internal_kv_put("empty", "")
    return kv._internal_kv_get("empty").decode(), kv._internal_kv_exists("empty")


@case
def namespaces():
    kv._internal_kv_put("n", "plain")
    kv._internal_kv_put("n", "other", namespace="other")
    return (
        kv._internal_kv_get("n").decode(),
        kv._internal_kv_get("n", namespace=b"other").decode(),
        kv._internal_kv_get("n", namespace="third"),
        len(kv._internal_kv_list("n", namespace="other")),
    )


@case
def prefixes():
    for key in ("p1", "p2", "q"):
        kv._internal_kv_put(key, "", namespace="prefixes")
    listed = sorted(key.decode() for key in kv._internal_kv_list("p", namespace="prefixes"))
    removed = kv._internal_kv_del("p", del_by_prefix=True, namespace="prefixes")
    return listed, removed, len(kv._internal_kv_list("", namespace="prefixes"))


@case
def a_value_of_some_megabytes():
    kv._internal_kv_put("large", b"x" * (5 << 20))
    return kv._internal_kv_get("large") == b"x" * (5 << 20)


@case
def tasks_share_it():
    @ray.remote
    def change():
        kv._internal_kv_put("shared", kv._internal_kv_get("shared") + b"+task")
        return kv._internal_kv_initialized()

    kv._internal_kv_put("shared", "driver")
    return ray.get(change.remote()), kv._internal_kv_get("shared").decode()


@case(differs="a TypeError that says what is wrong, where Ray has a bare AssertionError")
def keys_of_a_wrong_type():
    return [attempt(kv._internal_kv_put, key, "x") for key in (1, None, bytearray(b"a"))]


if __name__ == "__main__":
    run()
