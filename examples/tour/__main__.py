"""Runs the four programs of the tour, then prints the table and draws the picture.

    python examples/tour [--quick] [--out DIR]

The folder receives tour.json (the table), timeline.html and timeline.png (who ran
what when), and for each program its measurements and a trace for Perfetto.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

if __package__:  # python -m examples.tour
    from . import picture
else:  # python examples/tour
    import picture

Record = dict[str, Any]

HERE = Path(__file__).resolve().parent
PROGRAMS = ("fibonacci", "monte_carlo_pi", "images", "batch_inference")
TABLE_KEYS = (
    "program",
    "tasks",
    "serial_s",
    "parallel_s",
    "speedup",
    "speedup_of_each_round",
    "results_agree",
    "others_share",
    "init_s",
    "warm_up_s",
)
PAID_ONCE = ("init_s", "warm_up_s")
OTHERS_SHARE_QUIET = 0.1


def default_out() -> Path:
    """The folder `out` beside the programs, named from here where that is shorter."""
    out, here = HERE / "out", Path.cwd()
    return out.relative_to(here) if out.is_relative_to(here) else out


def run_program(program: str, out: Path, quick: bool) -> Record:
    """Runs a program as its own process, as a user would, and returns its measurements."""
    measurements = out / f"{program}.json"
    measurements.unlink(missing_ok=True)
    command = [sys.executable, str(HERE / f"{program}.py"), "--json", str(measurements)]
    command += ["--trace", str(out / f"{program}.trace.json")]
    command += ["--quick"] if quick else []
    status = subprocess.run(command, check=False).returncode
    if not measurements.exists():
        sys.exit(f"{program} failed with status {status}")
    record: Record = json.loads(measurements.read_text())
    return record


def table(records: list[Record]) -> str:
    """The rows as text, in columns as wide as what stands in them: within 80 in all."""
    heading = ("program", "tasks", "serial", "parallel", "speed-up", "rounds", "results", "others")
    rows = [
        (
            record["program"],
            str(record["tasks"]),
            f"{record['serial_s']:.2f} s",
            f"{record['parallel_s']:.2f} s",
            f"{record['speedup']:.2f} x",
            "{:.2f}-{:.2f}".format(*lowest_and_highest(record)),
            "agree" if record["results_agree"] else "DIFFER",
            f"{record['others_share']:.0%}",
        )
        for record in records
    ]
    widths = [max(map(len, column)) for column in zip(heading, *rows, strict=True)]

    def text(row: tuple[str, ...]) -> str:
        first, *others = (
            cell.ljust(width) if index == 0 else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        return "  ".join([first, *others])

    rule = "─" * len(text(heading))
    return "\n".join([text(heading), rule, *map(text, rows), rule])


def lowest_and_highest(record: Record) -> tuple[float, float]:
    return min(record["speedup_of_each_round"]), max(record["speedup_of_each_round"])


def notes(records: list[Record], quick: bool) -> str:
    """How to read the table, and what to doubt in it."""
    cpus = records[0]["cpus"]
    lines = [
        f"speed-up: serial by parallel, middle round; on {cpus:g} quiet CPUs at most {cpus:g} x.",
        "rounds: the lowest and the highest speed-up; the two runs took turns.",
        "others: the part of all CPUs that other programs used meanwhile.",
        "Paid once, not in the times: init {}, workers {}.".format(
            *(
                f"{min(times):.1f} to {max(times):.1f} s"
                for times in ([record[key] for record in records] for key in PAID_ONCE)
            )
        ),
        "docs/tour.md tells why Fibonacci numbers gain least.",
    ]
    if quick:
        lines.append("The inputs are the small ones: fine to try the programs, too short to time.")
    busiest = max(records, key=lambda record: record["others_share"])
    if busiest["others_share"] > OTHERS_SHARE_QUIET:
        lines += [
            f"OTHERS USE THE CPUS: up to {busiest['others_share']:.0%} ({busiest['program']}). "
            "Such times say little:",
            "run this again when the machine is quiet.",
        ]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small inputs: seconds in all")
    parser.add_argument(
        "--out", type=Path, default=default_out(), help="where the results go (%(default)s)"
    )
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)

    records = []
    for program in PROGRAMS:
        records.append(run_program(program, options.out, options.quick))
        print(flush=True)

    print(table(records))
    print(notes(records, options.quick))
    print()
    (options.out / "tour.json").write_text(
        json.dumps([{key: record[key] for key in TABLE_KEYS} for record in records], indent=1)
        + "\n"
    )
    heading = (
        f"Four programs on {records[0]['cpus']:g} CPUs, each as a plain loop and as tasks"
        f"{' (quick sizes)' if options.quick else ''}. One block is one task; times are in seconds."
    )
    drawing = picture.draw(records, heading)
    picture.write_html(drawing, options.out / "timeline.html")
    picture.write_png(drawing, options.out / "timeline.png")
    print(f"Who ran what when: {options.out / 'timeline.html'} (and .png)")
    print(f"The table as JSON: {options.out / 'tour.json'}")
    return 0 if all(record["results_agree"] for record in records) else 1


if __name__ == "__main__":
    sys.exit(main())
