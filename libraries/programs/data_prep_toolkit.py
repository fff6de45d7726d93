"""A transform of tables over many files, by the launcher, actors and statistics of the Ray runtime.

The launcher itself sleeps for ten seconds at its end.
"""

import json
import sys
import tempfile
from argparse import ArgumentParser, Namespace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from _checks import check, done
from data_processing.transform import AbstractTableTransform, TransformConfiguration
from data_processing.utils import ParamsUtils
from data_processing_ray.runtime.ray import RayTransformLauncher, RayTransformRuntimeConfiguration

FILES, ROWS = 6, 40
root = Path(tempfile.mkdtemp())
source, target = root / "source", root / "target"
source.mkdir()
target.mkdir()
for number in range(FILES):
    values = list(range(number * ROWS, (number + 1) * ROWS))
    table = pa.table({"contents": [f"text {value}" for value in values], "value": values})
    pq.write_table(table, source / f"{number}.parquet")


class Smaller(AbstractTableTransform):
    """Keeps the rows whose value divides."""

    def __init__(self, config):
        super().__init__(config)
        self.divisor = config["divisor"]

    def transform(self, table, file_name=None):
        kept = [value % self.divisor == 0 for value in table.column("value").to_pylist()]
        return [table.filter(pa.array(kept))], {"kept": sum(kept)}


class SmallerConfiguration(TransformConfiguration):
    def __init__(self):
        super().__init__(name="smaller", transform_class=Smaller)

    def add_input_params(self, parser: ArgumentParser) -> None:
        parser.add_argument("--smaller_divisor", type=int, default=2)

    def apply_input_params(self, args: Namespace) -> bool:
        self.params = {"divisor": args.smaller_divisor}
        return args.smaller_divisor > 0


if __name__ == "__main__":
    sys.argv = ParamsUtils.dict_to_req(
        {
            "run_locally": True,
            "runtime_num_workers": 2,
            "runtime_worker_options": {"num_cpus": 0.3},
            "data_local_config": {"input_folder": str(source), "output_folder": str(target)},
            "smaller_divisor": 4,
        }
    )
    launcher = RayTransformLauncher(RayTransformRuntimeConfiguration(SmallerConfiguration()))
    check("the launcher succeeds", launcher.launch() == 0)
    tables = [pq.read_table(path) for path in sorted(target.glob("*.parquet"))]
    check("each file was written", len(tables) == FILES)
    found = sorted(value for table in tables for value in table.column("value").to_pylist())
    check("rows were kept", found == list(range(0, FILES * ROWS, 4)))
    metadata = json.loads((target / "metadata.json").read_text())
    statistics = metadata["job_output_stats"]
    check("actors count what they did", statistics["kept"] == FILES * ROWS // 4)
    check("all files are counted", statistics["source_files"] == FILES)
    done()
