"""A file of an object store or web server as readers of formats want one: what they seek is fetched, and no more."""

from __future__ import annotations

import io
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bundle.common.remote import Remote

KEPT = 64 << 20  # bytes of a file that are kept of what was fetched


class RangeFile(io.RawIOBase):
    """A remote file read by ranges: what is large in one request, what is small out of blocks that are kept.

    Args:
        path: the file.
        block: bytes.
    """

    def __init__(self, path: Remote, block: int) -> None:
        super().__init__()
        self.name, self._path, self._block = path.name, path, block
        self._at, self._size = 0, path.size
        self._blocks: OrderedDict[int, bytes] = OrderedDict()

    def readable(self) -> bool:
        """Yes."""
        return True

    def seekable(self) -> bool:
        """Yes."""
        return True

    def tell(self) -> int:
        """Where it is."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a byte."""
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        return self._at

    def readinto(self, buffer: Any) -> int:
        """Read as much as there is room for, up to the end."""
        view = memoryview(buffer).cast("B")
        count = max(0, min(len(view), self._size - self._at))
        if count >= self._block:
            view[:count] = self._path.part(self._at, self._at + count)
            self._at += count
            return count
        done = 0
        while done < count:
            number, first = divmod(self._at, self._block)
            some = self._of(number)[first : first + count - done]
            view[done : done + len(some)] = some
            done += len(some)
            self._at += len(some)
        return count

    def _of(self, number: int) -> bytes:
        if number not in self._blocks:
            start = number * self._block
            self._blocks[number] = self._path.part(start, min(start + self._block, self._size))
            while len(self._blocks) * self._block > max(KEPT, 2 * self._block):
                self._blocks.popitem(last=False)
        self._blocks.move_to_end(number)
        return self._blocks[number]
