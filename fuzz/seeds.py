#!/usr/bin/env python3
"""Writes the .npy files that NumPy was observed to read and write, and archives of some of them, as seeds:

    python3 fuzz/seeds.py FOLDER
"""

import base64
import io
import json
import pathlib
import sys
import zipfile

CASES = pathlib.Path(__file__).resolve().parent.parent / "tests/data/conformance.json"

folder = pathlib.Path(sys.argv[1])
folder.mkdir(parents=True, exist_ok=True)
files = []
for case in json.loads(CASES.read_text()):
    if case["call"]["api"] != "open_memmap":
        continue
    before, after = (case["initial_file"] or {}).get("data"), case["expect"].get("file_b64_after")
    for when, data in (("before", before), ("after", after)):
        if data:
            files.append((f"{case['id']}-{when}", base64.b64decode(data)))
for name, contents in files:
    (folder / name).write_bytes(contents)


class Stream(io.RawIOBase):
    """Cannot go back, so that sizes and checksums are written behind the data."""

    def __init__(self):
        self.written = b""

    def writable(self):
        return True

    def write(self, data):
        self.written += bytes(data)
        return len(data)


small = [contents for _, contents in files if len(contents) < 400]
for number, contents in enumerate(small[:: max(1, len(small) // 40)]):
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        for long in (False, True):
            stream = Stream()
            with zipfile.ZipFile(stream if number % 3 == 0 else io.BytesIO(), "w", method) as archive:
                for name in ("x", "folder/\u00e9")[: 1 + number % 2]:
                    with archive.open(name + ".npy", "w", force_zip64=long) as member:
                        member.write(contents)
                archive.comment = b"comment" * (number % 5 == 0)
                made = archive.fp
            made = stream.written or made.getvalue()
            (folder / f"npz-{number}-{method}-{long}").write_bytes(b"before" * (number % 7 == 0) + made)
