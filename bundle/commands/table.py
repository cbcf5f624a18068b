"""What ``virtual-staining`` can do: one table, which imports nothing of what it names."""

from __future__ import annotations

from dataclasses import dataclass

PROGRAM = "virtual-staining"
GROUPS = {
    "start": "Start here",
    "data": "Data: pairs of images and their datasets",
    "model": "Models: train, measure, compare",
    "stain": "Stain, and look closely",
    "nuclei": "Nuclei",
    "hospital": "Hospital",
    "sharing": "Share",
}


@dataclass(frozen=True)
class Form:
    """A function that a command runs.

    Attributes:
        target: ``module:function``.
        examples: what may follow the command's name.
        usage: the same for any case; None makes it of the arguments.
        title: which form it is, where a command has several.
        word: that chooses it, typed first; None if the options do.
    """

    target: str
    examples: tuple[str, ...]
    usage: str | None = None
    title: str = ""
    word: str | None = None


@dataclass(frozen=True)
class Ids:
    """Ids of configs that are options of a command too.

    Attributes:
        heading: of their group in ``--help``.
        sections: how the headings begin that they stand under in ``docs/configuration.md``.
        left_out: those that the command sets itself, or that are in another group.
        only: those that are wanted; None for all.
    """

    heading: str
    sections: tuple[str, ...]
    left_out: tuple[str, ...] = ()
    only: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Command:
    """A command.

    Attributes:
        name: as typed.
        group: one of :data:`GROUPS`.
        summary: one line.
        forms: what it runs, several only if a word or the options choose.
        chooser: ``module:function`` that takes the words and gives a form's number; None where there is one, or a word
            chooses.
        script: the module of ``scripts`` that does the same; None if there is none.
        ids: of configs, which are options too.
    """

    name: str
    group: str
    summary: str
    forms: tuple[Form, ...]
    chooser: str | None = None
    script: str | None = None
    ids: tuple[Ids, ...] = ()


def _one(name: str, group: str, summary: str, target: str, *examples: str, script: str | None = None) -> Command:
    return Command(name, group, summary, (Form(target, examples),), script=script or name.replace("-", "_"))


OF_DATA = ("dataset_dir", "datalist", "fold", "device", "seed")
OF_PATHS = ("bundle_root", "input", "dataset_dir", "output_dir")
PHANTOM = "bundle.preparation.phantom"
REGISTRATION = "bundle.preparation.registration"
COMMANDS = (
    Command(
        "demo",
        "start",
        "stain a slice of a phantom with the small model that comes with the program, in a minute",
        (Form("bundle.commands.demo:demo", ("demo_out",), "OUTPUT [--OPTION VALUE]"),),
    ),
    _one(
        "phantom",
        "start",
        "make a dataset of phantoms, computed pairs of µCT and stain, to try things out",
        f"{PHANTOM}.dataset:make_dataset",
        "--output data --pairs 12 --volumes false",
        "--output data --pairs 12 --seed 1 --stain he",
    ),
    _one(
        "laboratory",
        "start",
        "make scans and slides that are not registered yet, as a laboratory has them",
        f"{PHANTOM}.laboratory:make_laboratory",
        "--output raw --specimens 8",
    ),
    Command(
        "register",
        "data",
        "find a section in a scan, or bring two slides onto one grid; or do so with every line of a table",
        (
            Form(
                f"{REGISTRATION}.run:register",
                ("--volume scan.nii.gz --section slide.tif --output pairs/01",),
                title="A section in a scan",
            ),
            Form(
                f"{REGISTRATION}.two_slides.run:register_slides",
                ("--source he.svs --target ki67.svs --output pairs/01 --pixel_um 2",),
                title="Two slides",
            ),
            Form(
                f"{REGISTRATION}.many:register_many",
                ("--table pairs.csv --output pairs",),
                title="A table of either",
            ),
        ),
        chooser=f"{REGISTRATION}.forms:form_of",
        script="register",
    ),
    _one(
        "prepare",
        "data",
        "make a dataset of registered pairs",
        "bundle.preparation.pairs.dataset:prepare",
        "--pairs pairs --output dataset",
        "--pairs pairs --output dataset --table study.csv --approve true",
    ),
    _one(
        "pairs",
        "data",
        "make a dataset of two folders of registered images, without writing JSON",
        "bundle.preparation.pairs.from_folders:pairs_from_folders",
        "--source ct --target stain --output dataset --pixel_um 5 --specimen 'rat{}'",
        "--source ct --target stain --mask mask --output dataset --specimen file --testing 0.2",
    ),
    _one(
        "tile",
        "data",
        "cut slides of two stains into tiles of an unpaired dataset",
        "bundle.preparation.tiles.command:tile",
        '--source "he/*.tif" --source_name "H&E" --target "ki67/*.tif" --target_name Ki-67 --output dataset',
    ),
    _one(
        "intensities",
        "data",
        "find the grey values of bone and background in a new scan",
        "bundle.preparation.pairs.intensities:intensities",
        "--input scan.nii.gz",
    ),
    _one(
        "versions",
        "data",
        "copy a dataset and add versions of it for studies: moved targets, fewer pairs",
        "bundle.preparation.dataset_variants:write_versions",
        '--dataset_dir dataset --output versions --misalign_px "[2,5,10]" --pairs_per_fold "[2,4]"',
    ),
    _one(
        "cells",
        "data",
        "make tiles of phantom cells, IHC and fluorescence, with known nuclei",
        f"{PHANTOM}.cell_dataset:make_cells",
        "--output cells --tiles 48 --testing 16",
    ),
    _one(
        "cell-slide",
        "data",
        "make a whole slide of phantom cells",
        f"{PHANTOM}.cell_slide:make_cell_slide",
        "--output slide.tif --height 6000 --width 8000 --stain he",
    ),
    _one(
        "series",
        "data",
        "write a scan as a DICOM series, to try the hospital's commands out",
        "bundle.hospital.objects.ct_command:series",
        "--input scan.nii.gz --output series",
    ),
    Command(
        "train",
        "model",
        "train a model on a dataset",
        (
            Form(
                "bundle.commands.train:train",
                (
                    "dataset run",
                    "dataset run --profile demo --fold 0",
                    "dataset run --method paired --epochs 200 --batch_size 8",
                    "dataset run --resume true",
                ),
                "DATASET RUN [--method METHOD] [--profile PROFILE] [--ID VALUE]",
            ),
        ),
        ids=(
            Ids(
                "Ids of configs/train.json",
                ("configs/train.json",),
                ("dataset_dir", "output_dir", "bundle_root", "method"),
            ),
            Ids("Ids of the methods firm and field", ("The ids of firm.json",)),
            Ids("Ids of the method field", ("The ids of field.json",)),
            Ids("Ids of the methods ki67 and restain", ("The ids of ki67.json",)),
        ),
    ),
    Command(
        "evaluate",
        "model",
        "measure a trained model, and write its page",
        (
            Form(
                "bundle.commands.evaluate:evaluate",
                ("run", "run --eval_splits '[\"testing\"]' --eval_patch 128"),
                "RUN [--ID VALUE]",
            ),
        ),
        ids=(
            Ids("In place of what the run's record says", ("configs/train.json",), only=OF_DATA),
            Ids("Ids of configs/evaluate.json, for registered pairs", ("configs/evaluate.json",)),
            Ids("Ids of configs/evaluate_unpaired.json, for other images", ("configs/evaluate_unpaired.json",)),
        ),
    ),
    _one(
        "study",
        "model",
        "train and measure several methods on one dataset, and compare them",
        "bundle.studies.command:study",
        '--dataset_dir dataset --output_dir study --methods "[paired,one_way,firm]" --profile demo',
        "--dataset_dir dataset --output_dir study --variants configs/studies/phantom.json",
    ),
    _one(
        "repeat",
        "model",
        "train a run again from its record, and say whether the same weights came out",
        "bundle.studies.repeating:repeat",
        "--provenance run/provenance.json --output_dir again",
    ),
    _one(
        "report",
        "model",
        "make the page of a run, or of a stained volume or slide, again",
        "bundle.report.run:remake",
        "--output_dir run",
    ),
    Command(
        "stain",
        "stain",
        "stain an image, a folder of images, a volume or a whole slide",
        (
            Form(
                "bundle.commands.stain:stain",
                (
                    "slice.tif stained --bundle run/bundle",
                    "slices stained --bundle run/bundle --kind slides",
                    "scan.nii.gz stained --bundle run/bundle --speed fast --hull true",
                    "slide.svs stained --bundle run/bundle --pixel_um 0.5",
                ),
                "INPUT OUTPUT --bundle BUNDLE [--kind KIND] [--ID VALUE]",
            ),
        ),
        ids=(
            Ids("Ids of all kinds (configs/inference.json)", ("configs/inference.json",), OF_PATHS),
            Ids("Ids of a volume (configs/volume.json)", ("configs/volume.json",), OF_PATHS),
            Ids("Ids of a whole slide (configs/slide.json)", ("configs/slide.json",), OF_PATHS),
        ),
    ),
    _one(
        "resolution",
        "stain",
        "measure the resolution of images, or between two",
        "bundle.evaluation.resolution_command:resolution",
        "slice.tif --gain 12.5",
        "stained.png real.png --between",
    ),
    _one(
        "volume-scores",
        "stain",
        "score stained volumes against a true one",
        "bundle.evaluation.volumes_command:volume_scores",
        "--stained stained/stained.ome.zarr --truth stain.nii.gz --labels labels.nii.gz",
    ),
    _one(
        "insilico",
        "nuclei",
        "make labelled brightfield images for a segmenter of nuclei",
        "bundle.nuclei.insilico.command:insilico",
        "--input tiles --labels labels --edits configs/edits/membrane.json --model_bundle run/bundle --output insilico",
    ),
    Command(
        "pacs",
        "hospital",
        "find a series in a PACS, stain it, and store the result in the same study",
        (
            Form(
                "bundle.hospital.pacs.commands:find",
                ("--pacs https://pacs.lab/dicom-web --patient PHANTOM-1",),
                title="Find series",
                word="find",
            ),
            Form(
                "bundle.hospital.pacs.commands:stain",
                ("--pacs https://pacs.lab/dicom-web --series 2.25.1385 --bundle run/bundle --rules rules.json",),
                title="Stain one",
                word="stain",
            ),
            Form(
                "bundle.hospital.pacs.commands:watch",
                ("--pacs https://pacs.lab/dicom-web --bundle run/bundle --rules rules.json --every 60",),
                title="Stain what comes in",
                word="watch",
            ),
        ),
        script="pacs",
    ),
    _one(
        "export",
        "sharing",
        "pack a trained bundle for others: as a zip, or as a folder for a hub",
        "bundle.training.export:export",
        "--bundle run/bundle --output bone_stain.zip --name bone_stain",
        "--bundle run/bundle --hub bone_stain",
    ),
)
BY_NAME = {command.name: command for command in COMMANDS}
BY_SCRIPT = {command.script: command for command in COMMANDS if command.script}
