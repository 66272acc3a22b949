"""Reads every `.npy` file that the driver kept with NumPy: shape and sum must be those in the text file beside it."""

import pathlib
import sys

import numpy

folder = pathlib.Path(sys.argv[1])
failed = []
paths = sorted(folder.glob("*.npy"))
for path in paths:
    total, *shape = path.with_suffix(".txt").read_text().split()
    try:
        array = numpy.load(path)
        assert array.shape == tuple(map(int, shape)), f"shape {array.shape}, not {shape}"
        assert array.sum() == float(total), f"sum {array.sum()}, not {total}"
    except Exception as e:
        failed.append(path.name)
        print(f"{path}: {e}")
print(f"numpy: {len(paths) - len(failed)} files read, {len(failed)} failed")
sys.exit(bool(failed) or not paths)
