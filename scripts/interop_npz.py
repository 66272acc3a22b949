#!/usr/bin/env python3
"""Compares how this crate and a real NumPy read .npz archives: those that NumPy writes, other forms, and damaged ones.

    python3 scripts/interop_npz.py [PEER]

The rest is as in interop.py. Fails if anything differs, and ends by printing how much was compared.
"""

import io
import pathlib
import random
import sys
import tempfile
import warnings
import zipfile

import numpy as np
from numpy.lib import format as npy
from numpy.lib.npyio import NpzFile

from interop import DTYPES, SEED, SHAPES, Interop, Kind, Peer, build_peer, significant

NAMES = ["x", "layer1/weights", "größe", "日本/語", "a b", "x.npy", "UPPER.NPY", "é", ".", "-"]
METHODS = [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]
DAMAGED = 4000


class Stream(io.RawIOBase):
    """Cannot go back, so that Python writes sizes and checksums behind the data."""

    def __init__(self):
        self.written = b""

    def writable(self):
        return True

    def write(self, data):
        self.written += bytes(data)
        return len(data)


class NpzInterop(Interop):
    def path(self, name="data.npz"):
        return super().path(name)

    def write(self, archive):
        self.remove()
        pathlib.Path(self.path()).write_bytes(archive)

    def open_npz(self, kind, mode, member, **more):
        layout = {"dtype": kind.description, "shape": None, "order": "C", "offset": 0}
        return self.peer.ask("open", "a", path=self.path(), mode=mode, member=member, **layout, **more)

    def is_read_as_numpy_reads_it(self, where, kinds):
        """Every array of the archive, in every mode that it allows."""
        numpys = NpzFile(self.path())
        seen = self.peer.ask("archive", path=self.path())
        self.check(where, "names", [member["name"] for member in seen.get("members", [])], numpys.files)
        infos = dict(zip(numpys.files, numpys.zip.infolist()))
        for name, kind in zip(numpys.files, kinds):
            array, stored = numpys[name], infos[name].compress_type == zipfile.ZIP_STORED
            for mode in ("load", "r", "c"):
                for unaligned in (False, True) if kind.has_twin else (False,):
                    here = f"{where}, {name}, {mode}{', unaligned' * unaligned}"
                    opened = self.open_npz(kind, mode, name, unaligned=unaligned)
                    if mode != "load" and not stored:
                        self.check(here, "answer", opened.get("error"), "Unsupported")
                        continue
                    if mode != "load" and not unaligned and opened.get("error") == "Misaligned" and kind.alignment > 1:
                        self.check(here, "advice", "`load_npz`" in opened["message"], True)
                        continue
                    if "error" in opened:
                        self.check(here, "answer", opened, "an array")
                        continue
                    self.check(here, "shape", opened["shape"], list(array.shape))
                    if mode != "load":
                        strides = significant(opened["strides"], array.shape)
                        self.check(here, "strides", strides, significant(array.strides, array.shape))
                    self.check(here, "values", self.values(kind), kind.encode(array))
                    self.peer.ask("close", "a")

    def what_savez_writes(self):
        """Every element type, shape and order, under names of every length modulo 8: all alignments."""
        for kind in map(Kind, DTYPES):
            for save in (np.savez, np.savez_compressed):
                arrays = {}
                for number, shape in enumerate(SHAPES):
                    for order in "CF" if len(shape) > 1 else "C":
                        name = "n" * (number % 8) + f"{number}{order}"
                        arrays[name] = np.asarray(kind.random(self.rng, shape), order=order)
                buffer = io.BytesIO()
                save(buffer, **arrays)
                self.write(buffer.getvalue())
                where = f"{save.__name__} of {kind.description}"
                self.is_read_as_numpy_reads_it(where, [kind] * len(arrays))

    def every_form_of_archive(self):
        kind = Kind("<f8")
        for method in METHODS:
            for long in (False, True):
                for stream in (False, True):
                    for prefix in (b"", b"#!/bin/sh\n"):
                        for comment in (b"", b"a comment", b"c" * 65535):
                            made = self.archive(kind, NAMES, method, long, stream, comment)
                            self.write(prefix + made)
                            where = f"method {method}, long {long}, stream {stream}, prefix {prefix}, {len(comment)} of comment"
                            self.is_read_as_numpy_reads_it(where, [kind] * len(NAMES))

    def archive(self, kind, names, method, long=False, stream=False, comment=b"", shape=(2, 3)):
        out = Stream() if stream else io.BytesIO()
        with zipfile.ZipFile(out, "w", method) as archive:
            for name in names:
                with archive.open(name + ".npy", "w", force_zip64=long) as member:
                    npy.write_array(member, kind.random(self.rng, shape))
            archive.comment = comment
        return out.written if stream else out.getvalue()

    def what_is_no_array(self):
        """NumPy lists it, and gives its bytes."""
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w") as archive:
            archive.writestr("readme.txt", "text")
            archive.writestr("folder/", "")
            archive.writestr("x.npy", b"no array")
        self.write(out.getvalue())
        seen = self.peer.ask("archive", path=self.path())["members"]
        self.check("no arrays", "names", [member["name"] for member in seen], NpzFile(self.path()).files)
        self.check("no arrays", "headers", [member.get("error") for member in seen], ["InvalidHeader"] * 3)

    def many_members(self):
        kind = Kind("|u1")
        names = [f"array_{number}" for number in range(70_000)]
        self.write(self.archive(kind, names, zipfile.ZIP_STORED, shape=(1,)))
        numpys = NpzFile(self.path())
        seen = self.peer.ask("archive", path=self.path())
        self.check("70,000 members", "names", [member["name"] for member in seen["members"]], numpys.files)
        for name in names[::9999]:
            self.open_npz(kind, "load", name)
            self.check("70,000 members", name, self.values(kind), kind.encode(numpys[name]))
            self.peer.ask("close", "a")

    def damaged_archives(self):
        """Whatever this crate gives back of a damaged archive, NumPy does, too."""
        kind, rng, read = Kind("<f8"), random.Random(SEED), 0
        archives = [
            self.archive(kind, ["x", "y"], method, long, stream, comment)
            for method in METHODS
            for long in (False, True)
            for stream in (False, True)
            for comment in (b"", b"comment")
        ]
        for number in range(DAMAGED):
            damaged = bytearray(rng.choice(archives))
            for _ in range(rng.choice([1, 1, 2, 4])):
                damage(damaged, rng)
            self.write(bytes(damaged))
            for member in self.peer.ask("archive", path=self.path()).get("members", []):
                opened = self.open_npz(kind, "load", member["name"])
                if "error" in opened:
                    continue
                read += 1
                values = self.values(kind)
                self.peer.ask("close", "a")
                try:
                    with warnings.catch_warnings():
                        warnings.simplefilter("ignore")
                        numpys = kind.encode(NpzFile(self.path())[member["name"]])
                except NotImplementedError as refusal:
                    # The version that a reader needs; what an archive does need, it shows.
                    numpys = values if "zip file version" in str(refusal) else repr(refusal)
                except Exception as refusal:
                    numpys = repr(refusal)
                self.check(f"damaged archive {number}", member["name"], values, numpys)
        print(f"interop npz: {read} arrays of {DAMAGED} damaged archives were read", flush=True)

    def run(self):
        self.run_all(
            [
                self.what_savez_writes,
                self.every_form_of_archive,
                self.what_is_no_array,
                self.many_members,
                self.damaged_archives,
            ]
        )


def damage(archive, rng):
    """Changes, copies, moves, removes or inserts bytes, more often in the headers than in the data."""
    at = rng.randrange(len(archive))
    if rng.random() < 0.7:
        starts = [i for i in range(len(archive) - 3) if archive[i : i + 2] == b"PK"]
        at = min(rng.choice(starts or [0]) + rng.randrange(60), len(archive) - 1)
    count = rng.randrange(1, 9)
    kind = rng.randrange(5)
    if kind == 0:
        archive[at] ^= 1 << rng.randrange(8)
    elif kind == 1:
        archive[at : at + 4] = rng.choice([0, 1, 0xFFFF, 0xFFFFFFFF, rng.randrange(600)]).to_bytes(4, "little")
    elif kind == 2:
        source = rng.randrange(len(archive))
        archive[at : at + count] = archive[source : source + count]
    elif kind == 3:
        del archive[at : at + count]
    else:
        archive[at:at] = bytes(rng.randrange(256) for _ in range(count))


def main():
    program = sys.argv[1] if len(sys.argv) > 1 else build_peer()
    print(f"interop npz: NumPy {np.__version__}, seed {SEED}", flush=True)
    peer = Peer(program)
    with tempfile.TemporaryDirectory() as folder:
        interop = NpzInterop(peer, pathlib.Path(folder))
        interop.run()
    return interop.end("interop npz")


if __name__ == "__main__":
    sys.exit(main())
