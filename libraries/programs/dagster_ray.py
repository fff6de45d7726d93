"""Assets whose values lie in Ray's store, with the IO manager of dagster-ray."""

import os
import tempfile

import dagster as dg
import ray
from _checks import check, done
from dagster_ray import LocalRay, RayIOManager

os.environ["DAGSTER_HOME"] = tempfile.mkdtemp()


@ray.remote
def square(x):
    return x * x


@dg.asset(io_manager_key="ray_io_manager")
def numbers() -> list[int]:
    return list(range(20))


@dg.asset(io_manager_key="ray_io_manager")
def squares(numbers: list[int]) -> list[int]:
    return ray.get([square.remote(x) for x in numbers])


@dg.asset(io_manager_key="ray_io_manager")
def total(squares: list[int]) -> int:
    return sum(squares)


parts = dg.StaticPartitionsDefinition(["a", "b"])


@dg.asset(partitions_def=parts, io_manager_key="ray_io_manager")
def letters(context: dg.AssetExecutionContext) -> str:
    return context.partition_key * 3


@dg.asset(partitions_def=parts, io_manager_key="ray_io_manager")
def words(letters: str) -> str:
    return letters.upper()


@dg.asset
def counted(ray_cluster: LocalRay) -> int:
    return ray.get(square.remote(12))


@dg.op
def emit():
    return 3


@dg.op
def triple(x):
    return x * 3


@dg.job(resource_defs={"io_manager": RayIOManager()})
def ops():
    triple(emit())


ray.init(num_cpus=2)
resources = {"ray_io_manager": RayIOManager()}
made = dg.materialize([numbers, squares, total], resources=resources)
check("assets are made", made.success)
check("a value comes back from the store", made.output_for_node("total") == 2470)
for key in ("a", "b"):
    one = dg.materialize([letters, words], resources=resources, partition_key=key)
    check(f"partition {key}", one.output_for_node("words") == key.upper() * 3)
done_ops = ops.execute_in_process()
check("ops hand over values", done_ops.output_for_node("triple") == 9)
cluster = LocalRay(ray_init_options={"num_cpus": 2, "ignore_reinit_error": True})
check(
    "its resource of a local cluster",
    lambda: dg.materialize([counted], resources={"ray_cluster": cluster}).success,
)
names = {one["name"] for one in ray.util.list_named_actors(all_namespaces=True)}
check("an actor keeps the refs", "DagsterRayObjectMap" in names)
done()
