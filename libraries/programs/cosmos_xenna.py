"""The pipelines of cosmos-xenna's own tests, in a session that has the CPUs which they ask for."""

import ray
from _checks import check, done
from cosmos_xenna.pipelines.v1 import (
    test_batching,
    test_dynamic_splitting,
    test_empty_return,
    test_empty_returns,
    test_setup_on_node,
)

# More than there are: a pipeline does not start without what its stages name.
ray.init(num_cpus=8, include_dashboard=True)
for test in (
    test_batching.test_batching,
    test_dynamic_splitting.test_fanout,
    test_dynamic_splitting.test_no_fan,
    test_dynamic_splitting.test_fanin,
    test_empty_return.test_empty_return,
    test_empty_returns.test_empty_returns,
    test_setup_on_node.test_batching,
):
    module = test.__module__.rpartition(".")[2]
    check(f"{module}, {test.__name__}", lambda test=test: test() is None)
done()
