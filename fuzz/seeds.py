#!/usr/bin/env python3
"""Writes the .npy files that NumPy was observed to read and write, as seeds:

    python3 fuzz/seeds.py FOLDER
"""

import base64
import json
import pathlib
import sys

CASES = pathlib.Path(__file__).resolve().parent.parent / "tests/data/conformance.json"

folder = pathlib.Path(sys.argv[1])
folder.mkdir(parents=True, exist_ok=True)
for case in json.loads(CASES.read_text()):
    if case["call"]["api"] != "open_memmap":
        continue
    before, after = (case["initial_file"] or {}).get("data"), case["expect"].get("file_b64_after")
    for when, data in (("before", before), ("after", after)):
        if data:
            (folder / f"{case['id']}-{when}").write_bytes(base64.b64decode(data))
