"""Where scans and results lie: on this machine, or in an object store or on a web server, behind a Path's methods."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast
from urllib.parse import unquote, urlsplit

from bundle.common.errors import InputError
from bundle.common.extras import install_line

if TYPE_CHECKING:
    from bundle.common.remote import Remote

SCHEME = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]+)://")  # two letters and more, so that a drive is none
LINK = ".url"  # of a small file that holds one URL: what may not stand on a command line
LOOPBACK = ("localhost", "127.0.0.1", "::1")
TOGETHER = 64  # objects that are asked for at once
SIGNED = "a query that may be a signature"
SIGNATURE = re.compile(
    r"(?i)[?&](x-(amz|goog)-|awsaccesskeyid=|googleaccessid=|signature=|sig=|token=)"
)  # of any store
LOST = ("memory", "data")  # schemes of what is gone with the process
MISTYPED = re.compile(
    r"(s3a?|gs|gcs|https?|file):/(?!/)|[a-z0-9]+::[a-z0-9]+://"
)  # which would be folders of this machine


def place(text: str | Path) -> Path:
    """The file or folder of a name: a path of this machine, also as ``file://``, or one that fsspec reaches.

    A URL with a query, such as a presigned one, is a secret. It is given in a file, ``scan.url``, which holds it on its
    only line: a command line is seen by all who list processes, and logged.

    Args:
        text: a name; what is a path already is left alone.

    Returns:
        A path, or what behaves like one.

    Raises:
        InputError: if the URL has a password or a query in it, is not encrypted, is of a scheme that nothing reaches,
            or the library for it is not installed. What is secret is not repeated.
    """
    if not isinstance(text, str):
        return text
    if not SCHEME.match(text):
        path = Path(text)
        if (wrong := MISTYPED.match(text)) and not path.exists():
            raise InputError(f"{shown(text)} is no URL; write {wrong[1] or 's3'}://PLACE/NAME.")
        return _linked(path) if path.suffix.lower() == LINK and path.is_file() else path
    _check(text)
    parts = urlsplit(text)
    if parts.scheme.lower() == "file":
        if parts.netloc not in ("", "localhost"):
            raise InputError(
                f"{text} is on {parts.netloc}; file:// names files of this machine, as file:///folder/scan."
            )
        return Path(unquote(text.split("://", 1)[1].removeprefix("localhost")))
    if (parts.scheme.lower() in ("http", "https") and parts.query) or SIGNATURE.search(text):
        raise InputError(f"{shown(text)} is followed by {SIGNED}; write the URL into a file NAME{LINK} and give that.")
    return _remote(text)


def _linked(path: Path) -> Path:
    """What a file with one URL names; its query is kept apart from all names."""
    text = path.read_text(encoding="utf-8", errors="replace").strip()
    if len(text.splitlines()) != 1 or not text.lower().startswith(("http://", "https://")):
        raise InputError(f"{path} holds no URL of https:// on its only line; write one there.")
    _check(text)
    plain, _, query = text.partition("?")
    return _remote(plain, query)


def _check(text: str) -> None:
    """Raise an error if a URL is none that is opened."""
    try:
        parts = urlsplit(text)
        password, host, _ = parts.password, parts.hostname, parts.port
    except ValueError as error:
        raise InputError(f"{shown(text)} is no URL; write SCHEME://PLACE/NAME.") from error
    if password is not None or "@" in parts.netloc:
        raise InputError(
            f"{shown(text)} is given with a user or password in it; leave them out, and give them by environment "
            "variables or a profile (docs/volumes.md)."
        )
    if not parts.netloc and parts.scheme.lower() in ("s3", "s3a", "gs", "gcs", "http", "https"):
        raise InputError(f"{shown(text)} names no bucket or server; write {parts.scheme}://PLACE/NAME.")
    if "::" in text:
        raise InputError(f"{shown(text)} is several URLs in one; name the file itself.")
    if parts.scheme.lower() == "http" and host not in LOOPBACK:
        raise InputError(f"{shown(text)} is not encrypted; give it by https://.")


def _remote(text: str, query: str = "") -> Path:
    scheme = text.partition("://")[0].lower()
    if scheme in LOST:
        raise InputError(f"{shown(text)} is gone when the command ends; name a file, s3://, gs:// or https://.")
    try:
        from bundle.common.remote import Remote

        return cast(Path, Remote(text, query))
    except ImportError as error:
        line = f"{shown(text)} needs a library that is not installed; {install_line('cloud')}"
        raise InputError(line) from error
    except ValueError as error:
        line = f"{shown(text)} is of an unknown scheme, {scheme}; s3://, gs:// and https:// are known."
        raise InputError(line) from error
    except (TypeError, AttributeError, OSError) as error:  # zip://, github:// …, which ask for more than a URL
        raise InputError(f"{shown(text)} cannot be opened by its URL alone; give the file itself.") from error


def see_local(path: Path | str, option: str = "output_dir") -> None:
    """See that a place where only files of this machine can be written is no URL, which would become a folder here.

    Raises:
        InputError: if it is one.
    """
    text = str(path)
    if isinstance(path, (str, Path)) and (SCHEME.match(text) or (MISTYPED.match(text) and not Path(text).exists())):
        raise InputError(f"{option} {shown(text)} is a URL, but this is written on a disk only; name a folder.")


def is_remote(path: Path | str) -> bool:
    """Whether a file or folder is reached over a network."""
    return not isinstance(path, Path) and bool(SCHEME.match(str(path)))


def remote(path: Path) -> Remote:
    """The same, for what only such a place can do."""
    return cast("Remote", path)


def shown(path: Path | str) -> str:
    """A place as it may be printed or kept: without user, password and query, whoever gave them."""
    text = str(path)
    scheme = SCHEME.match(text)
    if not scheme:
        return text
    netloc, slash, rest = text[scheme.end() :].partition("/")
    if SIGNATURE.search(rest):
        rest = re.split("[?&]", rest)[0]
    if scheme[1].lower() in ("http", "https"):
        netloc, rest = re.split("[?#]", netloc)[0], re.split("[?#]", rest)[0]
    before, at, after = rest.rpartition("@")  # a password may hold a slash
    if "@" not in netloc and at and ":" in netloc and not netloc.rpartition(":")[2].isdigit():
        return f"{scheme[0]}{after}"
    return f"{scheme[0]}{netloc.rpartition('@')[2]}{slash}{rest}"


@contextmanager
def reaching(path: Path) -> Iterator[None]:
    """Turn what goes wrong on the way to a remote place into one InputError.

    Raises:
        InputError: if there are no credentials for it, they are refused, it does not exist or does not answer.
    """
    if not is_remote(path):
        yield
        return
    from bundle.common.remote import reaching as reaching_remote

    with reaching_remote(path):
        yield


def opened(path: Path, block: int = 1 << 20) -> IO[bytes]:
    """A file to read from any place of it.

    Args:
        path: the file.
        block: bytes of a remote one that are fetched together, and kept, where less is asked for.
    """
    return cast("IO[bytes]", remote(path).reader(block)) if is_remote(path) else path.open("rb")


def contents(paths: Sequence[Path], start: int = 0, count: int | None = None) -> Iterator[bytes]:
    """The bytes of files, or the same part of each, in order; of remote ones some at once.

    Raises:
        EOFError: if a file gives others than asked for: it is too short, or its server does not know of parts.
    """
    for first in range(0, len(paths), TOGETHER):
        some = paths[first : first + TOGETHER]
        if is_remote(some[0]):
            found: Iterator[bytes] = iter(remote(some[0]).same_part([remote(each) for each in some], start, count))
        else:
            found = (_part(each, start, count) for each in some)
        for path, content in zip(some, found, strict=True):
            if count is not None and len(content) != count:
                raise EOFError(f"{path} gave {len(content)} bytes where {count} were asked for")
            yield content


def _part(path: Path, start: int, count: int | None) -> bytes:
    with path.open("rb") as file:
        file.seek(start)
        return file.read(-1 if count is None else count)


def write_files(files: Mapping[Path, bytes]) -> None:
    """Write files in place, their folders too; remote ones some at once, each whole or not at all."""
    if not files:
        return
    first = next(iter(files))
    if is_remote(first):
        remote(first).write_all(files)  # type: ignore[arg-type]
        return
    for path, content in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def remove(path: Path) -> None:
    """Remove a file or a folder with all that is in it; it may be gone."""
    if is_remote(path):
        remote(path).remove()
    elif path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def clear_away(path: Path) -> None:
    """Remove a folder that nothing needs any more; what of a local one cannot be removed stays."""
    if is_remote(path):
        remote(path).remove()
    else:
        shutil.rmtree(path, ignore_errors=True)


def zarr_store(path: Path) -> Any:
    """What ``zarr`` opens, of either generation."""
    return remote(path).mapper() if is_remote(path) else str(path)
