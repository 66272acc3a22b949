#!/usr/bin/env python3
"""Compares the examples with the packages that people read scientific files with, on those packages' own files.

    python3 scripts/realfiles.py FOLDER-OF-EXAMPLES OUTPUT-FOLDER

For each format there is an example that parses as much of a header as it needs, maps the data in place, and writes a
`.npy` file. Here every array that the packages find in the files of their wheels, and in files that they write for this,
must come out of the example with the same type (byte order included), shape and bytes. What cannot be mapped must be
refused with the reason. Damaged files must be refused, or read as something else, and never end an example in a panic or
by a signal. Fails if anything differs, and if nothing was compared for a format.
"""

import collections
import gzip
import pathlib
import random
import shutil
import site
import subprocess
import sys
import warnings

import astropy.io.fits
import h5py
import mrcfile
import nibabel
import numpy as np
import obspy
import obspy.io.mseed.util
import obspy.io.segy.segy
import PIL.Image
import scipy.io
import segyio
import skimage.data
import tifffile

SEED = 20110711
REAL = [order + kind for kind in ("i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8") for order in "<>"] + ["|i1", "|u1"]
PACKAGES = pathlib.Path(site.getsitepackages()[0])
IMAGES = ("camera", "coins", "astronaut", "chelsea", "page")


class Example:
    """One example, and what was compared with it."""

    def __init__(self, name, programs, folder):
        self.name, self.program, self.output = name, programs / name, folder / f"{name}.npy"
        self.folder = folder / name
        self.folder.mkdir()
        self.files, self.arrays, self.values = set(), 0, 0
        self.shipped = 0
        self.refused = collections.Counter()
        self.failures = 0
        self.calls = []

    def run(self, path, *args):
        return subprocess.run([self.program, path, self.output, *map(str, args)], capture_output=True, text=True)

    def fail(self, path, args, what):
        self.failures += 1
        print(f"FAILED {self.name} {path} {' '.join(map(str, args))}: {what}", flush=True)

    def maps(self, path, expected, *args, count=None):
        """What the example finds in the file at `path` is `expected`, or its first `count` elements are."""
        self.output.unlink(missing_ok=True)
        ended = self.run(path, *args)
        if ended.returncode != 0 or ended.stdout.count("\n") != 1:
            return self.fail(path, args, f"ended with {ended.returncode}: {ended.stdout}{ended.stderr}")
        found = np.load(self.output)
        if count is not None:
            found = found.reshape(-1)[:count]
        self.same(path, args, found, np.asarray(expected))
        self.calls.append((path, args))

    def same(self, path, args, found, expected):
        if (found.dtype.str, found.shape) != (expected.dtype.str, expected.shape):
            what = f"{found.dtype.str} {found.shape}, expected {expected.dtype.str} {expected.shape}"
            return self.fail(path, args, what)
        if found.tobytes() != expected.tobytes():
            differ = np.frombuffer(found.tobytes(), "u1") != np.frombuffer(expected.tobytes(), "u1")
            return self.fail(path, args, f"{differ.sum()} of {found.nbytes} bytes differ, first {differ.argmax()}")
        self.files.add(path)
        self.arrays += 1
        self.shipped += path.is_relative_to(PACKAGES)
        self.values += found.size

    def refuses(self, path, message, why, *args):
        """What the file at `path` has cannot be mapped, and the example says so. Without `why`, there is nothing."""
        ended = self.run(path, *args)
        if ended.returncode != 1 or message not in ended.stderr:
            return self.fail(path, args, f"ended with {ended.returncode}, expected {message!r}: {ended.stderr}")
        if why:
            self.refused[why] += 1

    def survives(self, rng, rounds=150):
        """Whatever is in a file, the example ends well or with an error."""
        small = [call for call in self.calls if call[0].stat().st_size < 100_000]
        damaged = self.output.with_suffix(".damaged")
        for _ in range(rounds):
            path, args = rng.choice(small)
            data = bytearray(path.read_bytes())
            if rng.random() < 0.3:
                del data[rng.randrange(len(data)) :]
            for _ in range(rng.choice([0, 1, 3, 30]) if data else 0):
                near = min(len(data), rng.choice([16, 400, 4000, len(data)]))  # the header is at the start, mostly
                data[rng.randrange(near)] = rng.choice([0, 1, 255, rng.randrange(256)])
            damaged.write_bytes(data)
            ended = self.run(damaged, *args)
            if ended.returncode not in (0, 1):
                self.fail(path, args, f"damaged, ends with {ended.returncode}: {ended.stderr}")

    def report(self):
        """Whether all is well."""
        of_wheels = {path for path in self.files if path.is_relative_to(PACKAGES)}
        files, arrays = f"{len(self.files)} files ({len(of_wheels)} of wheels)", f"{self.arrays} arrays ({self.shipped})"
        print(f"{self.name:8} {files}, {arrays}, {self.values} values")
        for why, count in sorted(self.refused.items()):
            print(f"        {count:4} not mappable: {why}")
        if not self.files:
            print(f"FAILED {self.name}: nothing was compared")
        return bool(self.files) and not self.failures


def shipped(*patterns):
    """The files in the wheels of all packages."""
    return sorted({path for pattern in patterns for path in PACKAGES.rglob(pattern) if path.is_file()})


def numbers(dtype, shape):
    """Numbers that use all bytes of `dtype`."""
    dtype = np.dtype(dtype)
    rng = np.random.default_rng(SEED)
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        return rng.integers(limits.min, limits.max, shape, dtype.newbyteorder("="), endpoint=True).astype(dtype)
    return rng.normal(size=shape).astype(dtype)


def nifti(example):
    def unscaled(path):
        image = nibabel.load(path)
        if not isinstance(image, nibabel.Nifti1Image):
            image = nibabel.Nifti2Image.from_filename(path)
        return image.dataobj.get_unscaled()

    for path in shipped("*.nii"):
        example.maps(path, unscaled(path))
    for path in shipped("*.nii.gz"):
        example.refuses(path, "compressed", "compressed")
        plain = example.folder / path.stem
        plain.write_bytes(gzip.decompress(path.read_bytes()))
        example.maps(plain, unscaled(plain))
    for path in shipped("*.hdr"):
        if path.is_relative_to(PACKAGES / "nibabel"):
            example.refuses(path, "file of its own", "image in another file")
    for i, dtype in enumerate(REAL):
        for image in (nibabel.Nifti1Image, nibabel.Nifti2Image):
            header = image.header_class(endianness="big" if dtype[0] == ">" else "little")
            header.set_data_dtype(dtype)
            made = image(numbers(dtype, (5, 4, 3, 2)[: 1 + i % 4]), np.eye(4), header)
            if i % 2:
                made.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", b"of some length" * i))
            path = example.folder / f"{image.__name__}-{dtype[1:]}-{i}.nii"
            made.to_filename(path)
            example.maps(path, unscaled(path))
    for dtype in (np.dtype("c8"), np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])):
        path = example.folder / "other.nii"
        nibabel.Nifti1Image(np.zeros((2, 2, 2), dtype), np.eye(4), dtype=dtype).to_filename(path)
        example.refuses(path, "not one of real numbers", "complex or RGB")


def fits(example):
    hdus = astropy.io.fits
    path = example.folder / "all.fits"
    parts = [hdus.PrimaryHDU()]
    for i, dtype in enumerate(("|u1", ">i2", ">i4", ">i8", ">f4", ">f8")):
        parts.append(hdus.ImageHDU(numbers(dtype, (3, 4, 5, 6)[i % 4 :])))
        # A table of variable length, which has a heap behind it, and a compressed image.
        lists = np.array([np.zeros(n, "u1") for n in (i, 3000)], dtype=object)
        table = hdus.BinTableHDU.from_columns([hdus.Column("lists", "PB()", array=lists)])
        parts.append(table if i % 2 else hdus.CompImageHDU(numbers(">i2", (64, 64))))
    hdus.HDUList(parts).writeto(path)
    for path in [path, *shipped("*.fits")]:
        try:
            file = hdus.open(path, do_not_scale_image_data=True, disable_image_compression=True, memmap=False)
        except OSError:
            example.refuses(path, "", "not FITS to astropy either")
            continue
        with file:
            for i, hdu in enumerate(file):
                if type(hdu) in (hdus.PrimaryHDU, hdus.ImageHDU) and hdu.data is not None:
                    example.maps(path, hdu.data, i)
                elif type(hdu) in (hdus.PrimaryHDU, hdus.ImageHDU):
                    example.refuses(path, "no image", "no data", i)
                elif "ZIMAGE" in hdu.header:
                    example.refuses(path, "no image", "compressed", i)
                else:
                    example.refuses(path, "no image", "tables and random groups", i)
            example.refuses(path, "not so many", None, len(file))
    for path in shipped("*.fits.gz"):
        example.refuses(path, "not FITS", "compressed")


def segy(example):
    codes = {1: None, 2: "i4", 3: "i2", 5: "f4", 6: "f8", 8: "i1"}
    paths = shipped("*.sgy", "*.segy", "*_first_trace", "obspy/io/segy/tests/data/*.su")
    for code in (1, 2, 3, 5):
        for order in "<>":
            traces = [obspy.Trace(numbers(codes[code] or "f4", 37 + code), {"delta": 0.004}) for _ in range(4)]
            path = example.folder / f"obspy-{code}{'<>'.index(order)}.sgy"
            obspy.Stream(traces).write(path, "SEGY", data_encoding=code, byteorder=order)
            paths.append(path)
    for path in paths:
        if ".su" in path.name:
            example.refuses(path, "", "SU, without the header of a file")
            continue
        file = obspy.io.segy.segy._read_segy(path)
        kind = codes[file.binary_file_header.data_sample_format_code]
        if kind:
            traces = np.array([trace.data for trace in file.traces])
            example.maps(path, checked_cast(traces, file.endian + kind))
        else:
            example.refuses(path, "1: IBM", "IBM floats")
    for code in (2, 3, 5, 8):
        for texts in (0, 2):
            spec = segyio.spec()
            spec.format, spec.ext_headers, spec.tracecount, spec.samples = code, texts, 6, range(51)
            path = example.folder / f"segyio-{code}{texts}.sgy"
            with segyio.create(path, spec) as file:
                file.trace = numbers(codes[code], (6, 51))
            with segyio.open(path, ignore_geometry=True) as file:
                example.maps(path, checked_cast(file.trace.raw[:], ">" + codes[code]))


def checked_cast(array, dtype):
    """The same values as `dtype`, which packages do not always keep."""
    cast = array.astype(dtype)
    assert np.array_equal(cast, array)
    return cast.astype(cast.dtype.str)


def frames(example):
    # NetCDF has a record of each variable one after the other: those of one variable are as far apart as all are long.
    made = example.folder / "made.nc"
    with scipy.io.netcdf_file(made, "w") as file:
        file.createDimension("time", None)
        file.createDimension("y", 5)
        file.createDimension("x", 7)
        for kind in "bhifd":
            file.createVariable(kind, kind, ("time", "y", "x"))[:4] = numbers(">" + kind, (4, 5, 7))
    for path in [made, *shipped("*.nc", "nibabel/tests/data/*.mnc")]:
        if path.read_bytes()[:3] != b"CDF":
            continue  # a newer format; see `hdf5`
        with scipy.io.netcdf_file(path, mmap=True) as file:
            start = file._mm_buf.__array_interface__["data"][0]
            for name, variable in file.variables.items():
                data = variable.data
                first = data.__array_interface__["data"][0] - start
                if data.dtype.kind not in "iuf":
                    example.refuses(path, "DtypeMismatch", "text", data.dtype.str, 1, data.size, first, 1 << 20)
                    continue
                every = file._recsize if variable.isrec else 1 << 20
                shape = data.shape if variable.isrec else (1, *data.shape)
                height, width = int(np.prod(shape[1:-1])), shape[-1] if len(shape) > 1 else 1
                args = data.dtype.str, height, width, first, every
                if every % data.itemsize:
                    example.refuses(path, "cannot start", "records of half elements", *args)
                else:
                    example.maps(path, np.array(data).reshape(-1, height, width), *args)
            del data, variable
    # Images of one size in a FITS file have their headers between them.
    for path in shipped("astropy/io/fits/tests/data/test[01].fits"):
        with astropy.io.fits.open(path, memmap=False) as file:
            starts = [hdu.fileinfo()["datLoc"] for hdu in file[1:]]
            images = np.stack([hdu.data for hdu in file[1:]]).astype(">i2")
            assert len(set(np.diff(starts))) == 1
            example.maps(path, images, ">i2", 40, 40, starts[0], starts[1] - starts[0])
    # A record of miniSEED is a header and numbers; the last is seldom full.
    made = example.folder / "made.mseed"
    obspy.Stream([obspy.Trace(numbers("i4", 5000))]).write(made, "MSEED", encoding="INT32", reclen=512)
    for path in [made, *shipped("obspy/io/mseed/tests/data/encoding/*.mseed")]:
        info = obspy.io.mseed.util.get_record_information(path)
        kind = {1: "i2", 3: "i4", 4: "f4", 5: "f8"}.get(info["encoding"])
        if kind:
            dtype, every = info["byteorder"] + kind, info["record_length"]
            first = int.from_bytes(path.read_bytes()[44:46], "big" if dtype[0] == ">" else "little")
            samples = checked_cast(obspy.read(path)[0].data, dtype)
            example.maps(path, samples, dtype, 1, info["npts"], first, every, count=samples.size)
    # A file of SAC is a header and numbers.
    for path in shipped("*.sac", "*.SAC", "*.sac.swap", "*.BHE_short"):
        try:
            [trace] = obspy.read(path, "SAC")
        except obspy.io.sac.util.SacError:
            continue
        order = "<>"[path.read_bytes()[304:308] == bytes([0, 0, 0, 6])]  # the version
        if trace.stats.npts and path.stat().st_size == 632 + trace.data.nbytes:
            data = checked_cast(trace.data, order + "f4").reshape(1, 1, -1)
            example.maps(path, data, order + "f4", 1, data.size, 632, 1 << 20)


def mrc(example):
    for mode, kind in ((0, "i1"), (1, "i2"), (2, "f4"), (6, "u2"), (12, "f2"), (4, "c8")):
        for order in "<>":
            for shape, extra in (((40, 50), 0), ((7, 6, 5), 1024), ((3, 6, 5), 100), ((2, 3, 4, 5), 0)):
                path = example.folder / f"{mode}{'<>'.index(order)}{len(shape)}{extra}.mrc"
                with mrcfile.new(path) as file:
                    file.set_data(numbers(order + kind, shape))
                    file.set_extended_header(np.full(extra, 7, "V1"))
                with mrcfile.open(path) as file:
                    data = np.array(file.data)
                    if mode == 4:
                        example.refuses(path, "mode 4", "complex")
                    else:
                        assert file.header.mode == mode
                        example.maps(path, data.reshape(-1, *data.shape[-2:]))
    path = example.folder / "compressed.mrc.gz"
    with mrcfile.new(path, numbers("f4", (3, 4)), compression="gzip"):
        pass
    example.refuses(path, "compressed", "compressed")


def hdf5(example):
    made = example.folder / "made.h5"
    with h5py.File(made, "w") as file:
        for i, dtype in enumerate([*REAL, "<f2", ">f2"]):
            file[f"part/{dtype[1:]}{i}"] = numbers(dtype, (2, 3, 5)[i % 4 :])
        file["complex"], file["bool"], file["text"] = np.zeros(3, "c8"), np.zeros(3, "?"), np.array([b"ab"])
        file.create_dataset("chunks", data=np.zeros((40, 50)), chunks=(8, 10))
        file.create_dataset("packed", data=np.zeros((40, 50)), compression="gzip")
        file.create_dataset("unwritten", (3, 4))
        file.create_dataset("nothing", (3, 0))
        file.create_dataset("outside", data=np.zeros(8), external=[(str(example.folder / "outside"), 0, 64)])
    newest = example.folder / "newest.h5"
    with h5py.File(newest, "w", libver="latest", userblock_size=1024) as file:
        file["coins"], file["camera"] = skimage.data.coins(), skimage.data.camera().astype(">f4")
    paths = [path for path in shipped("*.h5", "*.hdf5", "*.mnc") if h5py.is_hdf5(path)]
    for path in [made, newest, *paths]:
        with h5py.File(path) as file:
            datasets = []
            file.visititems(lambda _, item: datasets.append(item) if isinstance(item, h5py.Dataset) else None)
            for dataset in datasets:
                args = dataset.id.get_offset(), dataset.dtype.str, *(dataset.shape or ())
                if args[0] is None:
                    why = "chunked" if dataset.chunks else "external, compact or unwritten"
                    example.refuses(path, "no offset", why, *args)
                elif dataset.dtype.kind not in "iuf":
                    example.refuses(path, "", "not of real numbers", *args)
                else:
                    example.maps(path, dataset[...], *args)


def tiff(example):
    folder = example.folder
    paths = shipped("*.tif", "*.tiff")
    for i, name in enumerate(IMAGES):
        image = getattr(skimage.data, name)()
        PIL.Image.fromarray(image).save(folder / f"pillow-{name}.tif")
        tifffile.imwrite(folder / f"{name}.tif", image, byteorder="<>"[i % 2], rowsperstrip=1 + 7 * i)
    for i, dtype in enumerate([*REAL, "<f2", ">f2"]):
        for channels in (1, 2, 3, 4):
            path = folder / f"{i}-{channels}.tif"
            apart = channels > 1 and i % 3 == 0
            shape = (channels, 9, 7) if apart else (9, 7, channels) if channels > 1 else (9, 7)
            settings = {"planarconfig": "separate" if apart else "contig"} if channels > 1 else {}
            settings |= {"byteorder": dtype[0] if dtype[0] in "<>" else ">", "rowsperstrip": 4, "metadata": None}
            settings |= {"photometric": "rgb" if channels > 2 else "minisblack"}
            tifffile.imwrite(path, numbers(dtype, (3, *shape)), **settings)  # three pages
    image = skimage.data.coins()
    tifffile.imwrite(folder / "packed.tif", image, compression="zlib")
    tifffile.imwrite(folder / "tiles.tif", image, tile=(64, 64))
    tifffile.imwrite(folder / "big.tif", image, bigtiff=True)
    tifffile.imwrite(folder / "complex.tif", numbers("c8", (4, 5)))
    PIL.Image.fromarray(image > 100).save(folder / "bits.tif")
    for path in [*paths, *sorted(folder.iterdir())]:
        with tifffile.TiffFile(path) as file:
            if file.is_bigtiff:
                example.refuses(path, "BigTIFF", "BigTIFF")
                continue
            for i, page in enumerate(file.pages):
                ends = np.add(page.dataoffsets, page.databytecounts)
                if page.is_tiled or page.compression != 1 or list(ends[:-1]) != list(page.dataoffsets[1:]):
                    example.refuses(path, "compressed, tiled", "compressed, tiled, or in strips apart", i)
                elif page.bitspersample % 8:
                    example.refuses(path, "compressed, tiled", "bits", i)
                elif page.dtype.kind not in "iuf":
                    example.refuses(path, "not of real numbers", "complex", i)
                else:
                    # The example has an axis of channels also for one.
                    data = page.asarray()
                    data = data.astype(data.dtype.newbyteorder(file.byteorder))
                    example.maps(path, data if data.ndim == 3 else data[..., None], i)
            example.refuses(path, "no such page", None, len(file.pages))


def npz(example):
    made = example.folder / "made.npz"
    arrays = {dtype[1:] + str(i): numbers(dtype, (2, 3, 5)[i % 4 :]) for i, dtype in enumerate([*REAL, "<f2"])}
    np.savez(made, **arrays, fortran=np.asfortranarray(numbers("f8", (30, 40))), nothing=np.zeros((3, 0)))
    packed = example.folder / "packed.npz"
    np.savez_compressed(packed, **arrays, camera=skimage.data.camera())
    for path in [made, packed, *shipped("*.npz")]:
        shutil.rmtree(example.output, ignore_errors=True)
        ended = example.run(path)
        example.calls.append((path, ()))
        with np.load(path) as archive:
            if ended.returncode != 0 or ended.stdout.count("\n") != len(archive.files):
                example.fail(path, (), f"ended with {ended.returncode}: {ended.stdout}{ended.stderr}")
                continue
            lines = dict(line.split(": ", 1) for line in ended.stdout.splitlines())
            for name in archive.files:
                try:
                    expected = archive[name]
                except ValueError:
                    expected = None  # Python objects
                if expected is None or expected.dtype.kind not in "iuf" or expected.dtype.itemsize > 8:
                    if not lines[name].startswith("not copied: "):
                        example.fail(path, (name,), f"expected to be refused: {lines[name]}")
                    kind = expected.dtype.kind if expected is not None else "O"
                    kinds = {"U": "text", "S": "text", "c": "complex", "b": "booleans", "f": "long double"}
                    example.refused[kinds.get(kind, "records or objects")] += 1
                else:
                    stored = archive.zip.NameToInfo[name + ".npy"].compress_type == 0
                    if lines[name].startswith("mapped" if stored else "loaded"):
                        example.same(path, (name,), np.load(example.output / f"{name}.npy"), expected)
                    else:
                        example.fail(path, (name,), lines[name])


def main():
    programs, output = map(pathlib.Path, sys.argv[1:])
    shutil.rmtree(output, ignore_errors=True)
    output.mkdir(parents=True)
    warnings.simplefilter("ignore")
    rng = random.Random(SEED)
    examples = []
    good = True
    for compare in (nifti, fits, segy, frames, mrc, hdf5, tiff, npz):
        example = Example(compare.__name__, programs.resolve(), output.resolve())
        compare(example)
        example.survives(rng)
        good &= example.report()
        examples.append(example)
    files, arrays, values = (sum(count) for count in zip(*((len(e.files), e.arrays, e.values) for e in examples)))
    refused = sum(sum(e.refused.values()) for e in examples)
    print(f"realfiles: {files} files, {arrays} arrays, {values} values compared, {refused} not mappable")
    sys.exit(not good)


if __name__ == "__main__":
    main()
