"""Times expressions for the benches: reads lines `repeats <TAB> path <TAB> expression`, and prints the seconds."""

import sys
import time

try:
    import numpy as np
except ImportError:
    print("none", flush=True)
    sys.exit()

print("numpy", np.__version__, flush=True)
kept = {}
for line in sys.stdin:
    repeats, path, expression = line.rstrip("\n").split("\t")
    work = eval("lambda: " + expression, {"np": np, "path": path, "kept": kept})
    start = time.perf_counter()
    for _ in range(int(repeats)):
        work()
    print(time.perf_counter() - start, flush=True)
