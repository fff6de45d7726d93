"""Data of libraries that their own pickling would copy: tensors of torch, slices of Arrow's tables."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import mobula as ray
import pytest

pytestmark = pytest.mark.mobula_only

MIB = 1 << 20


@pytest.fixture(scope="module", autouse=True)
def session() -> Iterator[None]:
    ray.init(num_cpus=2, object_store_memory=200 * MIB)
    yield
    ray.shutdown()


@ray.remote
def same(value: Any) -> Any:
    return value


def test_tensors_arrive_as_they_were_and_can_be_written_to() -> None:
    torch = pytest.importorskip("torch")
    whole = torch.arange(MIB, dtype=torch.float32).reshape(1024, 1024)
    for tensor in (
        whole,
        whole.to(torch.bfloat16),
        whole[10:20, ::3],
        whole.t(),
        whole > 5,
        whole.clone().requires_grad_(),
        torch.nn.Parameter(whole.clone()),
        whole.to(torch.complex64),
        torch.empty(0, 5),
        torch.tensor(3.5),
    ):
        for got in (ray.get(ray.put(tensor)), ray.get(same.remote(tensor))):
            assert torch.equal(got, tensor) and type(got) is type(tensor)
            assert got.dtype == tensor.dtype and got.requires_grad == tensor.requires_grad
            assert got.stride() == tensor.stride()
            got.detach().zero_()
    assert float(whole[0, 1]) == 1
    got = ray.get(ray.put(whole))
    got.resize_(2048, 1024)
    whole.resize_(2048, 1024)


def test_a_module_of_torch_runs_as_before() -> None:
    torch = pytest.importorskip("torch")
    module = torch.nn.Sequential(torch.nn.Linear(300, 300), torch.nn.ReLU())
    given = torch.randn(4, 300)
    assert torch.equal(ray.get(ray.put(module))(given), module(given))


def test_the_memory_of_a_tensor_made_while_pickling_lives_long_enough() -> None:
    torch = pytest.importorskip("torch")

    class Made:
        def __reduce__(self) -> Any:
            return list, ([torch.full((MIB,), float(i)) for i in range(3)],)

    assert [float(part.sum()) for part in ray.get(ray.put(Made()))] == [0, MIB, 2 * MIB]


ZERO_COPY = """
import mobula as ray, torch
ray.init(num_cpus=1, object_store_memory=100 << 20)
ref = ray.put(torch.arange(1 << 20))
one, two = ray.get(ref), ray.get(ref)
assert one.data_ptr() == two.data_ptr()
row = one[5:8]
del ref, one, two
others = [ray.put(torch.zeros(1 << 20)) for _ in range(20)]
assert row.tolist() == [5, 6, 7]
"""


def test_tensors_share_memory_if_the_user_wants_it() -> None:
    pytest.importorskip("torch")
    environment = os.environ | {"MOBULA_ENABLE_ZERO_COPY_TORCH_TENSORS": "1"}
    subprocess.run([sys.executable, "-c", ZERO_COPY], check=True, env=environment, timeout=60)


def test_a_slice_of_arrow_data_takes_the_slice_along_only() -> None:
    arrow = pytest.importorskip("pyarrow")
    table = arrow.table({"a": range(200_000), "s": [f"text {i}" for i in range(200_000)]})
    part = table.slice(1000, 50)
    for value in (
        part,
        part.to_batches()[0],
        part.column("s"),
        part.column("s").chunk(0),
        part.column("s").dictionary_encode().slice(3, 9),
        table.slice(0, 0),
    ):
        for got in (ray.get(ray.put(value)), ray.get(same.remote(value))):
            assert type(got) is type(value) and got.equals(value)
            assert got.get_total_buffer_size() < 64 * 1024
    assert ray.get(ray.put(table)).equals(table)
    assert ray.get(ray.put(table.schema)).equals(table.schema)
