"""What the iterables of a pool's imap may do while they are read."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from mobula.util.multiprocessing import Pool

pytestmark = [pytest.mark.mobula_only, pytest.mark.usefixtures("shared_session")]


def test_an_iterable_may_wait_for_others_who_use_the_pool() -> None:
    with Pool(2) as pool:
        results: list[int] = []

        def values() -> Iterator[int]:
            for number in range(-20, 0):
                thread = threading.Thread(target=lambda: results.append(pool.apply(abs, (1,))))
                thread.start()
                thread.join(60)
                assert not thread.is_alive()
                yield number

        assert list(pool.imap(abs, values())) == list(range(20, 0, -1))
        assert results == [1] * 20
