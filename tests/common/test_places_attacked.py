"""URLs as they are mistyped, pasted with a signature, or of what cannot hold a result."""

from __future__ import annotations

from pathlib import Path

import pytest

from bundle.common.atomic import check_writable
from bundle.common.errors import InputError
from bundle.common.places import is_remote, place, shown
from bundle.studies.study import Study

REFUSED = {
    "s3://": "names no bucket",
    "s3:///key": "names no bucket",
    "https:///key": "names no bucket or server",
    "s3:/bucket/x": r"is no URL; write s3://PLACE/NAME",
    "https:/host/x": r"is no URL; write https://PLACE/NAME",
    "simplecache::s3://bucket/x": "is no URL",
    "memory://x/y": "is gone when the command ends",
    "github://x": "cannot be opened by its URL alone",
    "zip://a": "cannot be opened by its URL alone",
}
SIGNED = [
    "s3://bucket/x?X-Amz-Signature=hunter2",
    "s3://bucket/x?versionId=1&X-Amz-Signature=hunter2",
    "gs://bucket/x?GoogleAccessId=me&Signature=hunter2",
    "az://place/x?sv=2024&sig=hunter2",
]


@pytest.mark.filterwarnings("ignore")  # of schemes that UPath does not know
@pytest.mark.parametrize("url", REFUSED)
def test_it_is_refused_in_a_line(url, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=REFUSED[url]):
        place(url)


@pytest.mark.parametrize("url", SIGNED)
def test_a_signature_is_refused_and_not_repeated_whatever_the_scheme(url):
    with pytest.raises(InputError, match="a query that may be a signature") as raised:
        place(url)
    assert "hunter2" not in str(raised.value)
    assert shown(url) == url.partition("?")[0]


def test_a_key_may_hold_a_question_mark_and_a_folder_a_colon(tmp_path, monkeypatch):
    assert is_remote(place("s3://bucket/what?.nii"))
    assert shown("s3://bucket/what?.nii") == "s3://bucket/what?.nii"
    monkeypatch.chdir(tmp_path)
    (tmp_path / "s3:").mkdir()
    assert place("s3:/") == tmp_path.joinpath("s3:").relative_to(tmp_path)


@pytest.mark.parametrize(
    "url", ["s3://bucket//a", "s3://bucket/a//b", "s3://bucket/a/../b", "s3://bucket/./b", "s3://b/.."]
)
def test_a_result_has_no_empty_names_on_its_way(url):
    with pytest.raises(InputError, match=r"output_dir s3://.* has an empty name, a \. or a \.\. between"):
        check_writable(place(url))


@pytest.mark.parametrize("given", ["s3://bucket/a", Path("s3://bucket/a"), "file:///a", Path("https://host/a")])
def test_what_is_written_on_a_disk_only_is_not_put_into_a_folder_named_like_a_url(given, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="is a URL, but this is written on a disk only; name a folder"):
        check_writable(given)
    with pytest.raises(InputError, match="is a URL"):
        Study(given, "data", [], {}, {})
    assert not list(tmp_path.iterdir())
