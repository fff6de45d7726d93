"""ezRay: functions and remote functions over a table of arguments."""

import ray
from _checks import check, done
from ezRay import MultiCoreExecutionTool


def add(first: int, second: int) -> int:
    return first + second


@ray.remote
def subtract(row: dict[str, int]) -> int:
    """Remote functions are given a row, not its cells."""
    return row["first"] - row["second"]


instance = {"num_cpus": 2, "num_gpus": 0, "address": None}
tool = MultiCoreExecutionTool(instance_metadata=instance)
check("Ray was started", ray.is_initialized())

table = {key: {"first": key, "second": 10 * key} for key in range(1, 9)}
tool.update_data(table)
tool.run(add)
results = tool.get_results()
check(
    "a plain function runs for each key",
    {k: v["result"] for k, v in results.items()} == {k: 11 * k for k in table},
)
tool.next()
tool.run(subtract)
second = tool.get_results()
check(
    "a remote function as well",
    {k: v["result"] for k, v in second.items()} == {k: -9 * k for k in table},
)
archive = tool.get_archive()
kept = [entry for entry in archive.values() if entry]
check(
    "earlier results are in the archive",
    any({k: v["result"] for k, v in entry.items()} == {k: 11 * k for k in table} for entry in kept),
)
tool.shutdown()
check("it ends what it started", not ray.is_initialized())
done()
