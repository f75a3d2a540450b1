"""Every row of the table: the same work here and the plain way, in one run, turn by turn.

    python -m benchmarks [--quick] [--repeats 5] [--only training-sbi,draws] [--json FILE]

Prints the table of `benchmarks/README.md` and writes the numbers, all times included, as JSON.
`--quick` does a small piece of every work once: it shows that all rows run, and nothing else.
"""

import argparse
import json
import os
import platform
import statistics
import sys
from pathlib import Path
from typing import Any

from benchmarks.rows import ROWS, measure


def machine() -> dict[str, Any]:
    """Return what the numbers were measured on."""
    name = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.processor(),
    )
    return {"cpu": name, "cores": os.cpu_count(), "load": os.getloadavg()[0]}


def line(*cells: str) -> str:
    """Return a line of the table."""
    return f"| {' | '.join(cells)} |\n"


def main() -> None:
    """Run the rows."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a small piece of every work, once")
    parser.add_argument("--repeats", type=int, default=5, help="pairs of a row")
    parser.add_argument("--only", default="", help="names of rows, with commas")
    parser.add_argument("--json", type=Path, default=Path("benchmarks.json"))
    options = parser.parse_args()
    names = [row.name for row in ROWS]
    chosen = options.only.split(",") if options.only else names
    if unknown := sorted(set(chosen) - set(names)):
        parser.error(f"no row {', '.join(unknown)}; there are: {', '.join(names)}")
    found: dict[str, Any] = {"machine": machine(), "quick": options.quick, "rows": {}}
    sys.stdout.write(line("row", "work", "here", "plain way", "", "times", "limited by"))
    sys.stdout.write(line(*["---"] * 7))
    for row in ROWS:
        if row.name not in chosen:
            continue
        numbers = measure(row, 1 if options.quick else options.repeats, options.quick)
        found["rows"][row.name] = {"work": row.work, "peer": row.peer} | dict(numbers)
        ours, plain = (statistics.median(numbers[way]) for way in ("ours", "plain"))
        cells = (f"{ours:.3g} s", row.peer, f"{plain:.3g} s", f"{numbers['ratio']:.2f}")
        sys.stdout.write(line(row.name, row.work, *cells, row.limit))
        sys.stdout.flush()
        options.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
