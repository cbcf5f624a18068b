"""Serve a trained bundle with MONAI Label: ``python -m scripts.label --bundle RUN/bundle --studies FOLDER …``."""

from __future__ import annotations

import os
import re
import shutil
import socket
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from bundle.common.atomic import check_writable
from bundle.common.command_line import as_bool, command
from bundle.common.errors import InputError
from bundle.common.trained_bundle import fingerprint, intensity_faults, read_stock_config, refusal_faults

SECRETS = "MONAI_LABEL_DICOMWEB_USERNAME and MONAI_LABEL_DICOMWEB_PASSWORD"  # of the environment
HERE = Path(__file__).resolve().parent
ENVIRONMENT = "VIRTUAL_STAINING_LABEL"
NAMES = "VIRTUAL_STAINING_LABEL_NAMES"  # for lib/server.py
NAME = re.compile(r"[0-9A-Za-z]([0-9A-Za-z.-]*[0-9A-Za-z])?|[0-9A-Fa-f:]*:[0-9A-Fa-f:.]*")
EVERYWHERE = ("0.0.0.0", "::")
# What MONAI Label is told by its environment: no training, no file of its own outside the work folder
QUIET = {
    "MONAI_LABEL_TASKS_TRAIN": "false",
    "MONAI_LABEL_TASKS_SCORING": "false",
    "MONAI_LABEL_TRACKING_ENABLED": "false",
    "MONAI_ZOO_SOURCE": "local",
}


def main(
    bundle: str,
    studies: str,
    bone_intensity: float | None = None,
    background_intensity: float | None = None,
    refuse_unlike: bool = False,
    stow: bool = False,
    host: str = "127.0.0.1",
    port: int = 8000,
    names: str | Sequence[str] = (),
    name: str = "virtual_staining",
    work_dir: str = "output/label",
) -> None:
    """Start the server; it runs until it is stopped.

    Args:
        bundle: the trained bundle, RUN/bundle.
        studies: a folder of grey volumes, or http://HOST:PORT/dicom-web (user and password: see docs/label.md).
        bone_intensity: mean grey value of bone in the scans, for requests that give none.
        background_intensity: likewise, of background.
        refuse_unlike: refuse scans that are unlike the model's training data; else the answer says so.
        stow: put each result into the PACS.
        host: address to listen on.
        port: likewise.
        names: by which clients may call the server besides localhost, its address and ``host``: machine.lab,10.1.2.3.
        name: of the model, for clients.
        work_dir: for the application, its log, and what it fetches from the PACS.
    """
    stow, refuse_unlike = as_bool("stow", stow), as_bool("refuse_unlike", refuse_unlike)
    remote = str(studies).startswith(("http://", "https://"))
    root = Path(bundle).resolve()
    _check(root, bone_intensity, background_intensity, refuse_unlike)
    if remote and "@" in urlsplit(studies).netloc:
        raise InputError(f"studies has a user or password in it, for all to see; put them into {SECRETS}.")
    if stow and not remote:
        raise InputError(f"stow is true, but studies is {studies}, not the address of a DICOMweb server.")
    if not remote and not Path(studies).is_dir():
        raise InputError(f"studies {studies} is no folder; give one, or http://HOST:PORT/dicom-web.")
    called = " ".join(own_names(host, names))
    python = _python()
    _check_port(host, port)
    app = make_app(Path(work_dir), name, root)
    words = [str(python), "-m", "monailabel.main", "start_server", "--uvicorn_app", "lib.server:app"]
    words += ["--app", str(app), "--host", host]
    words += ["--port", str(port), "--studies", studies if remote else str(Path(studies).resolve())]
    words += ["--conf", "models", name, "--conf", "stow", str(stow).lower()]
    words += ["--conf", "refuse_unlike", str(refuse_unlike).lower()]
    levels = {"bone_intensity": bone_intensity, "background_intensity": background_intensity}
    for key, value in levels.items():
        words += [] if value is None else ["--conf", key, str(value)]
    scratch = app / "tmp"  # of requests, and of what an earlier server did not tidy
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(mode=0o700)
    environment = {**QUIET, "MONAI_LABEL_SESSION_PATH": str(app / "sessions"), **os.environ, "TMPDIR": str(scratch)}
    environment[NAMES] = called
    environment["PATH"] = f"{python.parent}{os.pathsep}{os.environ.get('PATH', '')}"
    print(f"the server answers at http://{host}:{port} in some 10 s; its log: {app / 'logs' / 'app.log'}", flush=True)
    os.umask(0o077)  # what is fetched says who the patient is
    os.chdir(app)  # `lib` is found where Python starts; and MONAI Label reads a file .env there
    os.execve(python, words, environment)


def own_names(host: str, names: str | Sequence[str]) -> list[str]:
    """Names and addresses by which the server may be called, besides those that are always its own.

    Args:
        host: the address that it listens on; of all addresses the machine's name is one.
        names: what the user adds, as a list or parted by commas.

    Raises:
        InputError: if one is neither a name nor an address; a port and ``*`` are none.
    """
    added = [each.strip() for each in (names.split(",") if isinstance(names, str) else map(str, names))]
    for each in added:
        if not NAME.fullmatch(each):
            raise InputError(f"names has {each!r}; give names or addresses without port, such as machine.lab,10.1.2.3.")
    return [socket.gethostname() if host in EVERYWHERE else host, *added]


def make_app(work: Path, name: str, bundle: Path) -> Path:
    """A folder as MONAI Label wants it, with links to this application and to the bundle.

    Args:
        work: the folder; what an earlier server left there stays, but for the links.
        name: of the model.
        bundle: the trained bundle.

    Returns:
        The folder.
    """
    if not name.isidentifier():
        raise InputError(f"name is {name!r}; it must be letters, digits and _, for it becomes part of addresses.")
    check_writable(work)
    app = work.resolve()
    (app / "model").mkdir(exist_ok=True)
    for link, target in {"main.py": HERE / "main.py", "lib": HERE / "lib", f"model/{name}": bundle}.items():
        path = app / link
        if path.exists() and not path.is_symlink():
            raise InputError(f"work_dir {work} has a {link} of its own; choose an empty folder.")
        path.unlink(missing_ok=True)
        path.symlink_to(target)
    return app


def _check(bundle: Path, bone_intensity: float | None, background_intensity: float | None, refuse_unlike: bool) -> None:
    source = read_stock_config(bundle)["source"]
    fingerprint(bundle)
    levels = (bone_intensity, background_intensity)
    for level, word in zip(levels, ("bone", "background"), strict=True):
        if level is not None and (isinstance(level, bool) or not isinstance(level, (int, float))):
            raise InputError(f"{word}_intensity is {level!r}; it must be a number, the mean grey value in the scans.")
    faults = [] if levels == (None, None) else intensity_faults(source, *levels)
    faults += refusal_faults(bundle, refuse_unlike)
    if faults:
        raise InputError("\n".join(faults))


def _python() -> Path:
    home = Path(os.environ.get(ENVIRONMENT, HERE.parents[1] / ".venv-label")).resolve()
    python = home / "bin" / "python"
    if not (home / "ready").exists() or not python.exists():
        raise InputError(f"MONAI Label has no environment in {home}; make it: make label (or set {ENVIRONMENT}).")
    return python


def _check_port(host: str, port: int) -> None:
    try:
        with socket.create_server((host, port)):
            pass
    except (OSError, OverflowError, TypeError) as error:
        raise InputError(f"the server cannot listen on {host}:{port} ({error}); choose another --port.") from error


if __name__ == "__main__":
    command(main)
