"""Tiles are cut where a hand's count puts them, hold the slide's own pixels or their means, and keep apart."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
from skimage.measure import block_reduce

from bundle.common.errors import InputError
from bundle.data.load import load_datalist
from bundle.images.channel_slides import facts_of, opened, ratio_of
from bundle.images.slides import read_slide
from bundle.images.tissue import KINDS, optical_density, tissue_share
from bundle.preparation.tiles.grid import Area, HoldOut, parse_hold_out, places, positions
from tests.helpers.tiling import HALF, cut, fault, pixels_of, stained, write
from tests.helpers.tiling import slides as slides
from tests.helpers.whole_slides import aperio, slide


@pytest.mark.parametrize(
    ("first", "last", "tile", "overlap", "expected"),
    [
        (0, 100, 40, 20, [0, 20, 40, 60]),
        (0, 105, 40, 20, [0, 20, 40, 60, 65]),
        (10, 105, 40, 20, [10, 30, 50, 65]),
        (0, 105, 40, 0, [0, 40]),
        (0, 40, 40, 39, [0]),
        (0, 39, 40, 20, []),
    ],
)
def test_positions_as_counted_by_hand(first, last, tile, overlap, expected):
    assert positions(first, last, tile, overlap) == expected


def test_a_large_image_of_the_paper_gives_its_number_of_tiles():
    # Liu et al. §4.1: 150 images of 6000² px at 40× gave about 60,000 tiles at 20×
    found = places({"training": Area(0, 0, 3000, 3000)}, 288, {"training": 144})
    assert 150 * len(found) == 60000


@pytest.mark.parametrize("side", ["left", "right", "top", "bottom"])
def test_parts_share_no_pixel(side):
    seen = np.zeros((100, 140, 2), int)
    areas = HoldOut(side, 0.35).areas(seen.shape[:2])
    for place in places(areas, 20, {"training": 10, "testing": 10}):
        seen[place.top : place.top + 20, place.left : place.left + 20, int(place.split == "testing")] += 1
    training, testing = (seen > 0).transpose(2, 0, 1)
    assert not (training & testing).any()
    assert testing.mean() == pytest.approx(0.35, abs=0.01)
    assert (~training & ~testing).sum() in (100, 140)  # the one line between them
    row, column = (grid[testing].mean() / size for grid, size in zip(np.indices((100, 140)), (100, 140), strict=True))
    middle = {"left": column, "top": row, "right": 1 - column, "bottom": 1 - row}[side]
    assert middle == pytest.approx(0.175, abs=0.01)


def test_tiles_are_slices_of_the_slide(slides):
    listed, table, told = cut(slides)
    assert listed["pixel_um"] == pytest.approx(0.5)
    assert len(table) == 4 * 5 * 7
    for row in table:
        folder = {"source": "he", "target": "ki67"}[row["side"]]
        whole = tifffile.imread(slides / folder / f"{row['slide']}.tif")
        top, left = int(row["top"]), int(row["left"])
        assert (top, left) == (16 * int(row["row"]), 16 * int(row["column"]))
        assert np.array_equal(pixels_of(slides, row), whole[top : top + 32, left : left + 32])
    assert listed["training"][0] == {"source": "source/s1/y00000_x00000.png", "specimen": "s1"}
    assert read_slide(slides / "tiles" / table[0]["file"]).pixel_um == pytest.approx(0.5, rel=1e-4)
    assert "Nothing is for testing" in told


@pytest.mark.parametrize("options", [{"shrink": 2}, {"tile_um": 1.0}])
def test_shrinking_is_the_mean_of_blocks(slides, options):
    listed, table, _ = cut(slides, **options)
    assert listed["pixel_um"] == pytest.approx(1.0)
    for row in [row for row in table if row["side"] == "source"]:
        whole = block_reduce(tifffile.imread(slides / f"he/{row['slide']}.tif"), (2, 2, 1), np.mean)
        top, left = int(row["top"]) // 2, int(row["left"]) // 2
        assert np.abs(pixels_of(slides, row) - whole[top : top + 32, left : left + 32]).max() <= 0.5 + 1e-3


@pytest.mark.parametrize("ratio", [1.0, 1.7, 2.0, 3.5])
def test_rows_that_come_in_bands_are_those_of_the_whole(tmp_path, ratio, monkeypatch):
    whole = stained(101, 90)
    facts = facts_of(write(tmp_path / "a.tif", whole, rowsperstrip=7, compression="zlib"))
    edges = np.arange(0, 101 / ratio + 0.5).astype(int)
    with opened(facts, ratio, None) as scan:
        at_once = np.concatenate(list(scan.rows()))
    monkeypatch.setattr("bundle.images.averaging.BLOCK", 3 * 90 * 5)
    with opened(facts, ratio, None) as scan:
        banded = list(scan.rows())
    assert len(banded) > 8
    np.testing.assert_allclose(np.concatenate(banded), at_once, atol=1e-3)
    assert at_once.shape[:2] == scan.size
    assert scan.size[0] in (edges[-1], edges[-1] + 1)
    fine = whole.repeat(10, 0).repeat(10, 1)  # a box is now 10 · ratio pixels, a whole number
    box = round(10 * ratio)
    rows, columns = fine.shape[0] // box, fine.shape[1] // box
    expected = block_reduce(fine[: rows * box, : columns * box], (box, box, 1), np.mean)
    np.testing.assert_allclose(at_once[:rows, :columns], expected, atol=1e-3)


def test_the_same_bytes_whatever_the_number_of_threads(slides, monkeypatch):
    for count in "1", "3":
        monkeypatch.setenv("OMP_NUM_THREADS", count)
        cut(slides, output=f"tiles{count}", shrink=1.5)
    one, three = (
        {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        for folder in (slides / "tiles1", slides / "tiles3")
    )
    assert len(one) > 4 * 5
    assert one == three


def pyramid(path, whole):
    with tifffile.TiffWriter(path) as file:
        options = {"photometric": "rgb", "tile": (32, 32), "compression": "zlib"}
        file.write(whole, subifds=1, **HALF, **options)
        file.write(block_reduce(whole, (2, 2, 1), np.mean).astype(np.uint8), subfiletype=1, **options)


def test_a_pyramid_gives_the_same_tiles_from_its_coarser_level(slides, monkeypatch):
    whole = (stained(96, 128) // 4 * 4).repeat(2, 0).repeat(2, 1)  # so that its half is exact
    for folder in ("he", "ki67"):
        for number in (1, 2):
            (slides / folder / f"s{number}.tif").unlink()
        pyramid(slides / folder / "p.tif", whole)
    decoded = []
    from bundle.images import channel_slides as module

    flat = module._flat

    def counted(level, *others):
        made = flat(level, *others)

        def box(rows, columns):
            decoded.append((level.shape, rows.stop - rows.start))
            return made.box(rows, columns)

        return module.Level(made.shape, made.band, box)

    monkeypatch.setattr(module, "_flat", counted)
    monkeypatch.setattr("bundle.images.averaging.BLOCK", 1)
    _, table, _ = cut(slides, shrink=2)
    for row in table:
        top, left = int(row["top"]) // 2, int(row["left"]) // 2
        assert np.array_equal(pixels_of(slides, row), whole[::2, ::2][top : top + 32, left : left + 32])
    assert {shape for shape, _ in decoded} == {(96, 128)}
    assert max(rows for _, rows in decoded) == 32  # one row of stored tiles at a time
    assert sum(rows for _, rows in decoded) == 2 * 96  # each of them once


def test_a_slide_of_a_scanner(tmp_path):
    for folder in ("he", "ki67"):
        (tmp_path / folder).mkdir()
        aperio(tmp_path / folder / "a.svs", slide())
    listed, table, _ = cut(tmp_path, tile=96, overlap=0, source_threshold=-1, target_threshold=-1)
    assert listed["pixel_um"] == 0.5
    assert len(table) == 2 * 5 * 6
    for row in table:
        top, left = int(row["top"]), int(row["left"])
        assert np.array_equal(pixels_of(tmp_path, row), slide()[top : top + 96, left : left + 96])


def test_tissue_is_where_it_was_planted(tmp_path):
    glass = np.full((160, 160, 3), 240, np.uint8)
    glass[64:128, 64:128] = (180, 90, 160)
    for folder in ("he", "ki67"):
        write(tmp_path / folder / "a.tif", glass)
    _, table, _ = cut(tmp_path, tile=32, overlap=0, least_tissue=1.0)
    kept = {(int(row["top"]), int(row["left"])) for row in table if row["side"] == "source" and row["file"]}
    assert kept == {(64, 64), (64, 96), (96, 64), (96, 96)}
    _, table, _ = cut(tmp_path, "more", tile=32, overlap=16, least_tissue=0.5)
    kept = {(int(row["top"]), int(row["left"])) for row in table if row["side"] == "source" and row["file"]}
    inside, half = {64, 80, 96}, {48, 112}
    expected = {(top, left) for top in inside | half for left in inside | half if not {top, left} <= half}
    assert kept == expected
    shares = {row["tissue"] for row in table if row["file"]}
    assert shares == {"1.0000", "0.5000"}


def test_optical_density_is_that_of_the_darkest_channel():
    pixels = np.array([[[255, 25.5, 255], [255, 255, 255], [0, 0, 0]]], np.float32)
    np.testing.assert_allclose(optical_density(pixels, (0, 255)), [[1, 0, np.log10(255)]], atol=1e-6)


def fluorescence(folder, dtype=np.uint16, scale=4000, **options):
    """Five channels; a lit square in 1 and 3 on a noisy dark field."""
    field = np.random.default_rng(0).random((5, 160, 160)) * 0.02
    field[[1, 3], 64:128, 64:128] += 0.5
    options = {"photometric": "minisblack", "metadata": {"axes": "CYX"}, **HALF, **options}
    return write(folder / "a.tif", (field * scale).astype(dtype), **options)


@pytest.mark.parametrize("options", [{}, {"tile": (32, 32), "compression": "zlib"}])
@pytest.mark.parametrize(("dtype", "scale"), [(np.uint16, 4000), (np.float32, 1)])
def test_fluorescence_by_channels(tmp_path, dtype, scale, options):
    write(tmp_path / "he/a.tif", stained(160, 160))
    whole = tifffile.imread(fluorescence(tmp_path / "ki67", dtype, scale, **options))
    channels = {"target_channels": {"DAPI": 1, "membrane": 3}, "target_range": [0, scale]}
    listed, table, _ = cut(tmp_path, overlap=0, **channels)
    assert listed["target"] == {
        "name": "Ki-67",
        "channels": 2,
        "channel_names": ["DAPI", "membrane"],
        "range": [0, scale],
    }
    kept = [row for row in table if row["side"] == "target" and row["file"]]
    assert {(int(row["top"]), int(row["left"])) for row in kept} == {(64, 64), (64, 96), (96, 64), (96, 96)}
    for row in kept:
        top, left = int(row["top"]), int(row["left"])
        found = read_slide(tmp_path / "tiles" / row["file"]).pixels
        assert found.dtype == dtype
        assert np.array_equal(found, whole[[1, 3], top : top + 32, left : left + 32])


def test_a_field_without_background_needs_a_threshold(tmp_path):
    write(tmp_path / "he/a.tif", stained(160, 160))
    noise = np.random.default_rng(0).integers(0, 255, (2, 160, 160), dtype=np.uint8)
    write(tmp_path / "ki67/a.tif", noise, photometric="minisblack", metadata={"axes": "CYX"})
    message = fault(tmp_path)
    assert "ki67/a.tif" in message
    assert "--target_threshold" in message
    assert len(cut(tmp_path, target_threshold=0)[0]["training"]) == 2 * 81


def test_share_of_tissue_against_a_count():
    tile = np.full((32, 32, 3), 255, np.uint8)
    tile[:8, :24] = 100
    assert tissue_share(tile, KINDS["brightfield"], 0.1, (0, 255)) == pytest.approx(3 / 16)


def test_hold_out_divides_one_slide(slides):
    listed, table, _ = cut(slides, hold_out="right:0.4", paired_testing=True)
    assert listed["allow_same_specimen"] is True
    testing = [(int(row["top"]), int(row["left"])) for row in table if row["split"] == "testing"]
    training = [int(row["left"]) for row in table if row["split"] == "training"]
    assert max(training) + 32 == 77  # of 128 columns, 51 are held out
    assert set(testing) == {(top, 78) for top in (0, 32, 64)}  # they do not overlap
    assert listed["testing"][0] == {
        "source": "source/s1/y00000_x00078.png",
        "target": "target/s1/y00000_x00078.png",
        "specimen": "s1",
    }
    assert len(listed["testing"]) == 6
    assert all(len(entry) == 2 for entry in listed["training"])


def test_paired_testing_needs_tissue_in_both(slides):
    half = stained(seed=11)
    half[:, 96:] = 255
    write(slides / "ki67/s1.tif", half)
    listed, table, told = cut(slides, testing=["s1"], paired_testing=True)
    assert len(listed["testing"]) == 9
    assert {entry["specimen"] for entry in listed["testing"]} == {"s1"}
    assert {entry["specimen"] for entry in listed["training"]} == {"s2"}
    files = {str(path.relative_to(slides / "tiles")) for path in (slides / "tiles").rglob("*.png")}
    assert files == {row["file"] for row in table if row["file"]}
    assert files == {
        value for entry in listed["testing"] + listed["training"] for key, value in entry.items() if key != "specimen"
    }
    assert "allow_same_specimen" not in listed
    assert told.splitlines()[1].split() == ["H&E", "s1", "0", "9", "3"]


def test_tiles_overlap_by_half_unless_told(slides):
    _, table, _ = cut(slides, tile=48, overlap=None)
    assert {int(row["left"]) for row in table} == {0, 24, 48, 72, 80}


def test_unpaired_testing_lists_each_stain_alone(slides, capsys):
    listed, _, _ = cut(slides, testing="s1")
    assert [len(entry) for entry in listed["testing"]] == [2] * 24
    assert "--paired_testing true" in capsys.readouterr().out


def test_a_share_is_drawn_by_specimen_and_again_the_same(tmp_path):
    lines = ["slide;specimen"]
    for number in range(6):
        write(tmp_path / f"he/h{number}.tif", stained(seed=number))
        write(tmp_path / f"ki67/k{number}.tif", stained(seed=number))
        lines += [f"h{number};p{number // 2}", f"k{number}.tif;p{number // 2}"]
    (tmp_path / "table.csv").write_text("\n".join(lines))
    options = {"testing": 0.34, "specimens": tmp_path / "table.csv", "seed": 3}
    listed, _, _ = cut(tmp_path, **options)
    tested = {entry["specimen"] for entry in listed["testing"]}
    assert len(tested) == 1
    assert len({entry["specimen"] for entry in listed["training"]} | tested) == 3
    assert not tested & {entry["specimen"] for entry in listed["training"]}
    assert cut(tmp_path, "again", **options)[0] == listed
    for path in (tmp_path / "tiles").rglob("*.*"):
        assert path.read_bytes() == (tmp_path / "again" / path.relative_to(tmp_path / "tiles")).read_bytes()
    drawn = {
        cut(tmp_path, f"seed{seed}", **{**options, "seed": seed})[0]["testing"][0]["specimen"] for seed in range(6)
    }
    assert len(drawn) > 1


def test_files_of_other_pixel_sizes_come_to_one(slides, capsys):
    write(slides / "ki67/s2.tif", stained(seed=5), resolution=(10000, 10000))
    assert "--tile_um 1 or more" in fault(slides)
    listed, table, _ = cut(slides, tile_um=1)
    assert listed["pixel_um"] == 1
    assert {row["slide"] for row in table if row["side"] == "target" and int(row["left"]) == 96} == {"s2"}
    assert "means of 1 to 2 px" in capsys.readouterr().out


def test_a_ratio_is_whole_unless_that_shifts_tiles(tmp_path):
    facts = facts_of(write(tmp_path / "a.tif", stained()))
    assert ratio_of(facts, 0.25001, 0.5) == 2
    assert ratio_of(facts, 0.23, 0.5) == pytest.approx(0.5 / 0.23)
    with pytest.raises(InputError, match=r"a\.tif has pixels of 0\.6 µm, coarser than the 0\.5 µm"):
        ratio_of(facts, 0.6, 0.5)


def test_it_loads_as_an_unpaired_dataset(slides):
    cut(slides, testing="[s1]", paired_testing=True)
    data = load_datalist(slides / "tiles", patch_size=32, paired=False)
    assert len(data.images("training", "source")) == 35
    assert len(data.images("testing", "target")) == len(data.testing) == 12


def test_parse_hold_out():
    assert parse_hold_out("top:0.25") == HoldOut("top", 0.25)
