"""Measures one Python contestant: `peers.py FOLDER BEFORE OPEN PASS again|once`.

BEFORE, OPEN and PASS are statements; the clock starts at OPEN. PASS is the body of a function, and returns what it computed. Prints what the processes in Rust
print (see measure.rs): the seconds of OPEN and the first PASS, the median of more passes, MiB of memory, and a value that
stands for the result.
"""

import statistics
import sys
import textwrap
import time

import numpy as np


def m(name, mode="r", shape=None, order="C"):
    """Maps a file of the folder. The ending of its name is its element type."""
    return np.memmap(folder + "/" + name, dtype=name.split(".")[-1], mode=mode, shape=shape, order=order)


def blocked(work, *arrays):
    """Calls `work` with the same block of all arrays, so that what it computes stays in the processor's cache."""
    for at in range(0, len(arrays[0]), 1 << 16):
        work(*(a[at : at + (1 << 16)] for a in arrays))


def value(result):
    """The same number that value.rs computes from the same result."""
    if result is None:
        return 0.0
    if isinstance(result, tuple):
        return sum(value(part) * (n + 1) for n, part in enumerate(result))
    flat = np.asarray(result).reshape(-1)
    flat = flat[:: max(1, flat.size // 1_000_000)]
    if flat.dtype.kind == "c":
        flat = flat.real + 3 * flat.imag
    return float((flat.astype("f8") * (np.arange(flat.size) % 1021 + 1)).sum())


def memory(key):
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) / 1024 for line in status if line.startswith(key))


def measure(opened, passed, again):
    names = globals()
    exec("def work():\n" + textwrap.indent(passed, "    "), names)
    work = names["work"]
    with open("/proc/self/clear_refs", "w") as peak:
        peak.write("5")
    resident = memory("VmRSS:")
    start = time.perf_counter()
    exec(opened, names)
    result = work()
    fresh = time.perf_counter() - start
    peak = memory("VmHWM:") - resident
    first = value(result)
    result = None
    batch = int(min(max(2e-3 / fresh, 1), 1000))
    times = []
    for _ in range(0 if not again else 3 if batch == 1 else 15):
        start = time.perf_counter()
        for _ in range(batch):
            result = work()
        times.append((time.perf_counter() - start) / batch)
        result = None
    if hasattr(names.get("f"), "close"):
        names["f"].close()
    print(fresh, statistics.median(times) if times else "nan", peak, first)


if sys.argv[1] == "--versions":
    import importlib.metadata as packages

    names = ("numpy", "numexpr", "npy-append-array")
    print("Python " + sys.version.split()[0], *(name + " " + packages.version(name) for name in names), sep=", ")
else:
    folder, before, opened, passed, again = sys.argv[1:]
    if "ne." in passed:
        import numexpr as ne
    if "NpyAppendArray" in opened:
        from npy_append_array import NpyAppendArray
    exec(before)
    measure(opened, passed, again == "again")
