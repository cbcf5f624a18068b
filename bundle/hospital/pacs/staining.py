"""The staining of a fetched series by the bundle's own configs, in a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from bundle.common.child import ends_with_parent
from bundle.common.errors import InputError
from bundle.common.trained_bundle import (
    SPEEDS,
    engine_settings,
    intensity_faults,
    read_grey_config,
    refusal_faults,
)
from bundle.common.verdicts import REFUSED
from bundle.hospital.objects.colour import KINDS
from bundle.hospital.pacs.faults import LaterError, UnlikeError
from bundle.images.stained.stored import file_name

ERROR = b"\nerror: "  # how a command of ours ends that found a fault; see bundle.common.errors
FRAMES = tuple(KINDS)
PAUSE_S = 0.2


@dataclass(frozen=True)
class Wanted:
    """What is made of a series.

    Attributes:
        bundle_root: the trained bundle.
        bone_intensity: mean grey value of bone in the scan.
        background_intensity: likewise, of background.
        speed: of ``volume.json``.
        frames: ``multi``: one Multi-frame True Color object, or as few as hold it; ``single``: one object a slice.
        refuse_unlike: refuse a scan that is unlike the training data; else it is marked as such.
    """

    bundle_root: Path
    bone_intensity: float | None
    background_intensity: float | None
    speed: str = SPEEDS[0]
    frames: str = FRAMES[0]
    refuse_unlike: bool = False

    def settings(self) -> dict[str, Any]:
        """What the picture depends on besides model and scan.

        Raises:
            InputError: with a line for each fault.
        """
        config = read_grey_config(self.bundle_root)
        faults = []
        for name in ("bone_intensity", "background_intensity"):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float))):
                faults.append(f"{name} is {value!r}; it must be a number.")
            elif value is None and config["source"].get(name) is not None:
                faults.append(f"{name} is not given; it is a grey value of this very scan, so pass --{name} N.")
        faults = faults or intensity_faults(config["source"], self.bone_intensity, self.background_intensity)
        for name, value, known in (("speed", self.speed, SPEEDS), ("frames", self.frames, FRAMES)):
            if value not in known:
                faults.append(f"{name} is {value!r}; it must be one of {', '.join(known)}.")
        if not (self.bundle_root / "configs" / "volume.json").is_file():
            faults.append(f"{self.bundle_root} has no configs/volume.json; give RUN/bundle of a run.")
        faults += refusal_faults(self.bundle_root, self.refuse_unlike)
        if faults:
            raise InputError("\n".join(faults))
        return engine_settings(config, self.speed, self.bone_intensity, self.background_intensity)


def stain_folder(wanted: Wanted, source: Path, output: Path, heed_stop: Callable[[], None]) -> Path:
    """Stain a folder of a series; what an earlier, stopped attempt has done is gone on with.

    Args:
        wanted: how.
        source: of the series' files.
        output: of the result.
        heed_stop: raises where the work is to end; the process is ended then.

    Returns:
        The OME-Zarr.

    Raises:
        InputError: with what the process said.
        LaterError: if it was killed.
        UnlikeError: if the scan is unlike the training data, where such are refused.
    """
    root = wanted.bundle_root.resolve()
    configs = [str(root / "configs" / name) for name in ("inference.json", "volume.json")]
    command = [
        *(sys.executable, "-m", "monai.bundle", "run", "inference", "--config_file", str(configs)),
        *("--bundle_root", str(root), "--input", str(source.resolve()), "--output_dir", str(output.resolve())),
        *("--speed", wanted.speed, "--sigma", str(wanted.settings()["sigma"])),
    ]
    for name in ("bone_intensity", "background_intensity"):
        command += [f"--{name}", str(getattr(wanted, name))]
    if wanted.refuse_unlike:
        command += ["--refuse_unlike", "True"]
    # a session of its own: what a terminal sends to all goes to us alone, who then end it
    with subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        preexec_fn=ends_with_parent(),
        start_new_session=True,
    ) as child:
        try:
            said = _pass_on(child, heed_stop)
            heed_stop()
        except BaseException:
            child.terminate()
            raise
    if child.returncode < 0:
        raise LaterError(
            f"the staining was ended by signal {-child.returncode} ({signal.Signals(-child.returncode).name}; "
            "with SIGKILL, the memory may have run out); the same command goes on with it."
        )
    if child.returncode and said.endswith(REFUSED):
        raise UnlikeError(said)
    if child.returncode:
        raise InputError(said or f"the staining failed (exit code {child.returncode}); why is said above.")
    return output / file_name("ome-zarr")


def _pass_on(child: subprocess.Popen[bytes], heed_stop: Callable[[], None]) -> str:
    """Show what the process writes to its stderr, but for its last line, the fault, if it ends with one."""
    pipe: IO[bytes] = child.stderr  # type: ignore[assignment]
    os.set_blocking(pipe.fileno(), False)
    held, said = b"", b""
    while True:
        heed_stop()
        block = pipe.read(1 << 16)
        if block is None:
            time.sleep(PAUSE_S)
            continue
        if not block:
            break
        if said:
            said += block
            continue
        shown, mark, fault = (held + block).partition(ERROR)
        said = mark + fault
        # what may be the beginning of the mark waits for the next block
        keep = 0 if said else next((n for n in range(len(ERROR) - 1, 0, -1) if shown.endswith(ERROR[:n])), 0)
        held = shown[len(shown) - keep :]
        sys.stderr.write(shown[: len(shown) - keep].decode(errors="replace"))
        sys.stderr.flush()
    sys.stderr.write(held.decode(errors="replace"))
    return said.removeprefix(ERROR).decode(errors="replace").strip()
