"""Stained volumes: slabs in any order give the same bytes, unfinished ones open nowhere, boxes come back."""

import itertools
import json
import multiprocessing
import resource
import shutil
import signal

import nibabel
import numpy as np
import pytest
import tensorstore
import tifffile
import zarr
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError

from bundle.common.errors import InputError
from bundle.images.stained import stored, tiff
from bundle.images.stained.ome_zarr import halve, level_shapes
from bundle.images.stained.spec import StainSpec
from bundle.images.stained.stored import DEPTH, FORMATS, create, file_name, finish, open_stain, write_slab
from bundle.images.volumes.geometry import Geometry
from bundle.images.volumes.volume import open_volume
from tests.helpers.scans import rotation

SHAPE = (75, 133, 290)  # two levels, odd sizes, chunks cut at each edge
GEOMETRY = Geometry((7.0, 6.0, 5.0), (1.0, -2.0, 3.5), rotation())
ABOUT = {"model": "model.pt <1>", "scan": "Probe µ & \udcff.h5:/a", "note": "research only", "settings": {"step": 96}}
STARTS = range(0, SHAPE[0], DEPTH)


def random(channels=3, shape=SHAPE, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (*shape, channels), np.uint8)


def spec_of(channels=3, shape=SHAPE, geometry=GEOMETRY):
    return StainSpec(shape, channels, geometry, ABOUT)


def write(path, file_format, pixels, starts=None, geometry=GEOMETRY):
    """Write a whole volume."""
    spec = spec_of(pixels.shape[3], pixels.shape[:3], geometry)
    create(path, file_format, spec)
    for start in starts or range(0, len(pixels), DEPTH):
        write_slab(path, file_format, spec, start, pixels[start : start + DEPTH])
    finish(path, file_format, spec)
    return spec


def content(path):
    """Every file of a result, hidden ones too."""
    files = [path] if path.is_file() else sorted(each for each in path.rglob("*") if each.is_file())
    return {str(each.relative_to(path)): each.read_bytes() for each in files}


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("file_format", FORMATS)
def test_what_is_written_is_read(file_format, channels, tmp_path):
    pixels = random(channels)
    path = tmp_path / "deep" / file_name(file_format)
    write(path, file_format, pixels)
    stain = open_stain(path)
    assert (stain.shape, stain.channels, stain.levels[0]) == (SHAPE, channels, SHAPE)
    assert stain.geometry.spacing_um == GEOMETRY.spacing_um
    assert stain.geometry.origin_mm == GEOMETRY.origin_mm
    assert np.array_equal(stain.geometry.direction, GEOMETRY.direction)
    assert stain.about == ABOUT
    for box in (
        np.s_[:, :, :],
        np.s_[31:33, 5:-3, 120:260],
        np.s_[-1:, 132:, :1],
        np.s_[:, 60:61, :],
        np.s_[5:5, :, :],
    ):
        assert np.array_equal(stain.read(box), pixels[box])
    with pytest.raises(ValueError, match="steps"):
        stain.read(np.s_[::2, :, :])
    with pytest.raises(IndexError):
        stain.read(np.s_[:, :, :], 7)


def in_process(arguments):
    path, file_format, starts, cut = arguments
    for start in starts:
        slab = random()[start : start + DEPTH]
        write_slab(path, file_format, spec_of(), start, np.zeros_like(slab) if cut else slab)


@pytest.mark.parametrize("file_format", FORMATS)
def test_order_processes_and_repeats_leave_no_trace(file_format, tmp_path):
    write(tmp_path / "plain", file_format, random())
    expected = content(tmp_path / "plain")
    write(tmp_path / "other", file_format, random(seed=1))  # is replaced
    create(tmp_path / "other", file_format, spec_of())
    jobs = [[64, 0], [32, 64]]
    with multiprocessing.get_context("fork").Pool(2) as pool:
        pool.map(in_process, [(tmp_path / "other", file_format, [32], True)])  # wrong, as torn by a kill
        pool.map(in_process, [(tmp_path / "other", file_format, starts, False) for starts in jobs])
    for _ in range(2):
        finish(tmp_path / "other", file_format, spec_of())
        assert content(tmp_path / "other") == expected
    write_slab(tmp_path / "other", file_format, spec_of(), 32, random()[32:64])  # after the end, too
    assert content(tmp_path / "other") == expected


@pytest.mark.parametrize("file_format", FORMATS)
def test_nothing_unfinished_opens(file_format, tmp_path):
    path = tmp_path / file_name(file_format)
    create(path, file_format, spec_of())
    for start in STARTS:
        write_slab(path, file_format, spec_of(), start, random()[start : start + DEPTH])
    with pytest.raises(InputError, match=f"{path.name} cannot be read, .* so it was not finished"):
        open_stain(path)
    readers = {
        "tif": tifffile.imread,
        "nii": nibabel.load,
        "ome-zarr": lambda path: dict(zarr.open_group(path, mode="r").attrs)["multiscales"],
    }
    refusals = (KeyError, tifffile.TiffFileError, ImageFileError, HeaderDataError)
    with pytest.raises(refusals):
        readers[file_format](path)
    with pytest.raises(InputError):
        open_volume(path)


@pytest.mark.parametrize("file_format", FORMATS)
def test_a_stain_is_no_scan(file_format, tmp_path):
    path = tmp_path / file_name(file_format)
    write(path, file_format, random())
    words = {
        "ome-zarr": "has 3 channels; a scan is grey",
        "tif": "is in colour \\(PhotometricInterpretation RGB\\)",
        "nii": "holds RGB; .* grey",
    }
    with pytest.raises(InputError, match=f"{path.name}.* {words[file_format]}"):
        open_volume(path)


@pytest.mark.parametrize("file_format", FORMATS)
def test_a_full_disk_is_an_error(file_format, tmp_path):
    """The limit on a file's size stands for the disk: it too lets a part be written."""
    path = tmp_path / file_name(file_format)
    shape = (32, 256, 256)
    create(path, file_format, spec_of(shape=shape))
    old = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 19, old[0][1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            write_slab(path, file_format, spec_of(shape=shape), 0, random(shape=shape))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old[0])
        signal.signal(signal.SIGXFSZ, old[1])
    write_slab(path, file_format, spec_of(shape=shape), 0, random(shape=shape))
    finish(path, file_format, spec_of(shape=shape))
    assert np.array_equal(open_stain(path).read(np.s_[:, :, :]), random(shape=shape))


def test_zarr_reads_every_level(tmp_path):
    """The levels as the Zarr library sees them, against means by NumPy of what there is."""
    shape = (1030, 6, 5)
    pixels = random(shape=shape)
    write(tmp_path / "s", "ome-zarr", pixels, starts=[*range(0, 1030, DEPTH)][::-1])
    stain = open_stain(tmp_path / "s")
    assert stain.levels == level_shapes(shape) == [(1030, 6, 5), (515, 3, 3), (258, 2, 2), (129, 1, 1)]
    group = zarr.open_consolidated(tmp_path / "s", mode="r")
    finer = pixels
    for level, (depth, height, width) in enumerate(stain.levels):
        if level:
            boxes = itertools.product(range(depth), range(height), range(width))
            means = [
                finer[2 * z : 2 * z + 2, 2 * y : 2 * y + 2, 2 * x : 2 * x + 2].mean((0, 1, 2)) for z, y, x in boxes
            ]
            finer = np.floor(np.reshape(means, (depth, height, width, 3)) + 0.5).astype(np.uint8)
        assert np.array_equal(group[str(level)][:].transpose(1, 2, 3, 0), finer)
        assert np.array_equal(stain.read(np.s_[:, :, :], level), finer)
        assert np.array_equal(stain.read(np.s_[3:90, :1, -1:], level), finer[3:90, :1, -1:])


@pytest.mark.parametrize("channels", [3, 4])
def test_its_files_are_to_the_byte_those_that_tensorstore_writes(channels, tmp_path):
    """An encoder of another house; chunks of nothing but zeros, and those that edges cut, are whole too."""
    pixels = random(channels)
    pixels[:, :, :140] = 0
    write(tmp_path / "s", "ome-zarr", pixels)
    shutil.copytree(tmp_path / "s", tmp_path / "other")
    for chunk in (tmp_path / "other").glob("*/0/*/*/*"):
        chunk.unlink()
    for level in range(len(level_shapes(SHAPE))):
        kvstore = {"driver": "file", "path": f"{tmp_path / 'other' / str(level)}/"}
        store = {"driver": "zarr", "kvstore": kvstore, "store_data_equal_to_fill_value": True}
        tensorstore.open(store).result().write(pixels.transpose(3, 0, 1, 2)).result()
        pixels = halve(pixels)
    assert len(content(tmp_path / "s")) == 5 + 18 + 6
    assert content(tmp_path / "other") == content(tmp_path / "s")


def test_coarser_voxels_cover_the_same_ground(tmp_path):
    spec = write(tmp_path / "s", "ome-zarr", random())
    multiscale = json.loads((tmp_path / "s" / ".zattrs").read_text())["multiscales"][0]
    faces = []
    for dataset in multiscale["datasets"]:
        scale, translation = (each[each["type"]] for each in dataset["coordinateTransformations"])
        faces.append(np.subtract(translation, np.divide(scale, 2))[1:])
    assert len(faces) == 2
    assert faces[0] == pytest.approx(faces[1])
    first = np.array(spec.geometry.origin_mm[::-1]) * 1000 - np.array(spec.geometry.spacing_um) / 2
    assert faces[0] == pytest.approx(first)


def test_at_most_five_coarser_levels_whose_chunks_no_slabs_share():
    assert len(level_shapes((20000, 300, 300))) == 6
    assert len(level_shapes((1200, 1200, 1200))) == 4
    assert level_shapes((256, 9, 9)) == [(256, 9, 9)]
    assert DEPTH >> 5 == 1


def test_halves_of_constant_stay():
    for shape in ((1, 1, 1), (3, 4, 5), (2, 2, 2)):
        assert (halve(np.full((*shape, 4), 255, np.uint8)) == 255).all()


def test_a_nifti_too_long_is_refused_before_anything_is_removed(tmp_path):
    (tmp_path / "stained.nii").write_text("earlier")
    with pytest.raises(InputError, match="at most 32767 voxels along an axis, not 40000×2×2; write ome-zarr or tif"):
        create(tmp_path / "stained.nii", "nii", spec_of(shape=(40000, 2, 2)))
    assert (tmp_path / "stained.nii").read_text() == "earlier"


def test_offsets_beyond_4_gb(tmp_path):
    """A file with a hole: its last slab lies where 32 bits do not reach."""
    shape = (1601, 1000, 1000)
    for file_format in ("tif", "nii"):
        path = tmp_path / file_name(file_format)
        create(path, file_format, spec_of(shape=shape))
        last = random(shape=(1, 1000, 1000))
        write_slab(path, file_format, spec_of(shape=shape), 1600, last)
        finish(path, file_format, spec_of(shape=shape))
        assert path.stat().st_size > 4.8e9
        assert np.array_equal(open_stain(path).read(np.s_[1600:, :, :]), last)
        assert not open_stain(path).read(np.s_[900:901, :, :]).any()
    with tifffile.TiffFile(tmp_path / "stained.ome.tif") as file:
        assert file.is_bigtiff
        assert np.array_equal(file.pages[1600].asarray(), last[0])
    assert np.array_equal(nibabel.load(tmp_path / "stained.nii").dataobj[5:9, 7, 1600]["G"], last[0, 7, 5:9, 1])


@pytest.mark.parametrize("file_format", FORMATS)
def test_what_is_damaged_is_refused(file_format, tmp_path):
    path = tmp_path / file_name(file_format)
    with pytest.raises(InputError, match="does not exist"):
        open_stain(path)
    write(path, file_format, random())
    if file_format == "ome-zarr":
        chunk = path / "0" / "0" / "1" / "0" / "2"
        for spoil in (lambda: chunk.write_bytes(chunk.read_bytes()[:1000]), chunk.unlink):
            spoil()
            with pytest.raises(InputError, match="0/0/1/0/2 cannot be read"):
                open_stain(path).read(np.s_[40:41, :, :])
            assert np.array_equal(open_stain(path).read(np.s_[:32, :, :]), random()[:32])
        (path / ".zattrs").write_text("{")
    else:
        path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(InputError, match=f"{path.name} cannot be read, it may be truncated"):
        open_stain(path)


def test_what_is_none_of_ours_is_refused(tmp_path):
    (tmp_path / "stained.png").write_bytes(b"")
    tifffile.imwrite(tmp_path / "other.tif", random()[:3], photometric="rgb")
    zarr.open_group(tmp_path / "s.zarr", mode="w", zarr_format=2).attrs["a"] = 1
    for name in ("stained.png", "other.tif", "s.zarr"):
        with pytest.raises(InputError, match=f"{name} .*(no stained volume|cannot be read)"):
            open_stain(tmp_path / name)


def test_slabs_that_do_not_fit_are_refused(tmp_path):
    create(tmp_path / "s", "nii", spec_of())
    for start, slab in ((0, random()), (5, random()[:32]), (64, random()[:32]), (0, random(4)[:32])):
        with pytest.raises(ValueError, match="slab"):
            write_slab(tmp_path / "s", "nii", spec_of(), start, slab)
    with pytest.raises(ValueError, match="2 channels"):
        create(tmp_path / "s", "nii", spec_of(2))


def test_resolution_tags_of_a_tiff(tmp_path):
    write(tmp_path / "s.tif", "tif", random(shape=(2, 8, 9)))
    with tifffile.TiffFile(tmp_path / "s.tif") as file:
        tags = file.pages[1].tags
        across, down = (tags[name].value for name in ("XResolution", "YResolution"))
        assert (1e4 * across[1] / across[0], 1e4 * down[1] / down[0]) == pytest.approx((5, 6))
        assert tags["ResolutionUnit"].value == 3
        assert "ImageDescription" not in tags
    assert len(tiff.tiff_header(spec_of())) % tiff.ALIGN == 0


def test_names():
    names = {"nii": "stained.nii", "ome-zarr": "stained.ome.zarr", "tif": "stained.ome.tif"}
    assert {each: file_name(each) for each in FORMATS} == names
    assert stored.DEPTH == 32
