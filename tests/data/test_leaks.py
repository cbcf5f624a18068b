"""The same image or specimen on both sides of a split is found by whatever name it has."""

import json
import os
import shutil
import unicodedata

import numpy as np
import pytest
import tifffile

from bundle.common.errors import InputError
from bundle.common.values import first_spelling, same_text
from bundle.data.leaks import content, repeated, same_files, shared_images, shared_specimens
from bundle.data.load import load_datalist
from bundle.images.slides import read_slide, write_slide
from bundle.nuclei.dataset import load_nuclei
from bundle.nuclei.insilico.tiles import read_table as read_tiles
from bundle.preparation.tiles.slides import check_names, read_specimens
from tests.conftest import make_dataset
from tests.helpers.nuclei import make_nuclei

SAME_NAMES = [
    ("Goat 7", "Goat\u200b 7"),
    ("Goat 7", "\uff27oat\u00a07\u200f"),
    ("Ratte 1", "ratte 1 "),
    ("Ratte 1", "Ratte\u00a0 1"),
    ("Schädel", unicodedata.normalize("NFD", "Schädel")),
    ("STRASSE", "Straße"),
    ("Ångström", unicodedata.normalize("NFD", "åNGSTRÖM")),
]


def as_dotted(folder, file):
    return f"./{file}"


def as_symlink(folder, file):
    (folder / "link.png").symlink_to(folder / file)
    return "link.png"


def as_hard_link(folder, file):
    os.link(folder / file, folder / "hard.png")
    return "hard.png"


def as_copy(folder, file):
    shutil.copy(folder / file, folder / "copy.png")
    return "copy.png"


def as_other_format(folder, file):
    """Another file, byte by byte, of the same pixels."""
    pixels = read_slide(folder / file).pixels
    tifffile.imwrite(folder / "again.tif", pixels.transpose(1, 2, 0) if len(pixels) == 3 else pixels[0])
    return "again.tif"


WAYS = [as_dotted, as_symlink, as_hard_link, as_copy, as_other_format]


def edit(folder, change):
    listed = json.loads((folder / "datalist.json").read_text())
    change(listed)
    (folder / "datalist.json").write_text(json.dumps(listed))
    return str(folder)


def fault(load, folder, change):
    with pytest.raises(InputError) as raised:
        load(edit(folder, change))
    assert "\n" not in str(raised.value)
    return str(raised.value)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("side", ["source", "target"])
def test_an_image_on_both_sides_of_a_split_is_refused(dataset, way, side):
    name = way(dataset, f"{side}/01.png")
    change = lambda listed: listed["testing"][0].update({side: name})
    message = fault(load_datalist, dataset, change)
    assert message.startswith(f"datalist.json, testing[0]: {side} ")
    assert "which datalist.json, training[1] has for training, so the figures would flatter; move it" in message
    load_datalist(edit(dataset, lambda listed: listed.update(allow_same_specimen=True)))


@pytest.mark.parametrize("way", WAYS)
def test_a_pair_listed_twice_is_refused(dataset, way):
    def change(listed):
        listed["training"].append({**listed["training"][0], "source": way(dataset, "source/00.png")})

    assert "training[2]: shows the same as datalist.json, training[0]; leave one" in fault(
        load_datalist, dataset, change
    )


def test_the_folds_of_training_are_two_sides_too(dataset):
    name = as_copy(dataset, "source/00.png")
    folder = edit(dataset, lambda listed: listed["training"][1].update(source=name))
    load_datalist(folder)
    with pytest.raises(InputError, match=r"training\[0\]: source .* training\[1\] has for training"):
        load_datalist(folder, fold=0)


@pytest.mark.parametrize("way", WAYS)
def test_unpaired_images_and_nuclei_are_compared_too(tmp_path, way):
    nuclei = make_nuclei(tmp_path / "nuclei")
    name = way(nuclei, "images/0.png")
    message = fault(load_nuclei, nuclei, lambda listed: listed["testing"][0].update(image=name))
    assert "testing[0]: image " in message
    dataset = make_dataset(tmp_path / "data")
    alone = way(dataset, "target/00.png")
    load = lambda folder: load_datalist(folder, paired=False)
    message = fault(load, dataset, lambda listed: listed["testing"].append({"target": alone}))
    assert "testing[1]: target " in message


def test_images_of_one_value_are_nobodys(tmp_path):
    dataset = make_dataset(tmp_path)
    for number in (0, 2):
        write_slide(dataset / f"target/{number:02d}.png", np.full((3, 64, 72), 240, np.uint8))
    load_datalist(str(dataset), paired=False)  # of pairs, such a slide is refused for itself
    assert content(np.full((1, 4, 4), 7)) is None


@pytest.mark.parametrize(("one", "other"), SAME_NAMES)
def test_names_that_a_reader_takes_for_the_same_are_one_specimen(tmp_path, one, other):
    assert same_text(one) == same_text(other)
    assert first_spelling([one, other]) == {one: one, other: one}
    dataset, nuclei = make_dataset(tmp_path / "data"), make_nuclei(tmp_path / "nuclei")

    def change(listed):
        listed["training"][0]["specimen"], listed["testing"][0]["specimen"] = one, other

    for load, folder in ((load_datalist, dataset), (load_nuclei, nuclei)):
        message = fault(load, folder, change)
        assert f"specimen {one!r} is in training and as {other!r} in testing" in message


def test_folds_are_dealt_by_specimen_however_it_is_spelled(tmp_path):
    folder = make_dataset(tmp_path, pairs=10)
    names = ["Rat 0", "rat 0 ", *(f"rat {number}" for number in range(2, 10))]

    def change(listed):
        for entry, name in zip(listed["training"], names, strict=True):
            entry.update(specimen=name)
            del entry["fold"]

    data = load_datalist(edit(folder, change), fold=0)
    assert {pair.specimen for pair in data.validation} >= {"Rat 0", "rat 0 "}


def test_tables_of_tiles_and_slides_know_them_too(tmp_path):
    table = tmp_path / "table.csv"
    table.write_text("tile,specimen,split\na,Rat 1,training\nb,rat 1 ,testing\n")
    faults = []
    read_tiles(table, ["a", "b"], "training", faults)
    assert faults == [f"table {table}: specimen 'Rat 1' is in testing and in training; move it to one."]
    table.write_text("slide,specimen\na,Rat 1\nb,rat  1\n")
    assert read_specimens(table, ["a", "b"]) == {"a": "Rat 1", "b": "Rat 1"}


def test_a_slide_that_is_there_under_two_names_is_refused(tmp_path):
    for name, text in (("a.tif", b"one"), ("b.tif", b"two"), ("c.tif", b"three"), ("copy.tif", b"one")):
        (tmp_path / name).write_bytes(text)
    (tmp_path / "link.tif").symlink_to(tmp_path / "b.tif")
    files = sorted(tmp_path.iterdir())
    assert same_files(files) == [(files[0], tmp_path / "copy.tif"), (tmp_path / "b.tif", tmp_path / "link.tif")]
    with pytest.raises(InputError) as raised:
        check_names("source", files)
    assert [line.endswith("; leave one out.") for line in str(raised.value).splitlines()] == [True, True]


def test_what_cannot_be_compared_is_left_alone(tmp_path):
    files = {name: tmp_path / name for name in "ab"}
    assert repeated([("one", {"source": files["a"]}), ("two", {"source": files["b"]})], {}) == []
    assert shared_images({"x": [("one", {"source": files["a"]})], "y": [("two", {"source": files["b"]})]}, {}) == []
    assert shared_specimens({"x": ["1"], "y": ["2"], "z": []}, "list") == []


def test_the_cases(shared):
    folder = shared / "cases" / "datalists"
    for name, words in {
        "case.json": "specimen 'Ratte 1' is in training and as 'ratte 1 ' in testing",
        "dup.json": "training[2]: shows the same as dup.json, training[0]",
        "dup2.json": "testing[0]: source",
        "dup3.json": "ct/link.tif cannot be read",  # the link has become a file with its text there
        "dup5.json": "training[1]: shows the same as dup5.json, training[0]",
    }.items():
        with pytest.raises(InputError) as raised:
            load_datalist(str(folder), name)
        assert words in str(raised.value)
        assert len(str(raised.value).splitlines()) == 1
