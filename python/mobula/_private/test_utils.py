"""An older name of `mobula._common.test_utils`."""

from mobula._common.test_utils import Semaphore, SignalActor, wait_for_condition

__all__ = ["Semaphore", "SignalActor", "wait_for_condition"]
