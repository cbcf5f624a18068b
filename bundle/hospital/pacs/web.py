"""A PACS by DICOMweb: QIDO-RS to find, WADO-RS to fetch, STOW-RS to store; one object a request."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from ssl import SSLCertVerificationError
from typing import Any

import requests
from dicomweb_client.api import DICOMwebClient
from pydicom.datadict import tag_for_keyword
from pydicom.errors import InvalidDicomError

from bundle.common.errors import InputError, causes
from bundle.hospital.pacs.address import PASSWORD, TOKEN, USER
from bundle.hospital.pacs.address import Web as Address
from bundle.hospital.pacs.faults import FullError, PacsError, Patience, RefusedError, UnreachableError
from bundle.hospital.pacs.fetching import syntax_of
from bundle.hospital.pacs.limits import (
    LONGEST_LIST_S,
    LONGEST_OBJECT_S,
    MOST_LIST_BYTES,
    MOST_OBJECT_BYTES,
    check_count,
)
from bundle.hospital.pacs.line import Line
from bundle.hospital.pacs.series import INSTANCE_KEYS, SERIES_KEYS, STUDY_KEYS, Answer, Keep, Told
from bundle.images.dicom.slices import decodable
from bundle.images.dicom.words import plain

BOUNDARY = "virtual-staining-fe0d1c9a6b3f4e58"
QUERY = "answering a query"
EXPLICIT = "1.2.840.10008.1.2.1"
BLOCK = 1 << 20
PAGE = 500  # answers asked for at once
WORTH_ANOTHER_TRY = (408, 425, 429, 500, 502, 503, 504)
OUT_OF_RESOURCES = range(0xA700, 0xA800)  # PS3.4 table B.2-1; PS3.18 gives the same numbers as reasons
FAILED, REASON = (f"{tag_for_keyword(word):08X}" for word in ("FailedSOPSequence", "FailureReason"))
UNREADABLE = (InvalidDicomError, ValueError, IndexError, KeyError, EOFError, AttributeError, TypeError)


class Web:
    """A client; see :class:`bundle.hospital.pacs.series.Pacs`.

    Args:
        address: of the service.
        patience: its timeout.
        ca_file: certificates that are trusted, PEM; None for those of the system.
        client_cert: our own with its key, PEM.
    """

    def __init__(self, address: Address, patience: Patience, ca_file: str | None, client_cert: str | None) -> None:
        self.peer = address.url
        self.timeout_s = patience.timeout_s
        self.session = requests.Session()
        self.session.trust_env = False  # no proxy, no ~/.netrc, no other list of certificates than what is given here
        self.line = Line(address.url)
        for scheme in ("http://", "https://"):
            self.session.mount(scheme, self.line)
        self.session.max_redirects = 0  # credentials and images go where they are told to, and nowhere else
        self.session.hooks["response"].append(_heed_odd_status)
        self.session.verify = ca_file or True
        self.session.cert = client_cert
        if address.authorization:
            self.session.headers["Authorization"] = address.authorization
        try:
            self.client = DICOMwebClient(
                address.url, session=self.session, timeout=patience.timeout_s, permissive_uid=True
            )
        except ValueError as error:
            raise InputError(f"pacs is {plain(address.url)!r}, which is no address of DICOMweb ({error}).") from error
        self.client.set_http_retry_params(retry=False)  # what is worth another try is for ``persistently`` to say

    def studies(self, filters: Mapping[str, str]) -> list[Answer]:
        """The studies that match."""
        search = lambda **page: self.client.search_for_studies(
            search_filters=dict(filters), fields=list(STUDY_KEYS), **page
        )
        return self._all(search, "StudyInstanceUID", STUDY_KEYS)

    def series(self, study_uid: str | None, filters: Mapping[str, str]) -> list[Answer]:
        """The series that match."""
        search = lambda **page: self.client.search_for_series(
            study_uid, search_filters=dict(filters), fields=list(SERIES_KEYS), **page
        )
        return self._all(search, "SeriesInstanceUID", SERIES_KEYS)

    def instances(self, study_uid: str, series_uid: str) -> list[Answer]:
        """The objects of a series."""
        search = lambda **page: self.client.search_for_instances(
            study_uid, series_uid, fields=list(INSTANCE_KEYS), **page
        )
        return self._all(search, "SOPInstanceUID", INSTANCE_KEYS)

    def fetch(self, study_uid: str, series_uid: str, sop_uids: Sequence[str], keep: Keep) -> None:
        """Get objects as they were stored, but unpacked where their compression is not decoded here."""
        for sop_uid in sop_uids:
            place = f"{self.peer}/studies/{study_uid}/series/{series_uid}/instances/{sop_uid}"
            content, syntax = self._object(place, sop_uid, "*")
            if syntax is not None and not decodable(syntax):
                content, _ = self._object(place, sop_uid, EXPLICIT)
            keep(sop_uid, content)

    def _object(self, place: str, sop_uid: str, syntax: str) -> tuple[bytes, str | None]:
        """An object's file, and its transfer syntax."""
        with self._spoken(f"sending object {sop_uid}", LONGEST_OBJECT_S, MOST_OBJECT_BYTES):
            kind = f'multipart/related; type="application/dicom"; transfer-syntax={syntax}'
            answer = self.session.get(place, headers={"Accept": kind}, timeout=self.timeout_s)
            answer.raise_for_status()
            content = _only_part(answer.content)
            return content, syntax_of(content)

    def store(self, paths: Sequence[Path], told: Told) -> None:
        """Store files, one a request, so that the PACS's answer is about one object."""
        for path in paths:
            with self._spoken(f"storing {path.name}", LONGEST_OBJECT_S, MOST_LIST_BYTES):
                answer = self.session.post(
                    f"{self.peer}/studies",
                    data=_Body(path),  # type: ignore[arg-type]  # requests takes what has a length and gives bytes
                    headers={
                        "Content-Type": f'multipart/related; type="application/dicom"; boundary="{BOUNDARY}"',
                        "Accept": "application/dicom+json",
                    },
                    timeout=self.timeout_s,
                )
                reasons = _failures(answer)
                if not reasons:
                    answer.raise_for_status()
            if reasons:
                text = ", ".join(f"{reason:04X}h" for reason in reasons)
                kind = FullError if any(reason in OUT_OF_RESOURCES for reason in reasons) else RefusedError
                raise kind(f"{self.peer} does not take object {path.name} (HTTP {answer.status_code}, reason {text}).")
            told(path, f"HTTP {answer.status_code}")

    def _all(self, search: Callable[..., list[Any]], uid: str, keywords: Sequence[str]) -> list[Answer]:
        """All answers, page by page, up to a page with nothing new: a PACS may give fewer than asked for."""
        found: dict[str, Answer] = {}
        end = time.monotonic() + LONGEST_LIST_S
        for pages in count(1):
            with self._spoken(QUERY, max(0.0, end - time.monotonic()), MOST_LIST_BYTES):
                page = [_read(item, keywords) for item in search(offset=len(found), limit=PAGE)]
            new = {answer[uid]: answer for answer in page if answer[uid] not in found}
            if not new:
                break
            found |= new
            check_count(self.peer, len(found), pages)
        return list(found.values())

    @contextmanager
    def _spoken(self, doing: str, longest_s: float, most_bytes: int) -> Iterator[None]:
        """Hold a request to its limits, and turn what goes wrong in it into a fault of ours."""
        self.line.doing, self.line.longest_s, self.line.most_bytes = doing, longest_s, most_bytes
        try:
            yield
        except requests.HTTPError as error:
            raise self._status(error.response, doing) from error
        except requests.TooManyRedirects as error:
            where = error.response.headers.get("location", "") if error.response is not None else ""
            raise PacsError(
                f"{self.peer} sends us on to {plain(where)!r}; if that is right, give it as pacs."
            ) from error
        except requests.Timeout as error:
            raise UnreachableError(
                f"{self.peer} was silent for {self.timeout_s:g} s while {doing} (--timeout)."
            ) from error
        except requests.exceptions.InvalidJSONError as error:
            raise self._unreadable(error, doing) from error
        except requests.RequestException as error:
            distrust = next((each for each in causes(error) if isinstance(each, SSLCertVerificationError)), None)
            if distrust is not None:
                raise PacsError(
                    f"{self.peer} has a certificate that is not trusted ({distrust.verify_message}); "
                    "give its authority's with --ca_file FILE."
                ) from error
            why = next((each.strerror for each in causes(error) if isinstance(each, OSError) and each.strerror), None)
            why = why or type(error).__name__
            raise UnreachableError(
                f"{self.peer}: no connection, or it was dropped, while {doing} ({why}); does it run, and is that its "
                "address?"
            ) from error
        except UNREADABLE as error:
            if isinstance(error, InputError):
                raise
            raise self._unreadable(error, doing) from error

    def _unreadable(self, error: Exception, doing: str) -> UnreachableError:
        """What was cut short, or is no DICOM at all, may come whole the next time."""
        return UnreachableError(f"{self.peer} gave no readable answer while {doing} ({type(error).__name__}).")

    def _status(self, answer: requests.Response | None, doing: str) -> InputError:
        """The fault behind an HTTP status."""
        if answer is None:
            return UnreachableError(f"{self.peer} gave no answer while {doing}.")
        code, text = answer.status_code, plain(answer.text[:200])
        said = f"{self.peer}: HTTP {code} while {doing}"
        if code in WORTH_ANOTHER_TRY:
            return UnreachableError(f"{said} ({text}).")
        if code == 507:
            return FullError(f"{said}: it is full ({text}); make room there.")
        if code in (401, 403):
            have = "does not accept the credentials" if "Authorization" in self.session.headers else "wants credentials"
            return PacsError(f"{said}: it {have}; set {TOKEN}, or {USER} and {PASSWORD}.")
        if code in (400, 404) and doing == QUERY:
            return PacsError(f"{said}: no such thing there; is pacs the address of its DICOMweb?")
        return RefusedError(f"{said}: refused ({text}).")


class _Body:
    """A file as the one part of a multipart body, never whole in memory."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.head = f"--{BOUNDARY}\r\nContent-Type: application/dicom\r\n\r\n".encode()
        self.tail = f"\r\n--{BOUNDARY}--\r\n".encode()

    def __len__(self) -> int:
        return len(self.head) + os.path.getsize(self.path) + len(self.tail)  # noqa: PTH202

    def __iter__(self) -> Iterator[bytes]:
        yield self.head
        with self.path.open("rb") as file:
            while block := file.read(BLOCK):
                yield block
        yield self.tail


def _heed_odd_status(answer: requests.Response, **_: Any) -> None:
    """An answer that is neither a success nor a failure nor leads elsewhere is no empty list."""
    if 300 <= answer.status_code < 400 and not answer.is_redirect:
        raise requests.HTTPError(response=answer)


def _only_part(content: bytes) -> bytes:
    """The one part of a multipart body, or a body that is the object itself.

    Raises:
        ValueError: if it has no end.
    """
    if content[128:132] == b"DICM":
        return content
    boundary, _, rest = content.lstrip(b"\r\n").partition(b"\r\n")
    _, blank, part = rest.partition(b"\r\n\r\n")
    end = part.rfind(b"\r\n" + boundary)
    if not boundary.startswith(b"--") or not blank or end < 0:
        raise ValueError("no whole part")
    return part[:end]


def _failures(answer: requests.Response) -> list[int]:
    """The reasons for which an object was not stored, as the answer to STOW-RS lists them."""
    try:
        content = answer.json()
        failed = content.get(FAILED, {}).get("Value", [])
        return [int(item.get(REASON, {}).get("Value", [0])[0]) for item in failed]
    except (ValueError, AttributeError, TypeError, IndexError):  # no JSON, or of another kind: the status speaks
        return []


def _read(item: Any, keywords: Sequence[str]) -> Answer:
    """DICOM JSON as plain text by keyword."""
    answer = {}
    for keyword in keywords:
        values = item.get(f"{tag_for_keyword(keyword):08X}", {}).get("Value") or []
        answer[keyword] = "\\".join("" if value is None else str(value) for value in values)
    return answer
