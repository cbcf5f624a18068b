"""Names of places, files in them, and what goes wrong on the way."""

from __future__ import annotations

import logging
import socket
import subprocess
import sys
import time

import fsspec
import pytest

from bundle.common import remote
from bundle.common.atomic import check_writable, read_array, whole_file, write_array, write_json
from bundle.common.errors import InputError
from bundle.common.places import contents, is_remote, opened, place, remove, shown, write_files
from tests.conftest import ROOT
from tests.helpers.s3 import BUCKET, SECRET

URLS = {
    "https://user:hunter2@host/scan.nii": "https://host/scan.nii",
    "s3://AKIA:hunter2@bucket/scan.nii": "s3://bucket/scan.nii",
    "https://user:hun/ter2@host/scan.nii": "https://host/scan.nii",
    "https://host/scan.nii?X-Amz-Signature=hunter2": "https://host/scan.nii",
    "https://host/scan.nii?a=b@c&X-Amz-Signature=hunter2#d": "https://host/scan.nii",
    "https://host?X-Amz-Signature=hunter2/": "https://host/",
}


@pytest.mark.parametrize("url", URLS)
def test_secrets_in_a_url_are_refused_and_not_repeated(url):
    with pytest.raises(InputError) as caught:
        place(url)
    assert "ter2" not in str(caught.value)
    assert shown(url) == URLS[url]


@pytest.mark.parametrize("url", ["http://example.org/a.zarr", "nowhere://a/b", "s3://a/b::file:///c", "https://[a"])
def test_other_urls_are_refused(url):
    with pytest.raises(InputError):
        place(url)


def test_names_of_this_machine_stay_what_they_are(tmp_path):
    for name in ("scan.nii", "C:/scan.nii", "a:b/scan.h5:/entry", str(tmp_path)):
        assert str(place(name)) == name
        assert not is_remote(place(name))
    assert place(f"file://{tmp_path}/a%20b.nii") == tmp_path / "a b.nii"
    assert place(f"file://localhost{tmp_path}/a.nii") == tmp_path / "a.nii"
    with pytest.raises(InputError, match="is on server"):
        place("file://server/a.nii")
    assert place(tmp_path) is tmp_path


def test_a_file_appears_whole_or_not_at_all(store):
    path = place(f"s3://{BUCKET}/whole/a.json")
    write_json(path, {"a": 1})

    def torn():
        with whole_file(path) as partial:
            partial.write_text("torn")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        torn()
    assert path.read_text() == '{\n    "a": 1\n}\n'
    check_writable(path.parent)
    assert set(store.objects("whole")) == {"a.json"}


def test_faults_of_the_store_are_one_line_each_without_a_secret(store, monkeypatch, caplog):
    caplog.set_level(logging.DEBUG, "bundle")
    path = place(f"s3://{BUCKET}/notes.txt")
    path.write_bytes(b"words")

    def told():
        with pytest.raises(InputError) as caught:
            place(str(path)).read_bytes()
        text = str(caught.value)
        assert SECRET not in text
        assert "AKIAPLANTED" not in text
        assert "\n" not in text
        return text

    store.check_keys(0)
    try:
        assert "refuses the credentials that are set (InvalidAccessKeyId)" in told()
        with pytest.raises(InputError, match=r"notes.txt (refuses|may not be used)"):
            path.exists()  # a HEAD has no words of why
    finally:
        store.check_keys(float("inf"))
    fresh = fsspec.get_filesystem_class("s3").clear_instance_cache
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    fresh()
    assert "needs credentials, and none were found" in told()
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    fresh()
    assert "by a profile that does not exist" in told()
    monkeypatch.delenv("AWS_PROFILE")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAPLANTED")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    fresh()
    began = time.monotonic()
    assert "cannot be reached (EndpointConnectionError)" in told()
    assert time.monotonic() - began < 30
    fresh()


def test_a_store_that_takes_connections_and_is_silent_is_not_waited_for_forever(store, monkeypatch):
    monkeypatch.setattr(remote, "READ_SECONDS", 1)  # of 15
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        began = time.monotonic()
        with pytest.raises(InputError, match="cannot be reached"):
            place(f"s3://{BUCKET}/notes.txt").read_bytes()
        assert time.monotonic() - began < 1 * remote.ATTEMPTS * remote.AGAIN**2 + 30  # and what is slept between
    fsspec.get_filesystem_class("s3").clear_instance_cache()


def test_the_ways_to_set_an_endpoint(store, monkeypatch, tmp_path):
    path = f"s3://{BUCKET}/endpoint.txt"
    place(path).write_bytes(b"words")
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    fresh = fsspec.get_filesystem_class("s3").clear_instance_cache
    profile = tmp_path / "config"
    profile.write_text(f"[profile lab]\nendpoint_url = {store.url}\nregion = us-east-1\n")
    ways = ({"AWS_ENDPOINT_URL_S3": store.url}, {"AWS_CONFIG_FILE": str(profile), "AWS_PROFILE": "lab"})
    for way in ways:
        with monkeypatch.context() as patch:
            for name, value in way.items():
                patch.setenv(name, value)
            fresh()
            assert place(path).read_bytes() == b"words"
    with monkeypatch.context() as patch:
        patch.setitem(fsspec.config.conf, "s3", {"endpoint_url": store.url})  # as of FSSPEC_S3_ENDPOINT_URL, or a file
        fresh()
        assert place(path).read_bytes() == b"words"
    fresh()


@pytest.mark.parametrize("scheme", ["s3", "gs"])
def test_a_library_that_is_missing_is_named(scheme):
    code = f"""
import sys
sys.modules.update(dict.fromkeys(("s3fs", "gcsfs")))
from bundle.common.places import place
try:
    place("{scheme}://a/b")
except Exception as error:
    print(type(error).__name__, error)
"""
    said = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert said.startswith(
        f"InputError {scheme}://a/b needs a library that is not installed; pip install 'virtual-staining[cloud]'"
    )


def test_nothing_of_it_is_imported_for_names_of_this_machine():
    code = "import sys; from bundle.common.places import place; place('a/b'); print(sorted(sys.modules))"
    said = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert not {"fsspec", "upath", "s3fs"} & set(eval(said))


@pytest.mark.parametrize("far", [False, True])
def test_files_are_written_and_read_in_both_kinds_of_places(request, tmp_path, far):
    if far:
        request.getfixturevalue("store")
    folder = place(f"s3://{BUCKET}/both") if far else tmp_path / "both"
    files = {folder / "a" / f"{number}.bin": bytes(range(number, number + 20)) for number in range(70)}
    write_files(files)
    assert list(contents(list(files))) == list(files.values())
    assert list(contents(list(files), 3, 4)) == [content[3:7] for content in files.values()]
    with pytest.raises(EOFError):
        list(contents(list(files), 19, 4))
    with pytest.raises(FileNotFoundError):
        list(contents([folder / "a" / "none"]))
    with opened(folder / "a" / "7.bin", 8) as file:
        file.seek(5)
        assert file.read(9) == bytes(range(12, 21))
        assert file.seek(-3, 2) == 17
        assert file.read() == bytes(range(24, 27))
    write_array(folder / "b.npy", [[1.5, 2.5]])
    assert read_array(folder / "b.npy").tolist() == [[1.5, 2.5]]
    remove(folder / "a")
    remove(folder / "none")
    assert [each.name for each in folder.iterdir()] == ["b.npy"]
