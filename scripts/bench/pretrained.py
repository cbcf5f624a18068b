"""Make the packaged model of a finished training on phantoms (``make pretrained``).

``python -m scripts.bench.pretrained --run RUN`` copies what staining needs of ``RUN/bundle`` to ``bundle/pretrained``,
weights in half precision, without the code, which the package has itself.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from bundle.common.atomic import whole_folder
from bundle.common.command_line import command
from bundle.common.home import HOME, PRETRAINED
from bundle.common.run_folder import read_record
from bundle.networks.checkpoints import check_finite, load_tensors, save_tensors

COPIED = (
    *(f"configs/{name}" for name in ("inference.json", "volume.json", "slide.json", "metadata.json", "logging.conf")),
    *(f"models/{name}" for name in ("likeness.npz", "sections.npz", "error_map.pt")),
)
LARGEST = 500_000  # bytes of a file in this repository


def pack(run: str, output: str = str(PRETRAINED)) -> str:
    """Copy a trained bundle without its code.

    Args:
        run: the folder of a training on phantoms, with --fold, so that it has an error map.
        output: the folder to make; what is there is replaced.
    """
    bundle, card = Path(run) / "bundle", PRETRAINED / "docs" / "README.md"
    metadata = read_record(bundle / "configs" / "metadata.json")
    if "phantom" not in metadata["description"]:
        raise ValueError(f"{bundle} was not trained on phantoms: {metadata['description']}")
    text = card.read_text(encoding="utf-8")
    shutil.rmtree(output, ignore_errors=True)
    with whole_folder(Path(output)) as folder:
        for name in COPIED:
            (folder / name).parent.mkdir(exist_ok=True)
            shutil.copy(bundle / name, folder / name)
        weights = {name: value.half() for name, value in load_tensors(bundle / "models" / "model.pt").items()}
        check_finite(weights, bundle / "models" / "model.pt")  # half precision ends at 65504
        save_tensors(weights, folder / "models" / "model.pt")
        (folder / "docs").mkdir()
        (folder / "docs" / "README.md").write_text(text, encoding="utf-8")
        shutil.copy(HOME / "LICENSE", folder)
        for path in folder.rglob("*"):
            if path.is_file() and path.stat().st_size > LARGEST:
                raise ValueError(f"{path} has {path.stat().st_size} bytes; a file here has at most {LARGEST}")
    return f"{output}: {metadata['trained_on']}"


if __name__ == "__main__":
    command(pack)
