"""Scans and stained volumes in an object store and on a web server, as they are on a disk."""

from __future__ import annotations

import contextlib
import functools
import http.server
import io
import logging
import threading

import fsspec
import h5py
import nibabel
import numpy as np
import pytest
import tifffile
import zarr

from bundle.common.errors import InputError
from bundle.images.slides import write_slide
from bundle.images.volumes.volume import open_volume
from tests.helpers.s3 import BUCKET, SECRET
from tests.helpers.volumes import make_voxels, write_scan

SHAPE = (40, 30, 20)


@pytest.fixture(scope="module")
def voxels():
    return make_voxels(SHAPE)


def ome_zarr(folder, voxels, version):
    group = zarr.open_group(folder, mode="w", zarr_format=version)
    array = group.create_array("0", shape=voxels.shape, chunks=(16, 16, 16), dtype=voxels.dtype)
    array[:] = voxels
    scale = [{"type": "scale", "scale": [5.0, 5.0, 5.0]}]
    axes = [{"name": name, "type": "space", "unit": "micrometer"} for name in "zyx"]
    entry = {"version": "0.4", "axes": axes, "datasets": [{"path": "0", "coordinateTransformations": scale}]}
    fields = {"multiscales": [entry]}
    group.attrs.update(fields if version == 2 else {"ome": {"version": "0.5", **fields}})
    return folder


def hdf5(path, voxels, **layout):
    with h5py.File(path, "w") as file:
        data = file.create_dataset("entry/data", data=voxels, **layout)
        data.attrs["element_size_um"] = [5.0, 5.0, 5.0]
    return path


def stack(path, voxels, **how):
    tifffile.imwrite(path, voxels, metadata={"axes": "ZYX", "spacing": 5.0, "unit": "um"}, resolution=(0.2, 0.2), **how)
    return path


def ome_tiff(path, voxels):
    sizes = {f"PhysicalSize{axis}": 5.0 for axis in "XYZ"} | {f"PhysicalSize{axis}Unit": "µm" for axis in "XYZ"}
    tifffile.imwrite(path, voxels, ome=True, compression="zlib", metadata={"axes": "ZYX", **sizes})
    return path


def slices(folder, voxels):
    for number, each in enumerate(voxels):
        write_slide(folder / f"slice_{number:03d}.tif", each[None], 5.0)
    return folder


def nrrd_of(path, voxels):
    nrrd = pytest.importorskip("nrrd")
    nrrd.write(str(path), voxels.T, {"space directions": np.eye(3) * 0.005, "space": "left-posterior-superior"})
    return path


WRITERS = {
    "zarr2.ome.zarr": lambda path, voxels: ome_zarr(path, voxels, 2),
    "zarr3.ome.zarr": lambda path, voxels: ome_zarr(path, voxels, 3),
    "chunked.h5": lambda path, voxels: hdf5(path, voxels, chunks=(8, 16, 16), compression="gzip"),
    "plain.h5": hdf5,
    "plain.tif": lambda path, voxels: stack(path, voxels, imagej=True),
    "packed.ome.tif": lambda path, voxels: ome_tiff(path, voxels),
    "slices": slices,
    "scan.nii": write_scan,
    "scan.nii.gz": write_scan,
    "scan.nrrd": nrrd_of,
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_scan_in_a_bucket_is_what_it_is_on_a_disk(store, voxels, tmp_path, name):
    local = WRITERS[name](tmp_path / name, voxels)
    url = store.upload(local, name)
    size = 5.0 if name == "slices" else None
    here, there = open_volume(local, size), open_volume(url, size)
    assert str(there.path) == url
    assert (there.shape, there.dtype, there.depth) == (here.shape, here.dtype, here.depth)
    assert there.geometry.spacing_um == here.geometry.spacing_um == (5.0, 5.0, 5.0)
    assert there.geometry.origin_mm == here.geometry.origin_mm
    assert np.array_equal(there.read(0, SHAPE[0]), voxels)
    assert np.array_equal(there.read(3, 9), voxels[3:9])


def test_a_dataset_in_a_file_in_a_bucket_is_named_as_on_a_disk(store, voxels, tmp_path):
    with h5py.File(tmp_path / "two.h5", "w") as file:
        file["a/one"], file["a/two"] = voxels, voxels + 1
    url = store.upload(tmp_path / "two.h5", "two.h5")
    assert np.array_equal(open_volume(f"{url}:/a/two", 5.0).read(0, 5), voxels[:5] + 1)
    with pytest.raises(InputError, match=rf"give one: {url}:/a/one"):
        open_volume(url, 5.0)
    with pytest.raises(InputError, match=r"has no dataset /a/three"):
        open_volume(f"{url}:/a/three", 5.0)


def test_each_chunk_of_an_ome_zarr_is_fetched_once(store, voxels, tmp_path):
    url = store.upload(ome_zarr(tmp_path / "a.zarr", voxels, 2), "once.zarr")
    volume = open_volume(url)
    before = len(store.asked())
    for start in range(0, SHAPE[0], volume.depth):
        volume.read(start, min(start + volume.depth, SHAPE[0]))
    asked = [line for line in store.asked()[before:] if "/once.zarr/0/" in line and ".z" not in line.rpartition("/")[2]]
    assert len(asked) == len(set(asked)) == 3 * 2 * 2


def test_a_slab_of_a_large_file_is_one_request(store, tmp_path):
    voxels = np.arange(20 * 256 * 256, dtype=np.uint16).reshape(20, 256, 256)
    url = store.upload(hdf5(tmp_path / "large.h5", voxels), "large.h5")
    volume = open_volume(url)
    volume.read(0, 1)
    before = len(store.asked())
    assert np.array_equal(volume.read(4, 12), voxels[4:12])
    assert len(store.asked()) - before == 1


def test_what_is_made_of_several_files_is_refused(store, voxels, tmp_path):
    with h5py.File(tmp_path / "source.h5", "w") as file:
        file["data"] = voxels
    with h5py.File(tmp_path / "virtual.h5", "w") as file:
        layout = h5py.VirtualLayout(voxels.shape, voxels.dtype)
        layout[:] = h5py.VirtualSource("source.h5", "data", voxels.shape)
        file.create_virtual_dataset("data", layout)
    store.upload(tmp_path / "source.h5", "v/source.h5")
    with pytest.raises(InputError, match="read from a disk only"):
        open_volume(store.upload(tmp_path / "virtual.h5", "v/virtual.h5"), 5.0)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (f"s3://{BUCKET}/nothing.nii", "does not exist"),
        (f"s3://{BUCKET}/nothing.zarr", "does not exist"),
        ("s3://no-such-bucket/scan.nii", "in a bucket that does not exist, no-such-bucket"),
        ("s3://no-such-bucket/scan.zarr", "in a bucket that does not exist, no-such-bucket"),
        (f"s3://{BUCKET}/notes.txt", "not a scan that this program reads from there"),
    ],
)
def test_what_is_not_there_is_told_in_a_line(store, name, words):
    store.client().put_object(Bucket=BUCKET, Key="notes.txt", Body=b"words")
    with pytest.raises(InputError, match=words) as caught:
        open_volume(name)
    assert "\n" not in str(caught.value)


def test_a_truncated_file_is_told_as_on_a_disk(store, voxels, tmp_path):
    for name in ("scan.nii", "plain.h5", "plain.tif", "scan.nii.gz", "packed.ome.tif"):
        whole = WRITERS[name](tmp_path / name, voxels).read_bytes()
        store.client().put_object(Bucket=BUCKET, Key=f"cut/{name}", Body=whole[: len(whole) * 2 // 3])
        with pytest.raises(InputError, match=rf"s3://{BUCKET}/cut/{name}") as caught:
            open_volume(f"s3://{BUCKET}/cut/{name}").read(0, SHAPE[0])
        assert "\n" not in str(caught.value)


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves ranges, and only those who know the query; HEAD is refused, as of a presigned GET."""

    query = ""

    def log_message(self, *_):
        pass

    def do_HEAD(self):  # noqa: N802
        self.send_error(403)

    def do_GET(self):  # noqa: N802
        path, _, query = self.path.partition("?")
        if self.query and query != self.query:
            return self.send_error(403)
        self.path = path
        part = self.headers.get("Range")
        if not part or part == "bytes=0-":
            return super().do_GET()
        try:
            with open(self.translate_path(path), "rb") as file:  # noqa: PTH123
                content = file.read()
        except OSError:
            return self.send_error(404)
        first, last = part.removeprefix("bytes=").split("-")
        some = content[int(first) : int(last) + 1]
        self.send_response(206)
        self.send_header("Content-Length", str(len(some)))
        self.send_header("Content-Range", f"bytes {first}-{int(first) + len(some) - 1}/{len(content)}")
        self.end_headers()
        return self.wfile.write(some)


@contextlib.contextmanager
def web(folder, handler=Handler):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(handler, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.parametrize("name", ["zarr2.ome.zarr", "zarr3.ome.zarr", "chunked.h5", "packed.ome.tif", "scan.nii.gz"])
def test_a_scan_on_a_web_server(voxels, tmp_path, name):
    WRITERS[name](tmp_path / name, voxels)
    with web(tmp_path) as url:
        volume = open_volume(f"{url}/{name}")
        assert np.array_equal(volume.read(0, SHAPE[0]), voxels)
        assert volume.geometry.spacing_um == (5.0, 5.0, 5.0)
        with pytest.raises(InputError, match="does not exist"):
            open_volume(f"{url}/not-{name}")
    with pytest.raises(InputError, match="cannot be reached"):
        open_volume(f"{url}/{name}")


def test_a_server_that_knows_no_parts_of_files_serves_an_ome_zarr_and_nothing_else(voxels, tmp_path):
    class Whole(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    WRITERS["zarr2.ome.zarr"](tmp_path / "zarr2.ome.zarr", voxels)
    large = np.tile(voxels, (9, 9, 9))
    hdf5(tmp_path / "large.h5", large)
    write_scan(tmp_path / "large.nii", large)
    with web(tmp_path, Whole) as url:
        assert np.array_equal(open_volume(f"{url}/zarr2.ome.zarr").read(0, SHAPE[0]), voxels)
        with pytest.raises(InputError, match=r"gave \d+ bytes where \d+ were asked for|Unable to"):
            open_volume(f"{url}/large.h5").read(0, 5)
        with pytest.raises(InputError, match=r"gave \d+ bytes where \d+ were asked for"):
            open_volume(f"{url}/large.nii").read(0, 5)


def test_a_presigned_url_is_given_in_a_file_and_shown_nowhere(voxels, tmp_path, capsys, caplog):
    caplog.set_level(logging.DEBUG)
    (tmp_path / "served").mkdir()
    write_scan(tmp_path / "served" / "scan.nii", voxels)
    handler = type("Signed", (Handler,), {"query": f"X-Amz-Signature={SECRET}"})
    link = tmp_path / "scan.url"
    with web(tmp_path / "served", handler) as url:
        link.write_text(f"{url}/scan.nii?X-Amz-Signature={SECRET}\n")
        volume = open_volume(str(link))
        assert str(volume.path) == f"{url}/scan.nii"
        assert np.array_equal(volume.read(0, SHAPE[0]), voxels)
        link.write_text(f"{url}/scan.nii?X-Amz-Signature=wrong{SECRET}\n")
        with pytest.raises(InputError, match="may not be used with the credentials") as caught:
            open_volume(str(link))
    told = io.StringIO()
    told.write(str(caught.value) + repr(volume) + repr(volume.path) + capsys.readouterr().out)
    told.write("".join(record.getMessage() for record in caplog.records if record.name.startswith("bundle")))
    assert SECRET not in told.getvalue()
    link.write_text("not a URL")
    with pytest.raises(InputError, match="holds no URL"):
        open_volume(str(link))


def test_nibabel_reads_what_this_reads(store, voxels, tmp_path):
    url = store.upload(write_scan(tmp_path / "scan.nii.gz", voxels), "judge/scan.nii.gz")
    with fsspec.open(url, "rb", compression="gzip") as file:
        image = nibabel.Nifti1Image.from_bytes(file.read())
    assert np.array_equal(np.asarray(image.dataobj).T, open_volume(url).read(0, SHAPE[0]))
