"""An older name of `mobula._common.test_utils`."""

from mobula._common.test_utils import (
    Semaphore,
    SignalActor,
    async_wait_for_condition,
    wait_for_condition,
)

__all__ = ["Semaphore", "SignalActor", "async_wait_for_condition", "wait_for_condition"]
