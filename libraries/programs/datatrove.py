"""A pipeline of readers, filters and writers over ranks, run by RayPipelineExecutor."""

import gzip
import json
import tempfile
from pathlib import Path

import ray
from _checks import check, done
from datatrove.executor import RayPipelineExecutor
from datatrove.pipeline.filters import LambdaFilter
from datatrove.pipeline.readers import JsonlReader
from datatrove.pipeline.writers import JsonlWriter

RANKS = 4
ray.init(num_cpus=2, _memory=8 << 30)
root = Path(tempfile.mkdtemp())
source, target, logs = root / "source", root / "target", root / "logs"
source.mkdir()
for number in range(RANKS):
    lines = [{"text": f"document {number} {i}", "id": f"{number}/{i}"} for i in range(50)]
    (source / f"{number}.jsonl").write_text("\n".join(json.dumps(line) for line in lines))


def upper(data, rank=0, world_size=1):
    for document in data:
        document.text = document.text.upper()
        yield document


def executor(logging_dir, *steps, **options):
    return RayPipelineExecutor(
        pipeline=[JsonlReader(str(source)), *steps],
        tasks=RANKS,
        logging_dir=str(logging_dir),
        mem_per_cpu_gb=0.1,
        **options,
    )


def is_even(document):
    return int(document.id.split("/")[1]) % 2 == 0


executor(logs, LambdaFilter(is_even), upper, JsonlWriter(str(target)), workers=2).run()
written = []
for path in sorted(target.glob("*.jsonl.gz")):
    written += [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]
check("each rank wrote a file", len(list(target.glob("*.jsonl.gz"))) == RANKS)
check("the filter dropped every second document", len(written) == RANKS * 25)
check("a function is a step", all(one["text"].startswith("DOCUMENT") for one in written))
check("all ranks are marked as completed", len(list((logs / "completions").iterdir())) == RANKS)
stats = json.loads((logs / "stats.json").read_text())
check(
    "the statistics of all ranks are added", stats[0]["stats"]["documents"]["total"] == RANKS * 50
)

before = {path: path.stat().st_mtime_ns for path in target.iterdir()}
executor(logs, LambdaFilter(is_even), upper, JsonlWriter(str(target)), workers=2).run()
check("what is completed is not run again", before == {p: p.stat().st_mtime_ns for p in before})

together = root / "together"
executor(together, JsonlWriter(str(root / "copies")), tasks_per_job=2, workers=1).run()
check("two ranks in one job", len(list((together / "completions").iterdir())) == RANKS)


def breaks(data, rank=0, world_size=1):
    if rank == 1:
        raise ValueError("rank 1 breaks")
    yield from data


broken = root / "broken"
try:
    executor(broken, breaks, workers=2).run()
except Exception as error:
    print("raised", type(error).__name__)
completed = sorted(path.name for path in (broken / "completions").iterdir())
check("the rank that fails is not completed", "00001" not in completed)
done()
