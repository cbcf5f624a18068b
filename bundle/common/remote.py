"""Files that fsspec reaches, with a Path's methods, and what can go wrong with them in one line."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager, suppress
from types import SimpleNamespace
from typing import Any

import fsspec
from fsspec.config import conf
from upath.extensions import ProxyUPath

from bundle.common.network_faults import network_fault
from bundle.common.range_file import RangeFile

CONNECT_SECONDS, ATTEMPTS = 5, 3  # a server that is gone is told of within some seconds
logging.getLogger("fsspec").setLevel(logging.INFO)  # it writes whole URLs, signatures too, where all is logged
READ_SECONDS = 15  # without a byte; one that is silent is told of within ATTEMPTS · AGAIN² times that, three minutes
POOL = 32  # connections at once
AGAIN = 2  # times that s3fs asks, each with ``ATTEMPTS`` of botocore's, and again as often to read the answer; else 5


def options(scheme: str) -> dict[str, Any]:
    """What a file system is made with besides what the user's own configuration of fsspec says."""
    found: dict[str, Any] = {"use_listings_cache": False}  # other processes write there too
    stated = conf.get(scheme, {})
    if scheme in ("s3", "s3a"):
        retries = {"mode": "standard", "total_max_attempts": ATTEMPTS}
        timeouts = {"connect_timeout": CONNECT_SECONDS, "read_timeout": READ_SECONDS}
        found["max_concurrency"] = 1  # of the parts of one object; with more, each is asked for its size first
        found["config_kwargs"] = {
            **timeouts,
            "retries": retries,
            "max_pool_connections": POOL,
            **stated.get("config_kwargs", {}),
        }
    if scheme in ("http", "https"):
        import aiohttp

        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=READ_SECONDS)
        found["client_kwargs"] = {"timeout": timeout, **stated.get("client_kwargs", {})}
    return found


@contextmanager
def reaching(path: object) -> Iterator[None]:
    """Turn what goes wrong on the way to a place into one InputError; what is not there stays a FileNotFoundError.

    What a library said is cut off: a signed URL may be in it.
    """
    try:
        yield
    except Exception as error:
        fault = network_fault(error, str(path))
        if fault is not None:
            raise fault from None
        if isinstance(error, FileNotFoundError):
            raise FileNotFoundError(f"{path} is not there") from None
        if getattr(path, "_query", ""):
            raise OSError(f"{path}: {type(error).__name__}") from None
        raise


class Remote(ProxyUPath):
    """A file or folder behind a URL: a UPath whose questions are answered with yes, no or an error.

    fsspec's own take a server that is gone for a file that is not there. Nothing that was seen is remembered, but what
    a listing says of the files in it, as other processes work in the same place.

    Args:
        url: without user, password and query.
        query: of this one file, a signature, say; it is sent and never shown.
    """

    __slots__ = ("_query", "_seen")

    def __init__(self, url: str, query: str = "") -> None:
        scheme = url.partition("://")[0].lower()
        super().__init__(url, **options(scheme))
        self._query, self._seen = query, None
        if hasattr(self.fs, "retries"):
            self.fs.retries = AGAIN

    @classmethod
    def _from_upath(cls, upath: Any, /) -> Remote:
        made = super()._from_upath(upath)
        if not hasattr(made, "_query"):
            made._query, made._seen = "", None
        return made

    def __reduce__(self) -> tuple[Any, ...]:
        return Remote, (str(self), self._query)

    @property
    def key(self) -> str:
        """As the file system knows it."""
        return f"{self.path}?{self._query}" if self._query else str(self.path)

    def _info(self) -> dict[str, Any] | None:
        """Kind and size; None if nothing is there."""
        if self._seen is None:
            try:
                with reaching(self):
                    return dict(self.fs.info(self.key))
            except FileNotFoundError:
                return None
        return self._seen

    def exists(self, **_: Any) -> bool:
        """Whether anything is there."""
        return self._info() is not None

    def is_file(self, **_: Any) -> bool:
        """Whether it is a file."""
        return (self._info() or {}).get("type") == "file"

    def is_dir(self, **_: Any) -> bool:
        """Whether there is something within it."""
        return (self._info() or {}).get("type") == "directory"

    @property
    def size(self) -> int:
        """Bytes.

        Raises:
            FileNotFoundError: if it is not there.
            EOFError: if the server does not say.
        """
        found = self._info()
        if found is None:
            raise FileNotFoundError("it is not there")
        if found.get("size") is None:
            raise EOFError("its server does not say how long it is")
        return int(found["size"])

    def stat(self, **_: Any) -> Any:
        """Its size, as ``st_size``."""
        return SimpleNamespace(st_size=self.size)

    def absolute(self) -> Remote:
        """Itself."""
        return self

    resolve = absolute  # type: ignore[assignment]

    def iterdir(self) -> Iterator[Remote]:
        """What is in a folder, with what its listing says of each."""
        with reaching(self):
            found = self.fs.ls(self.path, detail=True)
        for each in found:
            name = each["name"].rstrip("/").rpartition("/")[2]
            if name and each["name"].rstrip("/") != str(self.path).rstrip("/"):
                child = self / name
                child._seen = each
                yield child

    def total(self) -> int:
        """Bytes of a file, or of all within a folder."""
        with reaching(self):
            return int(self.fs.du(self.path))

    def below(self) -> set[str]:
        """Names of all files within a folder, as they follow its own; nothing if it is not there."""
        with reaching(self):
            return {name.removeprefix(f"{self.path}/") for name in self.fs.find(self.path)}

    def files(self) -> list[Remote]:
        """What is in a folder; nothing if it is not there."""
        try:
            return list(self.iterdir())
        except FileNotFoundError:
            return []

    def mkdir(self, *_: Any, **__: Any) -> None:
        """Nothing: an object store has no folders."""

    def unlink(self, missing_ok: bool = False) -> None:
        """Remove a file."""
        try:
            with reaching(self):
                self.fs.rm_file(self.path)
        except FileNotFoundError:
            if not missing_ok:
                raise

    def remove(self) -> None:
        """Remove a file, or all within a folder; it may be gone."""
        with reaching(self):
            try:
                self.fs.rm(self.path, recursive=True)
            except FileNotFoundError:
                return

    def remove_all(self, files: Sequence[Remote]) -> None:
        """Remove files within a folder together; some may be gone."""
        with reaching(self), suppress(FileNotFoundError):
            self.fs.rm([each.path for each in files])

    def read_bytes(self) -> bytes:
        """All of a file."""
        with reaching(self):
            return bytes(self.fs.cat_file(self.key))

    def read_text(self, encoding: str | None = None, errors: str | None = None, newline: str | None = None) -> str:
        """All of a file, as text."""
        return self.read_bytes().decode(encoding or "utf-8", errors or "strict")

    def write_bytes(self, data: Any) -> int:
        """Write a file, whole or not at all."""
        content = bytes(data)
        with reaching(self):
            self.fs.pipe_file(self.path, content)
        return len(content)

    def write_text(self, data: str, encoding: str | None = None, errors: str | None = None, newline: Any = None) -> int:
        """Write a file, whole or not at all."""
        return self.write_bytes(data.encode(encoding or "utf-8", errors or "strict"))

    def open(self, mode: str = "rb", *_: Any, **__: Any) -> Any:
        """A file to read from."""
        if mode != "rb":
            raise ValueError(f"{self} is opened as {mode}; remote files are read, and written whole")
        return io.BufferedReader(self.reader(1 << 20))

    def upload(self, local: Any) -> None:
        """Make the file that of a local one, whole or not at all."""
        with reaching(self):
            self.fs.put_file(str(local), self.path)

    def part(self, start: int, stop: int) -> bytes:
        """Bytes of a file.

        Raises:
            EOFError: if the server gives others.
        """
        with reaching(self):
            content = bytes(self.fs.cat_file(self.key, start=start, end=stop))
        if len(content) != stop - start:
            raise EOFError(f"its server gave {len(content)} bytes where {stop - start} were asked for")
        return content

    def same_part(self, files: Sequence[Remote], start: int, count: int | None) -> list[bytes]:
        """The same part of files of one place, asked for together; or all of them."""
        keys, first = [each.key for each in files], None if count is None else start
        end = None if count is None else start + count
        with reaching(files[0].parent):
            return list(self.fs.cat_ranges(keys, [first] * len(keys), [end] * len(keys), on_error="raise"))

    def write_all(self, files: Mapping[Remote, bytes]) -> None:
        """Write files of one place together, each whole or not at all."""
        with reaching(next(iter(files)).parent):
            self.fs.pipe({each.path: content for each, content in files.items()})

    def reader(self, block: int) -> RangeFile:
        """A file object that keeps blocks of so many bytes."""
        return RangeFile(self, block)

    def mapper(self) -> Any:
        """The folder as the installed generation of ``zarr`` takes it."""
        import zarr

        if zarr.__version__.startswith("2."):
            return _Keys(self)
        scheme = str(self).partition("://")[0].lower()
        # zarr makes a file system like it of its settings as JSON, which holds no timeout of aiohttp's
        files = fsspec.filesystem(scheme) if scheme in ("http", "https") else self.fs
        return fsspec.FSMap(str(self.path), files, check=False, create=False)


class _Keys(MutableMapping[str, bytes]):
    """A folder as Zarr 2.18 takes it, which holds every OSError of a mapping of fsspec's for a chunk of zeros."""

    def __init__(self, folder: Remote) -> None:
        self._folder = folder

    def __contains__(self, key: object) -> bool:
        return (self._folder / str(key)).is_file()

    def __getitem__(self, key: str) -> bytes:
        try:
            return (self._folder / key).read_bytes()
        except FileNotFoundError as error:
            raise KeyError(key) from error

    def __setitem__(self, key: str, value: Any) -> None:
        (self._folder / key).write_bytes(value)

    def __delitem__(self, key: str) -> None:
        (self._folder / key).unlink()

    def __iter__(self) -> Iterator[str]:
        return iter(self._folder.below())

    def __len__(self) -> int:
        return len(self._folder.below())
