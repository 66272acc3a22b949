"""Compares how many instructions small passes take with what they took before: unlike times, these hardly vary.

    python3 instructions/compare.py PROGRAM            PROGRAM is built from this folder with `--release`
    python3 instructions/compare.py PROGRAM --write    makes the table anew

Fails if one takes more than 5 % more than `counts.json` says. Another compiler or C library may do things otherwise: if the
table was made with others, the limit is 15 %.
"""

import json
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

TABLE = Path(__file__).resolve().parent / "counts.json"
PASSES = 10


def run(program: str, kernel: str, passes: int) -> tuple[int, str]:
    """How many instructions the whole program takes, and which vectors it found."""
    command = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", program, kernel, str(passes)]
    # The rest of the environment would be counted: the loader reads it. One thread: idle ones count while they wait.
    environment = {"PATH": os.environ["PATH"], "RAYON_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    found = re.search(r"Collected : (\d+)", done.stderr)
    if done.returncode != 0 or not found:
        sys.exit(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
    return int(found[1]), done.stdout.strip()


def count(program: str, kernels: list[str]) -> tuple[dict[str, int], str]:
    """Instructions per pass, without those that start the program, fill its arrays, and warm up."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        few = [pool.submit(run, program, kernel, 1) for kernel in kernels]
        many = [pool.submit(run, program, kernel, 1 + PASSES) for kernel in kernels]
        counts = [(b.result()[0] - a.result()[0]) // PASSES for a, b in zip(few, many)]
        return dict(zip(kernels, counts)), few[0].result()[1]


def output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def main() -> None:
    program, *options = sys.argv[1:]
    counts, vectors = count(program, output(program).split())
    made_with = {"rustc": output("rustc", "--version"), "libc": output("getconf", "GNU_LIBC_VERSION"), "vectors": vectors}
    if options == ["--write"]:
        TABLE.write_text(json.dumps({"made with": made_with, "instructions": counts}, indent=2) + "\n")
        return
    table = json.loads(TABLE.read_text())
    if table["made with"]["vectors"] != vectors:
        print(f"NOT COMPARED: the table is for {table['made with']['vectors']}, this is {vectors}")
        return
    limit = 5
    if table["made with"] != made_with:
        limit = 15
        print(f"the table was made with {table['made with']}, this is {made_with}: the limit is {limit} %")

    bad, better = [], []
    for kernel in sorted(counts.keys() | table["instructions"].keys()):
        now, before = counts.get(kernel), table["instructions"].get(kernel)
        if now is None or before is None:
            bad.append(f"{kernel} is not in the {'program' if now is None else 'table'}")
            continue
        change = (now / before - 1) * 100
        print(f"{kernel:20} {now:>9} {change:+6.1f} %")
        if change > limit:
            bad.append(f"{kernel} takes {now} instructions, {change:.1f} % more than {before}")
        elif change < -limit:
            better.append(kernel)
    renew = f"python3 instructions/compare.py {program} --write"
    if better:
        print(f"fewer than the table says, which should be renewed ({renew}): {', '.join(better)}")
    if bad:
        sys.exit("\n".join([*bad, f"if that is as it should be, renew the table: {renew}"]))


if __name__ == "__main__":
    main()
