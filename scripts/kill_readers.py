#!/usr/bin/env python3
"""NumPy as a live reader: `np.load` and `open_memmap` in a loop, while Rust appends to a `.npy` file and is killed.

A reader may meet a header that is just being written, and then gets an error. The script counts and prints how often. It
fails if a reader sees a wrong element or fewer rows than before, or if a kill loses rows.

    scripts/kill_readers.py [KILLS [PROGRAM]]     KILLS: 200 by default. PROGRAM: the test binary `durability`; built if not given
"""

import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile
import threading

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parent.parent
SEED = 5
COLUMNS = 7
TEST = "killed_writers::a_killed_append_to_npy_leaves_every_row_right"
# What the test's child process goes by: see tests/support/process.rs and tests/durability/killed_writers.rs.
CHILD, FILE, CHILD_SEED = "NDARRAY_MMAP_CHILD", "NDARRAY_MMAP_KILL_FILE", "NDARRAY_MMAP_KILL_SEED"


def build():
    command = ["cargo", "test", "--profile", "gate", "--all-features", "--test", "durability", "--no-run", "--message-format=json"]
    output = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout
    messages = map(json.loads, output.splitlines())
    return [m["executable"] for m in messages if m.get("executable") and m["target"]["name"] == "durability"][-1]


def expected(start, end):
    return (np.arange(start + 1, end + 1, dtype="u8") * 1000)[:, None] + np.arange(COLUMNS, dtype="u8")


class Reader:
    """Opens the file again and again, in several ways by turns."""

    WAYS = (np.load, *[lambda path: np.load(path, mmap_mode="r"), lambda path: np.lib.format.open_memmap(path, "r")] * 5)

    def __init__(self, path):
        self.path, self.stop = path, threading.Event()
        self.openings, self.rows, self.errors, self.wrong = 0, 0, {}, []

    def look(self, open_array, complete=False):
        self.openings += 1
        try:
            array = open_array(self.path)
        except (ValueError, SyntaxError, EOFError, OSError) as e:
            message = f"{type(e).__name__}: {str(e)[:90]}"
            self.errors[message] = self.errors.get(message, 0) + 1
            return
        count = len(array)
        # Rows that were seen before are compared again only at the end, which leaves time for more openings.
        start = 0 if complete else max(0, min(count, self.rows) - 1)
        right = array.shape[1:] == (COLUMNS,) and (array[start:] == expected(start, count)).all()
        if count < self.rows or not right:
            self.wrong.append(f"{array.shape}, of which {self.rows} rows were known")
        self.rows = max(count, self.rows)

    def run(self):
        while not self.stop.is_set():
            for open_array in self.WAYS:
                self.look(open_array)


def kill_one(program, path, run, rng):
    environment = dict(os.environ, **{CHILD: TEST, FILE: path, CHILD_SEED: str(run)})
    command = [program, TEST, "--exact", "--nocapture"]
    # A short pipe, so that the child does not run far ahead of what is read from it.
    child = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, pipesize=4096)
    did = 0
    for _ in range(rng.randrange(1, 4000)):
        did = int(child.stderr.readline().split()[1])
    child.kill()
    for line in child.stderr:
        did = int(line.split()[1]) if line.endswith(b"\n") else did
    child.wait()
    return did


def main():
    kills = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    program = sys.argv[2] if len(sys.argv) > 2 else build()
    rng = random.Random(SEED)
    wrong, openings, errors, rows = [], 0, {}, 0
    with tempfile.TemporaryDirectory() as folder:
        for run in range(kills):
            # Four kills for each file, so that appending goes on where another process was killed.
            path = f"{folder}/{run // 4}.npy"
            if not os.path.exists(path):
                np.save(path, expected(0, 0))
            reader = Reader(path)
            thread = threading.Thread(target=reader.run)
            thread.start()
            did = kill_one(program, path, run, rng)
            reader.stop.set()
            thread.join()
            left = Reader(path)
            left.rows = did
            left.look(np.load, complete=True)
            wrong += reader.wrong + left.wrong + [f"after the kill: {e}" for e in left.errors]
            openings, rows = openings + reader.openings, rows + left.rows
            for message, count in reader.errors.items():
                errors[message] = errors.get(message, 0) + count
    torn = sum(errors.values())
    print(f"NumPy {np.__version__}: {kills} kills, {openings} openings beside a writer of {rows} rows, {len(wrong)} wrong")
    print(f"openings that met a header being written, and said so: {torn} ({torn / max(openings, 1):.1e} of them)")
    for message, count in sorted(errors.items()):
        print(f"  {count} x {message}")
    for what in wrong:
        print(f"WRONG: {what}")
    return 1 if wrong or openings < kills else 0


if __name__ == "__main__":
    sys.exit(main())
