"""Each format through the library by which a viewer reads it: known voxels, voxel size, place and colour."""

import json
import re
import subprocess
import sys
import urllib.request

import itk
import numpy as np
import pytest
import SimpleITK
import tensorstore
import tifffile

from bundle.images.stained.stored import file_name
from bundle.images.volumes.geometry import Geometry
from tests.conftest import ROOT
from tests.images.test_stain_io import GEOMETRY, write

PAGE = (ROOT / "docs" / "viewing.md").read_text(encoding="utf-8")
SHAPE = (33, 40, 270)
MARKS = {(0, 0, 0): (255, 0, 0), (32, 39, 269): (0, 255, 0), (5, 20, 130): (0, 0, 255), (31, 7, 200): (250, 150, 180)}


def marked(channels):
    pixels = np.full((*SHAPE, channels), 240, np.uint8)
    for place, colour in MARKS.items():
        pixels[place] = (*colour, 77)[:channels]
    return pixels


@pytest.fixture(scope="module", params=[3, 4], ids=["rgb", "rgba"])
def results(request, tmp_path_factory):
    """A folder with the three formats, and how many channels they have."""
    folder = tmp_path_factory.mktemp("viewers")
    for file_format in ("ome-zarr", "tif", "nii"):
        write(folder / file_name(file_format), file_format, marked(request.param))
    return folder, request.param


def check_marks(pixels, channels):
    """(Z, Y, X, C) as a viewer sees them."""
    assert pixels.shape == (*SHAPE, channels)
    for place, colour in MARKS.items():
        assert tuple(pixels[place]) == (*colour, 77)[:channels]
    assert tuple(pixels[1, 1, 1]) == (240,) * channels


def test_slicer_reads_nifti_by_itk(results):
    folder, channels = results
    image = itk.imread(folder / "stained.nii")
    pixel = itk.template(image)[1][0]
    assert pixel is (itk.RGBPixel if channels == 3 else itk.RGBAPixel)[itk.UC]
    check_marks(itk.array_from_image(image), channels)
    assert list(image.GetSpacing()) == pytest.approx([0.005, 0.006, 0.007])
    assert list(image.GetOrigin()) == pytest.approx(GEOMETRY.origin_mm)
    assert itk.array_from_matrix(image.GetDirection()) == pytest.approx(GEOMETRY.direction, abs=1e-6)


def test_slicer_reads_nifti_by_simpleitk(results):
    folder, channels = results
    image = SimpleITK.ReadImage(str(folder / "stained.nii"))
    assert image.GetNumberOfComponentsPerPixel() == channels
    check_marks(SimpleITK.GetArrayFromImage(image), channels)
    assert image.GetSpacing() == pytest.approx([0.005, 0.006, 0.007])
    assert image.GetOrigin() == pytest.approx(GEOMETRY.origin_mm)
    assert np.reshape(image.GetDirection(), (3, 3)) == pytest.approx(GEOMETRY.direction, abs=1e-6)


def test_a_mirrored_scan_is_mirrored_in_slicer(tmp_path):
    geometry = Geometry((7.0, 6.0, 5.0), (1.0, -2.0, 3.5), np.diag([1.0, 1.0, -1.0]))
    write(tmp_path / "s.nii", "nii", marked(3), geometry=geometry)
    image = itk.imread(tmp_path / "s.nii")
    assert itk.array_from_matrix(image.GetDirection()) == pytest.approx(geometry.direction, abs=1e-6)
    assert list(image.GetOrigin()) == pytest.approx(geometry.origin_mm)


def test_slicer_takes_no_depth_from_a_tiff(results):
    """As the page says; if ITK learns it, the page is to be mended."""
    image = itk.imread(results[0] / "stained.ome.tif")
    check_marks(itk.array_from_image(image), 3)  # and no alpha
    assert list(image.GetSpacing()) == pytest.approx([0.005, 0.006, 1.0], rel=1e-4)


def test_napari_reads_tiff_by_tifffile(results):
    folder, channels = results
    with tifffile.TiffFile(folder / "stained.ome.tif") as file:
        assert file.is_ome
        assert len(file.series) == 1
        assert file.series[0].axes == "ZYXS"
        check_marks(file.series[0].asarray(), channels)
        page = file.pages.first
        assert page.photometric == tifffile.PHOTOMETRIC.RGB
        assert page.extrasamples == (() if channels == 3 else (tifffile.EXTRASAMPLE.UNASSALPHA,))
        pixels = tifffile.xml2dict(file.ome_metadata)["OME"]["Image"]["Pixels"]
    assert [pixels[f"PhysicalSize{axis}"] for axis in "ZYX"] == [7.0, 6.0, 5.0]
    assert {pixels[f"PhysicalSize{axis}Unit"] for axis in "ZYX"} == {"µm"}
    assert (pixels["SizeC"], pixels["Channel"]["SamplesPerPixel"]) == (channels, channels)


def test_napari_shows_the_tiff_in_colour(results):
    builtins = pytest.importorskip("napari_builtins.io")
    layers = pytest.importorskip("napari.layers")
    path = str(results[0] / "stained.ome.tif")
    (data,) = builtins.napari_get_reader(path)(path)
    image = layers.Image(*data[:1], **(data[1] if len(data) > 1 else {}))
    assert image.rgb
    check_marks(np.asarray(image.data), results[1])


def test_napari_reads_ome_zarr_by_its_plugin(results):
    """Three additive channels of one range, so true colour; the plugin keeps the scale, but not yet the origin."""
    plugin = pytest.importorskip("napari_ome_zarr")
    components = pytest.importorskip("napari.components")
    folder, channels = results
    path = str(folder / "stained.ome.zarr")
    (layer,) = plugin.napari_get_reader(path)(path)
    levels, options, kind = layer
    assert kind == "image"
    assert [level.shape for level in levels] == [(channels, *SHAPE), (channels, 17, 20, 135)]
    check_marks(np.moveaxis(np.asarray(levels[0]), 0, -1), channels)
    shown = components.ViewerModel().add_image(levels, **options)
    assert [each.name.split()[-1] for each in shown] == ["Red", "Green", "Blue", "Alpha"][:channels]
    assert [each.visible for each in shown] == [True, True, True, False][:channels]
    for each, colour in zip(shown[:3], np.eye(3), strict=True):
        assert tuple(each.contrast_limits) == (0, 255)
        assert each.colormap.colors[-1][:3] == pytest.approx(colour)
        assert each.scale == pytest.approx(GEOMETRY.spacing_um)
        assert {str(unit) for unit in each.units} == {"micrometer"}
    assert {each.blending for each in shown[1:]} == {"additive"}


def test_ome_zarr_py_reads_all_of_the_geometry(results):
    """The reference reader of the NGFF community."""
    io, reader = pytest.importorskip("ome_zarr.io"), pytest.importorskip("ome_zarr.reader")
    folder, channels = results
    (node,) = reader.Reader(io.parse_url(str(folder / "stained.ome.zarr")))()
    check_marks(np.moveaxis(np.asarray(node.data[0]), 0, -1), channels)
    first, second = node.metadata["coordinateTransformations"]
    assert first[0]["scale"] == [1, 7, 6, 5]
    assert first[1]["translation"] == [0, 3500, -2000, 1000]
    assert second[0]["scale"] == [1, 14, 12, 10]
    assert second[1]["translation"] == [0, 3503.5, -1997, 1002.5]
    assert node.metadata["channel_names"] == ["Red", "Green", "Blue", "Alpha"][:channels]
    assert node.metadata["visible"] == [True, True, True, False][:channels]


def test_neuroglancer_reads_chunks_as_tensorstore_does(results):
    """By the same authors; that a chunk holds all channels is what lets its shader see colour."""
    folder, channels = results
    path = folder / "stained.ome.zarr" / "0"
    store = tensorstore.open({"driver": "zarr", "kvstore": {"driver": "file", "path": f"{path}/"}}).result()
    check_marks(np.moveaxis(store.read().result(), 0, -1), channels)
    assert store.chunk_layout.read_chunk.shape[0] == channels


def page_blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", PAGE, flags=re.DOTALL)


def test_the_page_s_layer_is_what_neuroglancer_takes():
    neuroglancer = pytest.importorskip("neuroglancer")
    (block,) = page_blocks("json")
    content = json.loads(block)
    state = neuroglancer.ViewerState(content)
    layer = state.layers["stained"].layer
    space = layer.source[0].transform.output_dimensions
    assert space.names == ("c^", "z", "y", "x")
    assert space.scales[1:].tolist() == [5e-6] * 3
    assert space.units[1:] == ("m", "m", "m")
    assert layer.source[0].url.endswith(f"/{file_name('ome-zarr')}")
    assert state.to_json()["layers"][0]["shader"] == content["layers"][0]["shader"]


def test_the_page_s_server_lets_a_browser_fetch_a_chunk(results, tmp_path):
    folder, _ = results
    code = next(block for block in page_blocks("python") if "ThreadingHTTPServer" in block)
    code = code.replace("ThreadingHTTPServer((", "server = ThreadingHTTPServer((").replace("9000", "0")
    code = code.replace(").serve_forever()", ")\nprint(server.server_port, flush=True)\nserver.serve_forever()")
    (tmp_path / "serve.py").write_text(code)
    command = [sys.executable, str(tmp_path / "serve.py"), str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        try:
            address = f"http://127.0.0.1:{int(server.stdout.readline())}/stained.ome.zarr"
            for name in (".zattrs", "0/.zarray", "0/0/1/0/2"):
                with urllib.request.urlopen(f"{address}/{name}", timeout=10) as answer:
                    assert answer.headers["Access-Control-Allow-Origin"] == "*"
                    content = answer.read()
                    assert content == (folder / "stained.ome.zarr" / name).read_bytes()
                part = urllib.request.Request(f"{address}/{name}", headers={"Range": "bytes=5-20000000"})
                with urllib.request.urlopen(part, timeout=10) as answer:  # as of a shard
                    assert (answer.status, answer.read()) == (206, content[5:])
                    assert answer.headers["Content-Range"] == f"bytes 5-{len(content) - 1}/{len(content)}"
        finally:
            server.terminate()
