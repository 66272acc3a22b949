#!/usr/bin/env python3
"""Runs the .npy constructors of this crate against a real NumPy: each reads what the other writes, and both read files
that others have published.

    python3 scripts/interop_npy.py [PEER [WHEELS]]

Needs NumPy, and pip, which downloads the published files to the folder WHEELS; they are not part of this repository.
The rest is as in interop.py. Fails if anything differs, and ends by printing how much was compared.
"""

import io
import os
import pathlib
import subprocess
import sys
import tempfile
import warnings
import zipfile

import numpy as np
from numpy.lib import format as npy

from interop import DTYPES, ROOT, SEED, SHAPES, Interop, Kind, Peer, build_peer, significant

WHEELS = {"scikit-image": "0.26.0", "scipy": "1.17.1"}
# Each of these has something that NumPy no longer writes, or rarely.
NAMED = {
    "skimage/data/lfw_subset.npy": "a header of 80 bytes",
    "scipy/stats/tests/data/levy_stable/stable-Z1-cdf-sample-data.npy": "Fortran order",
    "scipy/stats/tests/data/levy_stable/stable-loc-scale-sample-data.npy": "nine fields",
    "numpy/lib/tests/data/win64python2.npy": "a shape of Python 2",
    "numpy/lib/tests/data/py2-objarr.npy": "Python objects",
}
# What np.save writes for np.array([1.5, -2, 0.1], ml_dtypes.bfloat16), as seen with ml_dtypes 0.6.0.
BFLOAT16 = b"\x93NUMPY\x01\0v\0%-117b\n" % b"{'descr': '<V2', 'fortran_order': False, 'shape': (3,), }"
BFLOAT16 += b"\xc0?\x00\xc0\xcd="
# Headers of every length modulo 64, and axes whose lengths have from 1 to 19 digits.
LONG_SHAPES = [(1,) * n for n in range(6, 64)] + [(0, 10**n) for n in range(19)]


def descr_of(dtype):
    descr = npy.dtype_to_descr(dtype)
    return descr if isinstance(descr, str) else repr(descr)


class NpyInterop(Interop):
    def path(self, name="data.npy"):
        return super().path(name)

    def open_npy(self, kind, mode, shape=None, order="C", name="a", **more):
        return self.open(kind, mode, shape, order, 0, name, npy=True, **more)

    def layouts(self):
        for kind in map(Kind, DTYPES):
            for shape in SHAPES:
                for order in "CF" if len(shape) > 1 else "C":
                    yield kind, shape, order

    def header_as_numpys(self, where, path):
        """Compares what each reads from a file's header."""
        seen = self.peer.ask("header", path=path)
        with warnings.catch_warnings():
            # NumPy warns of the `L` that Python 2 wrote.
            warnings.simplefilter("ignore", UserWarning)
            read = np.load(path, mmap_mode="r")
        header = pathlib.Path(path).read_bytes()[: read.offset]
        numpys = {
            "descr": descr_of(read.dtype),
            "shape": list(read.shape),
            "fortran_order": b"'fortran_order': True" in header,
            "offset": read.offset,
            "version": list(npy.read_magic(io.BytesIO(header))),
        }
        self.check(where, "header", seen, numpys)

    def rust_creates_numpy_reads(self):
        for kind, shape, order in self.layouts():
            for page_aligned in (False, True):
                where = f"rust creates {kind.description} {shape} {order}{' on a page' if page_aligned else ''}"
                self.remove()
                opened = self.open_npy(kind, "w+", shape, order, page_aligned=page_aligned)
                array = kind.random(self.rng, shape)
                self.peer.ask("assign", "a", values=kind.encode(array))
                if self.rng.random() < 0.1:
                    self.peer.ask("flush", "a")
                self.peer.ask("close", "a")
                self.header_as_numpys(where, self.path())
                offset = opened["offset"]
                self.check(where, "offset", (offset % 64, page_aligned and offset != 4096), (0, False))
                for how, read in [
                    ("np.load", np.load(self.path())),
                    ("np.load(mmap_mode='r')", np.load(self.path(), mmap_mode="r")),
                    ("open_memmap('r+')", npy.open_memmap(self.path(), "r+")),
                ]:
                    self.check(where, f"{how}, type", read.dtype, kind.dtype)
                    self.check(where, f"{how}, shape", read.shape, shape)
                    self.check(where, f"{how}, values", kind.encode(read), kind.encode(array))
                    strides = significant(read.strides, shape)
                    self.check(where, f"{how}, strides", significant(opened["strides"], shape), strides)
                if not page_aligned:
                    rusts = self.read_file()
                    self.remove()
                    written = npy.open_memmap(self.path(), "w+", kind.dtype, shape, order == "F")
                    written.view(f"V{kind.dtype.itemsize}")[...] = array.view(f"V{kind.dtype.itemsize}")
                    written.flush()
                    self.check(where, "file", rusts, self.read_file())

    def every_length_of_header(self):
        kind = Kind("|u1")
        for shape in LONG_SHAPES:
            for order in "CF":
                self.remove()
                self.open_npy(kind, "w+", shape, order)
                self.peer.ask("close", "a")
                rusts = self.read_file()
                self.remove()
                npy.open_memmap(self.path(), "w+", kind.dtype, shape, order == "F")
                self.check(f"header of {shape} {order}", "file", rusts, self.read_file())

    def numpy_writes_rust_reads(self):
        for kind, shape, order in self.layouts():
            array = np.asarray(kind.random(self.rng, shape), order=order)
            for version in [None, (1, 0), (2, 0), (3, 0)]:
                buffer = io.BytesIO()
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", UserWarning)
                    npy.write_array(buffer, array, version)
                saved = buffer.getvalue()
                self.remove()
                # Bytes that follow the array must not matter.
                pathlib.Path(self.path()).write_bytes(saved + b"more" * (version == (1, 0)))
                before = self.read_file()
                where = f"rust reads {kind.description} {shape} {order} of version {version}"
                self.header_as_numpys(where, self.path())
                self.read_in_every_mode(where, kind, np.load(self.path(), mmap_mode="r"))
                self.check(where, "file", self.read_file(), before)

    def read_in_every_mode(self, where, kind, numpys, **more):
        for mode in ("r", "r+", "c", "load"):
            opened = self.open_npy(kind, mode, path=str(numpys.filename), **more)
            here = f"{where}, {mode}"
            if "error" in opened:
                self.check(here, "answer", opened, "an array")
                continue
            self.check(here, "shape", opened["shape"], list(numpys.shape))
            strides = significant(opened["strides"], numpys.shape)
            self.check(here, "strides", strides, significant(numpys.strides, numpys.shape))
            self.check(here, "offset", opened["offset"], numpys.offset)
            self.check(here, "values", self.values(kind), kind.encode(numpys))
            self.peer.ask("close", "a")

    def open(self, kind, mode, shape, order="C", offset=0, name="a", path=None, **more):
        layout = {"dtype": kind.description, "shape": shape, "order": order, "offset": offset}
        return self.peer.ask("open", name, path=path or self.path(), mode=mode, **layout, **more)

    def misaligned_data(self):
        """Headers of odd lengths: refused in place, copied by `load`, mapped by a type of alignment 1."""
        for kind in map(Kind, DTYPES):
            for shape, order in [((7,), "C"), ((3, 4), "F")]:
                array = np.asarray(kind.random(self.rng, shape), order=order)
                text = {"descr": npy.dtype_to_descr(kind.dtype), "fortran_order": order == "F", "shape": shape}
                for blanks in range(8):
                    literal = (repr(text) + " " * blanks + "\n").encode("latin1")
                    header = b"\x93NUMPY\x01\x00" + len(literal).to_bytes(2, "little") + literal
                    self.remove()
                    data = array.view(f"V{array.itemsize}").tobytes(order)
                    pathlib.Path(self.path()).write_bytes(header + data)
                    where = f"{kind.description} {shape} {order} at {len(header)}"
                    numpys = np.load(self.path(), mmap_mode="r")
                    fits = len(header) % kind.alignment == 0
                    if fits:
                        self.read_in_every_mode(where, kind, numpys)
                        continue
                    self.check(where, "in place", self.open_npy(kind, "r").get("error"), "Misaligned")
                    self.check(where, "copy", self.open_npy(kind, "load").get("offset"), len(header))
                    self.check(where, "values of the copy", self.values(kind), kind.encode(numpys))
                    self.peer.ask("close", "a")
                    if kind.has_twin:
                        self.read_in_every_mode(where, kind, numpys, unaligned=True)

    def bfloat16_is_as_ml_dtypes_has_it(self):
        kind = Kind("<V2")
        self.remove()
        self.open_npy(kind, "w+", (3,))
        self.peer.ask("assign", "a", values=["c03f", "00c0", "cd3d"])
        self.peer.ask("close", "a")
        self.check("bfloat16", "file", self.read_file(), BFLOAT16)
        self.check("bfloat16", "descr", self.peer.ask("header", path=self.path())["descr"], "<V2")
        # Whoever lacks ml_dtypes loads bytes without an order, and may save them.
        loaded = np.load(self.path())
        self.check("bfloat16", "type without ml_dtypes", loaded.dtype.str, "|V2")
        np.save(self.path(), loaded)
        self.header_as_numpys("bfloat16 saved again", self.path())
        self.read_in_every_mode("bfloat16 saved again", kind, np.load(self.path(), mmap_mode="r"))

    def either_type_is_refused_by_the_other(self):
        kinds = [Kind(dtype) for dtype in DTYPES]
        for written in kinds:
            self.remove()
            # Four elements: an array of three bytes could be read as one `|V3`.
            np.save(self.path(), written.random(self.rng, (4,)))
            for asked in kinds:
                if asked.description != written.description:
                    seen = self.open_npy(asked, "r")
                    where = f"{written.description} as {asked.description}"
                    self.check(where, "answer", seen.get("error"), "DtypeMismatch")
                    named = f"`{descr_of(written.dtype)}`" in seen.get("message", "")
                    self.check(where, "whether the message names it", named, True)

    def both_have_it_mapped(self):
        """Each reads at once what the other has stored, without a flush in between."""
        for kind in map(Kind, DTYPES):
            for shape, order in [((), "C"), ((600,), "C"), ((5, 7), "F"), ((2, 3, 4), "C")]:
                where = f"both map {kind.description} {shape} {order}"
                self.remove()
                self.open_npy(kind, "w+", shape, order)
                theirs = npy.open_memmap(self.path(), "r+")
                for turn in range(8):
                    index = tuple(self.rng.randrange(n) for n in shape)
                    value = kind.random(self.rng, ())
                    encoded = kind.encode(value)[0]
                    if turn % 2 == 0:
                        theirs[index] = value
                        seen = kind.canonical(self.peer.ask("get", "a", index=index)["value"])
                        self.check(where, f"NumPy's store at {index}", seen, encoded)
                    else:
                        self.peer.ask("set", "a", index=index, value=encoded)
                        self.check(where, f"Rust's store at {index}", kind.encode(theirs[index])[0], encoded)
                self.check(where, "all values", self.values(kind), kind.encode(theirs))
                self.peer.ask("close", "a")

    def published_files(self):
        """Files that others have written, some of them years ago."""
        found = set()
        for name, path in self.unpacked():
            found.add(name)
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", UserWarning)
                    numpys = np.load(path, mmap_mode="r")
            except ValueError as refusal:
                self.check(name, "NumPy's reason", "Python objects" in str(refusal), True)
                seen = self.peer.ask("header", path=path)
                self.check(name, "answer", seen.get("error"), "InvalidHeader")
                self.check(name, "reason", "Python objects" in seen["message"], True)
                continue
            self.header_as_numpys(name, path)
            kind = PublishedKind(numpys.dtype)
            self.read_in_every_mode(name, kind, numpys)
        for name, speciality in NAMED.items():
            self.check(name, f"whether it was read, for {speciality}", name in found, True)
        print(f"interop npy: {len(found)} published files", flush=True)

    def unpacked(self):
        """The files of the wheels and of NumPy itself, copied to a folder where they can be opened for writing."""
        wheels = [f"{name}=={version}" for name, version in WHEELS.items()]
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        self.wheels.mkdir(parents=True, exist_ok=True)
        names = {name: name.replace("-", "_") + f"-{version}-*.whl" for name, version in WHEELS.items()}
        if not all(list(self.wheels.glob(pattern)) for pattern in names.values()):
            subprocess.run([*command, "--only-binary=:all:", "--dest", self.wheels, *wheels], check=True)
        numpys = pathlib.Path(np.__file__).parent.parent
        files = [(str(path.relative_to(numpys)), path.read_bytes()) for path in (numpys / "numpy").rglob("*.npy")]
        for pattern in names.values():
            (wheel,) = self.wheels.glob(pattern)
            with zipfile.ZipFile(wheel) as archive:
                files += [(name, archive.read(name)) for name in archive.namelist() if name.endswith(".npy")]
        for number, (name, contents) in enumerate(sorted(files)):
            path = self.folder / f"{number}.npy"
            path.write_bytes(contents)
            yield name, str(path)

    def run(self):
        self.run_all(
            [
                self.rust_creates_numpy_reads,
                self.every_length_of_header,
                self.numpy_writes_rust_reads,
                self.misaligned_data,
                self.bfloat16_is_as_ml_dtypes_has_it,
                self.either_type_is_refused_by_the_other,
                self.both_have_it_mapped,
                self.published_files,
            ]
        )


class PublishedKind(Kind):
    """An element type given by its dtype; of a record, with every field."""

    def __init__(self, dtype):
        super().__init__(dtype.str if dtype.names is None else [list(field) for field in dtype.descr])
        self.dtype = dtype

    def encode_one(self, element):
        if not self.dtype.names:
            return super().encode_one(element)
        fields = [(name, PublishedKind(self.dtype[name])) for name in self.dtype.names]
        return {name: kind.encode_one(element[name]) for name, kind in fields}

    def canonical(self, value):
        if not self.dtype.names:
            return super().canonical(value)
        return {name: PublishedKind(self.dtype[name]).canonical(value[name]) for name in self.dtype.names}


def main():
    program = sys.argv[1] if len(sys.argv) > 1 else build_peer()
    print(f"interop npy: NumPy {np.__version__}, seed {SEED}", flush=True)
    peer = Peer(program)
    with tempfile.TemporaryDirectory() as folder:
        interop = NpyInterop(peer, pathlib.Path(folder))
        target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
        interop.wheels = pathlib.Path(sys.argv[2]) if len(sys.argv) > 2 else target / "check/wheels"
        interop.run()
    return interop.end("interop npy")


if __name__ == "__main__":
    sys.exit(main())
