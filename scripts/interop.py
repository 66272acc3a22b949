#!/usr/bin/env python3
"""Runs this crate against a real NumPy: each reads what the other writes.

    python3 scripts/interop.py [PEER]

Needs NumPy, and the Rust side, tests/interop/peer.rs, which it builds unless PEER is given. The two take turns over
pipes, one line of JSON each, so nothing depends on time. Fails if anything differs, and ends by printing how much was
compared.
"""

import json
import math
import pathlib
import random
import re
import subprocess
import sys
import tempfile

import numpy as np

SEED = 20110711
ROOT = pathlib.Path(__file__).resolve().parent.parent

PADDED = [["a", "|u1"], ["", "|V7"], ["b", "<f8"]]
PACKED = [["a", "|u1"], ["b", "<f8"]]
PACKED_BIG = [["a", "|u1"], ["b", ">f8"]]
INTEGERS = ["|i1", "|u1"] + [order + kind for kind in ("i2", "u2", "i4", "u4", "i8", "u8") for order in "<>"]
FLOATS = ["<f2", ">f2", "<f4", ">f4", "<f8", ">f8", "<c8", ">c8", "<c16", ">c16"]
DTYPES = ["|b1", *INTEGERS, *FLOATS, "<M8[us]", ">M8[us]", "|S5", "|V3", "<U5", PADDED, PACKED, PACKED_BIG]
# Types for which the peer has no variant of alignment 1: those that have that alignment already.
NO_TWIN = ["|b1", "|i1", "|u1", "|S5", "|V3", PACKED, PACKED_BIG]

SHAPES = [(), (0,), (1,), (7,), (1200,), (3, 4), (1, 5), (5, 1), (0, 3)]
SHAPES += [(2, 3, 4), (3, 0, 2), (2, 1, 3, 2), (2, 3, 2, 1, 2)]
# Before the first page boundary, at one, after one; and two that suit only elements of alignment 1.
OFFSETS = [0, 16, 4096, 4112, 1, 4099]


class Report:
    def __init__(self):
        self.passed = 0
        self.failures = []

    def check(self, where, what, seen, expected):
        if seen == expected:
            self.passed += 1
            return
        self.failures.append((where, what))
        print(f"FAILED {where}: {what} {difference(seen, expected)}", flush=True)


def difference(seen, expected):
    """Describes both values; of long ones only what follows the first difference."""
    if isinstance(seen, (bytes, list)) and type(seen) is type(expected):
        pairs = zip(seen, expected)
        start = next((i for i, (one, other) in enumerate(pairs) if one != other), min(len(seen), len(expected)))
        lengths = f" (of {len(seen)} and {len(expected)})" if len(seen) != len(expected) else ""
        seen, expected = seen[start : start + 16], expected[start : start + 16]
        return f"from {start} on{lengths} is {seen!r}, expected {expected!r}"
    return f"is {seen!r}, expected {expected!r}"


class Peer:
    """The Rust side. It answers in the order of the requests."""

    def __init__(self, program):
        self.process = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, do, name="", **request):
        self.process.stdin.write(json.dumps({"do": do, "name": name, **request}) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            sys.exit(f"interop: the peer ended with {self.process.wait()} when asked to {do} {request}")
        return json.loads(answer)

    def end(self):
        self.process.stdin.close()
        return self.process.wait()


def build_peer():
    command = ["cargo", "build", "--profile", "gate", "--all-features", "--example", "interop_peer"]
    command += ["--message-format=json-render-diagnostics"]
    built = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    if built.returncode != 0:
        sys.exit("interop: the peer cannot be built")
    messages = (json.loads(line) for line in built.stdout.splitlines())
    programs = [m["executable"] for m in messages if m.get("target", {}).get("name") == "interop_peer"]
    return programs[-1]


class Kind:
    """An element type: NumPy's dtype, the peer's name for it, and values to store."""

    def __init__(self, description):
        if isinstance(description, str):
            self.description, self.dtype = description, np.dtype(description)
        else:
            self.description, self.dtype = json.dumps(description, separators=(",", ":")), record(description)
        self.has_twin = description not in NO_TWIN
        # Records have C's alignment in Rust, and an alignment of 1 in NumPy.
        self.alignment = 8 if description == PADDED else 1 if self.dtype.names else self.dtype.alignment

    def random(self, rng, shape):
        """Random values: every bit pattern of an integer, all magnitudes of a float, infinities and NaN."""
        count = math.prod(shape)
        array = np.zeros(count, self.dtype)
        if self.dtype.names:
            array["a"] = [rng.randrange(256) for _ in range(count)]
            array["b"] = [random_float(rng, 8) for _ in range(count)]
        elif self.dtype.kind == "f":
            array[:] = [random_float(rng, self.dtype.itemsize) for _ in range(count)]
        elif self.dtype.kind == "c":
            array.real = [random_float(rng, self.dtype.itemsize // 2) for _ in range(count)]
            array.imag = [random_float(rng, self.dtype.itemsize // 2) for _ in range(count)]
        elif self.dtype.kind == "b":
            array[:] = [rng.random() < 0.5 for _ in range(count)]
        elif self.dtype.kind == "U":
            array[:] = [random_text(rng, self.dtype.itemsize // 4) for _ in range(count)]
        else:
            # NumPy's strings end before their trailing zeros.
            smallest = 1 if self.dtype.kind == "S" else 0
            noise = bytes(rng.randrange(smallest, 256) for _ in range(count * self.dtype.itemsize))
            array = np.frombuffer(noise, self.dtype).copy()
        return array.reshape(shape)

    def encode(self, array):
        """The elements, in logical order, in the peer's notation."""
        return [self.encode_one(element) for element in np.asarray(array).reshape(-1)]

    def encode_one(self, element):
        if self.dtype.names:
            return {"a": int(element["a"]), "b": repr(float(element["b"]))}
        if self.dtype.kind == "f":
            return repr(float(element))
        if self.dtype.kind == "c":
            return [repr(float(element.real)), repr(float(element.imag))]
        if self.dtype.kind == "M":
            return int(element.astype("i8"))
        if self.dtype.kind in "SV":
            return element.tobytes().ljust(self.dtype.itemsize, b"\0").hex()
        return element.item()

    def canonical(self, value):
        """The peer's value, with floats in Python's notation."""
        if self.dtype.names:
            return {"a": value["a"], "b": repr(float(value["b"]))}
        if self.dtype.kind == "f":
            return repr(float(value))
        if self.dtype.kind == "c":
            return [repr(float(part)) for part in value]
        return value


def record(fields):
    """A NumPy dtype from its description. Fields without a name are padding."""
    names, formats, offsets, end = [], [], [], 0
    for name, field in fields:
        if name:
            names.append(name)
            formats.append(field)
            offsets.append(end)
        end += np.dtype(field).itemsize
    return np.dtype({"names": names, "formats": formats, "offsets": offsets, "itemsize": end})


def random_text(rng, most):
    """Characters of all lengths in UTF-8. NumPy's strings end before their trailing zeros."""
    ranges = [(1, 0x7F), (0x80, 0x7FF), (0x800, 0xD7FF), (0xE000, 0xFFFF), (0x10000, 0x10FFFF)]
    return "".join(chr(rng.randint(*rng.choice(ranges))) for _ in range(rng.randrange(most + 1)))


def random_float(rng, size):
    if rng.random() < 0.2:
        return rng.choice([0.0, -0.0, 1.0, math.inf, -math.inf, math.nan, 65504.0])
    bits = rng.getrandbits(8 * size).to_bytes(size, "little")
    value = float(np.frombuffer(bits, f"<f{size}")[0])
    # One NaN stands for all: the notation has no payloads.
    return math.nan if math.isnan(value) else value


def significant(strides, shape):
    """The strides that matter: those of axes with more than one element."""
    return [] if 0 in shape else [s for n, s in zip(shape, strides) if n != 1]


class Interop:
    def __init__(self, peer, folder):
        self.peer, self.folder = peer, folder
        self.report = Report()
        self.check = self.report.check
        self.rng = random.Random(SEED)

    def layouts(self):
        """Every element type, shape, order and offset."""
        for kind in map(Kind, DTYPES):
            for shape in SHAPES:
                for order in "CF" if len(shape) > 1 else "C":
                    for offset in OFFSETS if shape != (1200,) else [16]:
                        yield kind, shape, order, offset

    def ways(self, kind, shape, offset):
        """The natural type, and the one of alignment 1 if there is one."""
        fits = offset % kind.alignment == 0 or 0 in shape
        yield False, fits
        if kind.has_twin and not fits:
            yield True, True

    def path(self, name="data.bin"):
        return str(self.folder / name)

    def open(self, kind, mode, shape, order="C", offset=0, name="a", **more):
        layout = {"dtype": kind.description, "shape": shape, "order": order, "offset": offset}
        return self.peer.ask("open", name, path=self.path(), mode=mode, **layout, **more)

    def values(self, kind, name="a"):
        """The elements of a Rust array, in logical order."""
        return [kind.canonical(value) for value in self.peer.ask("values", name)["values"]]

    def remove(self):
        """Makes the next file a new one: truncating and replacing old files makes file systems wait for the disk."""
        pathlib.Path(self.path()).unlink(missing_ok=True)

    def bytes_of(self, array, order, offset):
        # As opaque bytes: when NumPy copies a record, its padding is what was in the memory before.
        return bytes(offset) + array.view(f"V{array.itemsize}").tobytes(order)

    def read_file(self):
        return pathlib.Path(self.path()).read_bytes()

    def rust_writes_numpy_reads(self):
        for kind, shape, order, offset in self.layouts():
            for twin, fits in self.ways(kind, shape, offset):
                where = f"rust writes {kind.description} {shape} {order} at {offset}{' unaligned' if twin else ''}"
                self.remove()
                opened = self.open(kind, "w+", shape, order, offset, unaligned=twin)
                if not fits:
                    self.check(where, "answer", opened.get("error"), "Misaligned")
                    self.check(where, "file", pathlib.Path(self.path()).exists(), False)
                    continue
                array = kind.random(self.rng, shape)
                self.peer.ask("assign", "a", values=kind.encode(array))
                # Flushed or not, the array is in the file.
                if self.rng.random() < 0.1:
                    self.peer.ask("flush", "a")
                self.peer.ask("close", "a")
                self.check(where, "file", self.read_file(), self.bytes_of(array, order, offset))
                if not self.read_file():
                    # NumPy cannot map an empty file.
                    continue
                read = np.memmap(self.path(), kind.dtype, "r", offset, shape, order)
                self.check(where, "strides", significant(opened["strides"], shape), significant(read.strides, shape))
                self.check(where, "values", kind.encode(read), kind.encode(array))

    def numpy_writes_rust_reads(self):
        for kind, shape, order, offset in self.layouts():
            array = kind.random(self.rng, shape)
            self.remove()
            written = np.memmap(self.path(), kind.dtype, "w+", offset, shape, order)
            written[...] = array
            strides = written.strides
            written.flush()
            del written
            before = self.read_file()
            for twin, fits in self.ways(kind, shape, offset):
                for mode in ("r", "r+", "c", "load"):
                    where = f"rust reads {kind.description} {shape} {order} at {offset}, {mode}"
                    where += " unaligned" if twin else ""
                    opened = self.open(kind, mode, shape, order, offset, unaligned=twin)
                    if not fits and mode != "load":
                        self.check(where, "answer", opened.get("error"), "Misaligned")
                        continue
                    self.check(where, "shape", opened.get("shape"), list(shape))
                    self.check(where, "strides", significant(opened["strides"], shape), significant(strides, shape))
                    self.check(where, "offset", opened["offset"], offset)
                    self.check(where, "mode", opened["mode"], "r" if mode == "load" else mode)
                    self.check(where, "values", self.values(kind), kind.encode(array))
                    self.peer.ask("close", "a")
                    self.check(where, "file", self.read_file(), before)

    def numpy_writes_rust_infers(self):
        """Without a shape, both take as many elements as the file has."""
        for kind in map(Kind, DTYPES):
            for count in (1, 2, 5, 600):
                for offset in (0, 16, 4096):
                    where = f"rust infers {kind.description} ({count},) at {offset}"
                    array = kind.random(self.rng, (count,))
                    self.remove()
                    np.memmap(self.path(), kind.dtype, "w+", offset, (count,))[:] = array
                    opened = self.open(kind, "r", None, offset=offset)
                    inferred = np.memmap(self.path(), kind.dtype, "r", offset)
                    self.check(where, "shape", opened.get("shape"), list(inferred.shape))
                    self.check(where, "values", self.values(kind), kind.encode(inferred))
                    self.peer.ask("close", "a")
                    if kind.dtype.itemsize > 1:
                        with open(self.path(), "ab") as file:
                            file.write(b"x")
                        refused = self.open(kind, "r", None, offset=offset)
                        self.check(where, "odd length", refused.get("error"), "LengthNotMultiple")

    def both_have_it_mapped(self):
        """Each reads at once what the other has stored, without a flush in between."""
        for kind in map(Kind, DTYPES):
            for shape, order, offset in [((), "C", 16), ((600,), "C", 4096), ((5, 7), "F", 4112), ((2, 3, 4), "C", 32)]:
                where = f"both map {kind.description} {shape} {order} at {offset}"
                opened = self.open(kind, "w+", shape, order, offset)
                self.check(where, "mode", opened.get("mode"), "w+")
                theirs = np.memmap(self.path(), kind.dtype, "r+", offset, shape, order)
                reading = np.memmap(self.path(), kind.dtype, "r", offset, shape, order)
                for turn in range(24):
                    index = tuple(self.rng.randrange(n) for n in shape)
                    value = kind.random(self.rng, ())
                    encoded = kind.encode(value)[0]
                    if turn % 2 == 0:
                        theirs[index] = value
                        if turn % 8 == 0:
                            theirs.flush()
                        seen = kind.canonical(self.peer.ask("get", "a", index=index)["value"])
                        self.check(where, f"NumPy's store at {index}", seen, encoded)
                    else:
                        self.peer.ask("set", "a", index=index, value=encoded)
                        if turn % 8 == 1:
                            self.peer.ask("flush", "a")
                        for array in (theirs, reading):
                            self.check(where, f"Rust's store at {index}", kind.encode(array[index])[0], encoded)
                values = self.values(kind)
                self.check(where, "all values", values, kind.encode(theirs))
                self.check(where, "file", self.read_file(), self.bytes_of(theirs, order, offset))
                self.peer.ask("close", "a")
                self.check(where, "all values after Rust's close", kind.encode(theirs), values)

    def copies_stay_private(self):
        """Stores into a copy-on-write array are visible to nobody else, neither in the file nor in other arrays."""
        for kind in map(Kind, DTYPES):
            shape, order, offset = (40, 30), "F", 4096
            where = f"copies of {kind.description}"
            array = kind.random(self.rng, shape)
            writer = np.memmap(self.path(), kind.dtype, "w+", offset, shape, order)
            writer[...] = array
            before = self.read_file()

            self.open(kind, "c", shape, order, offset, name="copy")
            self.open(kind, "r", shape, order, offset, name="reader")
            other = kind.random(self.rng, shape)
            self.peer.ask("assign", "copy", values=kind.encode(other))
            self.check(where, "Rust's copy", self.values(kind, "copy"), kind.encode(other))
            self.check(where, "NumPy's array beside Rust's copy", kind.encode(writer), kind.encode(array))
            self.check(where, "file beside Rust's copy", self.read_file(), before)

            numpys = np.memmap(self.path(), kind.dtype, "c", offset, shape, order)
            numpys[...] = other
            self.check(where, "Rust's array beside NumPy's copy", self.values(kind, "reader"), kind.encode(array))

            # A page that was stored to belongs to the copy from then on: NumPy's stores no longer reach it.
            writer[...] = kind.random(self.rng, shape)
            self.check(where, "Rust's copy after NumPy's stores", self.values(kind, "copy"), kind.encode(other))
            self.check(where, "Rust's array after NumPy's stores", self.values(kind, "reader"), kind.encode(writer))
            after = self.read_file()
            self.peer.ask("close", "copy")
            self.peer.ask("close", "reader")
            self.check(where, "file after Rust's copy", self.read_file(), after)

    def lengths(self):
        """If a file is too short, NumPy silently extends it. Rust does so on request, and otherwise refuses it."""
        for kind in map(Kind, DTYPES):
            size = kind.dtype.itemsize
            short = [(0, 5, 0), (0, 5, 5 * size - 1), (16, 3, 7), (4096, 10, 100)]
            for offset, count, length in [*short, (16, 3, 16 + 3 * size), (16, 3, 9000)]:
                where = f"{count} of {kind.description} at {offset} of {length} bytes"
                old = bytes(self.rng.randrange(256) for _ in range(length))
                path = pathlib.Path(self.path())
                path.write_bytes(old)
                end = offset + count * size
                if end > length:
                    for mode in ("r", "r+", "c", "load"):
                        refused = self.open(kind, mode, [count], offset=offset)
                        self.check(where, f"mode {mode}", refused.get("error"), "TooShort")
                    self.check(where, "file after refusals", self.read_file(), old)
                self.open(kind, "r+", [count], offset=offset, extend=True)
                self.peer.ask("close", "a")
                rusts = self.read_file()
                path.write_bytes(old)
                np.memmap(self.path(), kind.dtype, "r+", offset, (count,))
                self.check(where, "extended file", rusts, self.read_file())
                self.check(where, "extended length", len(rusts), max(length, end))
                created = self.open(kind, "w+", [count], offset=offset)
                self.check(where, "created", created.get("shape"), [count])
                self.peer.ask("close", "a")
                self.check(where, "created file", self.read_file(), bytes(end))

    def grown_by_the_other(self):
        """NumPy grows a file under a Rust array of its first part. That array stays as it is; a new one shows the rest."""
        for kind in map(Kind, DTYPES):
            where = f"growing {kind.description}"
            array = kind.random(self.rng, (8,))
            np.memmap(self.path(), kind.dtype, "w+", 0, (8,))[:] = array
            self.open(kind, "r", [8], name="first")
            np.memmap(self.path(), kind.dtype, "r+", 0, (2000,))[8:16] = array
            self.check(where, "first part", self.values(kind, "first"), kind.encode(array))
            self.check(where, "whole", self.open(kind, "r", None, name="whole").get("shape"), [2000])
            self.check(where, "second part", self.values(kind, "whole")[8:16], kind.encode(array))
            self.peer.ask("close", "first")
            self.peer.ask("close", "whole")

    def numpys_own_tests_are_told_again(self):
        """Every test of NumPy's `memmap` is named in ours."""
        theirs = pathlib.Path(np.__file__).parent / "_core/tests/test_memmap.py"
        ours = (ROOT / "tests/conformance/numpy_memmap.rs").read_text()
        names = re.findall(r"def (test_\w+)", theirs.read_text())
        self.check("test_memmap.py", "whether it has tests", len(names) > 20, True)
        for name in names:
            self.check("tests/conformance/numpy_memmap.rs", f"mention of {name}", f"`{name}`" in ours, True)

    def run(self):
        self.run_all(
            [
                self.rust_writes_numpy_reads,
                self.numpy_writes_rust_reads,
                self.numpy_writes_rust_infers,
                self.both_have_it_mapped,
                self.copies_stay_private,
                self.lengths,
                self.grown_by_the_other,
                self.numpys_own_tests_are_told_again,
            ]
        )

    def run_all(self, parts):
        for part in parts:
            before = self.report.passed, len(self.report.failures)
            part()
            passed, failed = self.report.passed - before[0], len(self.report.failures) - before[1]
            print(f"interop: {part.__name__.replace('_', ' ')}: {passed} checks passed, {failed} failed", flush=True)

    def end(self, what):
        self.check("peer", "exit status", self.peer.end(), 0)
        passed, failed = self.report.passed, len(self.report.failures)
        print(f"{what}: {passed} checks passed, {failed} failed")
        return 1 if failed or not passed else 0


def main():
    program = sys.argv[1] if len(sys.argv) > 1 else build_peer()
    print(f"interop: NumPy {np.__version__}, seed {SEED}", flush=True)
    peer = Peer(program)
    with tempfile.TemporaryDirectory() as folder:
        interop = Interop(peer, pathlib.Path(folder))
        interop.run()
    return interop.end("interop")


if __name__ == "__main__":
    sys.exit(main())
