"""A datalist as it really comes: one line for whatever cannot be read, never a traceback, and nothing guessed."""

import json
import unicodedata

import pytest

from bundle.common.errors import InputError
from bundle.common.values import is_number, is_text, shown
from bundle.data.entries import file_of
from bundle.data.load import load_datalist
from bundle.nuclei.dataset import load_nuclei
from tests.conftest import make_dataset
from tests.helpers.nuclei import make_nuclei

DEEP = "[" * 100_000 + "]" * 100_000
NO_FILE = "it must be the name of a file; leave the key out if there is none."
NO_NAME = "it must be a name; leave the key out if there is none."


def entry(**changes):
    return lambda listed: listed["training"][0].update(changes)


def top(**changes):
    return lambda listed: listed.update(changes)


WRONG = {
    "mask a number": (entry(mask=7), f"training[0]: mask is 7; {NO_FILE}"),
    "mask a list": (entry(mask=["a"]), f"training[0]: mask is ['a']; {NO_FILE}"),
    "mask NaN": (entry(mask=float("nan")), f"training[0]: mask is nan; {NO_FILE}"),
    "mask empty": (entry(mask=""), f"training[0]: mask is ''; {NO_FILE}"),
    "mask of two lines": (entry(mask="a\nb"), f"training[0]: mask is 'a\\nb'; {NO_FILE}"),
    "source with a NUL": (entry(source="a\0"), f"training[0]: source is 'a\\x00'; {NO_FILE}"),
    "target a number": (entry(target=5), f"training[0]: target is 5; {NO_FILE}"),
    "lone surrogate": (entry(source="\ud800.png"), f"training[0]: source is '\\ud800.png'; {NO_FILE}"),
    "specimen null": (entry(specimen=None), f"training[0]: specimen is None; {NO_NAME}"),
    "specimen NaN": (entry(specimen=float("nan")), f"training[0]: specimen is nan; {NO_NAME}"),
    "specimen true": (entry(specimen=True), f"training[0]: specimen is True; {NO_NAME}"),
    "specimen blank": (entry(specimen="  "), f"training[0]: specimen is '  '; {NO_NAME}"),
    "group an object": (entry(group={"a": 1}), f"training[0]: group is {{'a': 1}}; {NO_NAME}"),
    "fold a float": (entry(fold=0.0), "training[0]: fold is 0.0; it must be a whole number of at least 0."),
    "fold true": (entry(fold=True), "training[0]: fold is True; it must be a whole number of at least 0."),
    "fold negative": (entry(fold=-1), "training[0]: fold is -1; it must be a whole number of at least 0."),
    "name too long": (entry(source="a" * 5000), "which no file can be called (File name too long)."),
    "a folder": (entry(source="source"), "training[0]: source "),
    "unknown key": (entry(sorce="x"), "training[0]: unknown key 'sorce'; known are fold, group, labels, mask,"),
    "Windows' path": (entry(source="source\\00.png"), "write / between folders and file: source/00.png."),
    "Windows' whole path": (entry(source="C:\\scans\\00.png"), "write / between folders and file: C:/scans/00.png."),
    "training an object": (
        top(training={"a": 1}),
        "training is {'a': 1}; it must be a list of entries.",
    ),
    "training null": (top(training=None), "datalist.json: training is None; it must be a list of entries."),
    "testing text": (top(testing="all"), "datalist.json: testing is 'all'; it must be a list of entries."),
    "an entry a number": (top(testing=[5]), "testing[0]: is 5; it must be an object with source and target."),
    "an entry deep": (top(testing=[[[[[[[1]]]]]]]), "testing[0]: is [[[[...]]]]; it must be an object"),
    "pixel size huge": (top(pixel_um=10**400), "pixel_um is 1000"),
    "pixel size endless": (top(pixel_um=float("inf")), "pixel_um is inf; give the pixel size in µm"),
    "pixel size of a town": (top(pixel_um=1e12), "pixel_um is 1000000000000.0; give the pixel size in µm"),
    "pixel size true": (top(pixel_um=True), "pixel_um is True; give the pixel size in µm"),
    "range huge": (lambda listed: listed["source"].update(range=[0, 10**400]), "source.range is [0, 1000"),
    "name of two lines": (lambda listed: listed["source"].update(name="a\nb"), "source.name is 'a\\nb'; name the"),
    "tissues null": (top(tissues=None), "tissues is None; name tissues with their label values"),
    "tissues true": (top(tissues={"bone": [True]}), "tissues is {'bone': [True]}; name tissues"),
    "description a list": (top(description=[1]), "description is [1]; it must be text."),
    "allow a word": (top(allow_same_specimen="yes"), "allow_same_specimen is 'yes'; it must be true or false."),
}
TEXTS = {
    "deep": (DEEP, "is nested deeper than any datalist; look at its brackets."),
    "deep objects": ('{"a":' * 100_000 + "1" + "}" * 100_000, "is nested deeper than any datalist"),
    "digits": ('{"pixel_um": ' + "9" * 5000 + "}", "is not valid JSON: Exceeds the limit"),
    "a comment": ("// mine\n{}", "JSON has no comments, and no comma after a last item."),
    "trailing comma": ('{"pixel_um": 5,}', "JSON has no comments, and no comma after a last item."),
    "key twice": ('{"training": [], "training": []}', "the key 'training' stands twice in one object"),
    "UTF-16": ('{"pixel_um": 5}'.encode("utf-16"), "is not UTF-8 text (byte 0); save it anew as UTF-8."),
    "Latin-1": ('{"description": "Schädel"}'.encode("latin-1"), "is not UTF-8 text (byte 20)"),
    "empty": ("", "is not valid JSON"),
    "a list": ("[]", "holds a list; it must be one object."),
    "NaN": ("NaN", "holds a float; it must be one object."),
}


def refusal(load, folder):
    with pytest.raises(InputError) as raised:
        load(str(folder))
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 700
    return str(raised.value)


def edited(folder, change):
    listed = json.loads((folder / "datalist.json").read_text())
    change(listed)
    (folder / "datalist.json").write_text(json.dumps(listed))
    return folder


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_value_is_one_line_with_the_entry_the_key_and_the_value(dataset, name):
    change, message = WRONG[name]
    assert message in refusal(load_datalist, edited(dataset, change))


@pytest.mark.parametrize("name", TEXTS)
def test_a_file_that_is_no_list_is_one_line(dataset, name):
    text, message = TEXTS[name]
    (dataset / "datalist.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    for load in (load_datalist, load_nuclei):
        assert message in refusal(load, dataset)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image": 5}, f"training[0]: image is 5; {NO_FILE}"),
        ({"labels": None}, "training[0]: has no labels; an image of nuclei comes with its labels."),
        ({"specimen": {}}, f"training[0]: specimen is {{}}; {NO_NAME}"),
        ({"fold": 1}, "training[0]: unknown key 'fold'; known are group, image, labels, specimen."),
    ],
)
def test_lists_of_nuclei_are_held_to_the_same(tmp_path, changes, message):
    assert message in refusal(load_nuclei, edited(make_nuclei(tmp_path), entry(**changes)))


def test_a_byte_order_mark_and_numbers_as_names_are_read(dataset):
    edited(dataset, entry(specimen=7, group=3))
    path = dataset / "datalist.json"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    pair = load_datalist(str(dataset)).training[0]
    assert (pair.specimen, pair.group) == ("7", "3")


@pytest.mark.parametrize(("listed", "there"), [("NFD", "NFC"), ("NFC", "NFD"), ("NFC", "NFC")])
def test_umlauts_are_found_in_either_form_of_unicode(tmp_path, listed, there):
    folder = make_dataset(tmp_path / "Daten für Müller 1")
    name = "Färbung blau/Schädel 1.png"
    path = folder / unicodedata.normalize(there, name)
    path.parent.mkdir()
    (folder / "target/00.png").rename(path)
    edited(folder, entry(target=unicodedata.normalize(listed, name)))
    data = load_datalist(str(folder))
    assert data.training[0].target == path
    assert str(path.relative_to(folder)) in data.checksums


def test_two_files_that_differ_in_form_alone_are_not_guessed_between(tmp_path):
    names = [unicodedata.normalize(form, "é_ü.png") for form in ("NFC", "NFD")]
    for name in names:
        (tmp_path / name).touch()
    mixed = names[0][0] + names[1][2:]
    assert file_of(tmp_path, mixed) == tmp_path / mixed
    assert [file_of(tmp_path, name) for name in names] == [tmp_path / name for name in names]


def test_values_are_told_short_and_on_one_line():
    assert shown("a\nb" * 1000).count("\n") == 0
    assert len(shown([["x" * 1000] * 1000] * 1000)) <= 300
    assert not any(map(is_number, (True, float("nan"), float("inf"), 10**400, "1", None)))
    assert not any(map(is_text, ("", " ", "a\tb", "a\0", "\ud800", 1, None)))
    assert is_text("Färbung 1 % – µm")


def test_the_cases(shared):
    folder = shared / "cases" / "datalists"
    read = {("bom.json", 2), ("datalist.json", 2), ("one.json", 1)}
    for name, number in read:
        assert len(load_datalist(str(folder), name).training) == number
    mueller = next(each for each in folder.iterdir() if each.is_dir() and each.name.startswith("Daten"))
    for name in ("datalist.json", "nfd.json"):
        assert len(load_datalist(str(mueller), name).training) == 1
    refused = ("comment", "empty", "ffold", "mlist", "nan", "null", "tdict", "tint", "trail", "u16", "win")
    for name in refused:
        with pytest.raises(InputError, match=rf"{name}\.json"):
            load_datalist(str(folder), f"{name}.json")
    with pytest.raises(InputError, match="is not UTF-8"):
        load_datalist(str(mueller), "latin.json")
