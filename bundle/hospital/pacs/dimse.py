"""A PACS by DIMSE: C-FIND to find, C-GET or C-MOVE to fetch, C-STORE to store."""

from __future__ import annotations

import socket
import ssl
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from pydicom import Dataset, dcmread
from pydicom.multival import MultiValue
from pynetdicom import AE, _config, build_role, evt
from pynetdicom.association import Association
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
)

from bundle.hospital.objects.implicit import write_implicit
from bundle.hospital.pacs.address import Dimse as Address
from bundle.hospital.pacs.address import is_loopback, tls_context
from bundle.hospital.pacs.faults import FullError, PacsError, Patience, RefusedError, UnreachableError
from bundle.hospital.pacs.inbox import Inbox, cut
from bundle.hospital.pacs.limits import (
    LONGEST_LIST_S,
    LONGEST_OBJECT_S,
    MOST_LIST_BYTES,
    MOST_OBJECT_BYTES,
    Guard,
)
from bundle.hospital.pacs.series import INSTANCE_KEYS, SERIES_KEYS, STUDY_KEYS, Answer, Keep, Told
from bundle.hospital.pacs.syntaxes import EXPLICIT, IMPLICIT, PLAIN_SYNTAXES, SCANS, packed_syntaxes
from bundle.images.dicom.words import plain

_config.STORE_SEND_CHUNKED_DATASET = True  # a file of gigabytes is sent from the disk, never whole in memory
MOST_WAITING = 64  # PDUs, of 16 KiB with most PACS
AT_ONCE = 50  # objects asked for in one C-GET or C-MOVE
FIND = StudyRootQueryRetrieveInformationModelFind
GET = StudyRootQueryRetrieveInformationModelGet
MOVE = StudyRootQueryRetrieveInformationModelMove
PENDING = (0xFF00, 0xFF01)
QUERY = "answering a query"
FAILED_SOME, CANCELLED = 0xB000, 0xFE00
OUT_OF_RESOURCES, WARNINGS = range(0xA700, 0xA800), range(0xB000, 0xC000)
STATUSES = {  # PS3.4 annexes B and C
    0x0110: "processing failure",
    0x0122: "it does not take objects of this class",
    0x0124: "not authorised",
    0xA801: "it does not know where to move to",
    0xA900: "identifier does not match the class",
    FAILED_SOME: "warning: one or more objects failed; if it keeps them compressed in a way that is not decoded here,"
    " have them sent uncompressed, or pip install python-gdcm",
    CANCELLED: "cancelled",
}


class Dimse:
    """A client; see :class:`bundle.hospital.pacs.series.Pacs`.

    Args:
        address: of the PACS's application entity.
        patience: its timeout.
        aet: our own application entity title.
        receive_port: where we listen for what a C-MOVE sends; None to fetch by C-GET.
        ca_file: certificates that are trusted, PEM, where the address says TLS.
        client_cert: our own with its key, PEM.
    """

    def __init__(
        self,
        address: Address,
        patience: Patience,
        aet: str,
        receive_port: int | None,
        ca_file: str | None,
        client_cert: str | None,
    ) -> None:
        self.address, self.peer, self.aet, self.receive_port = address, str(address), aet, receive_port
        self.timeout_s = patience.timeout_s
        self.tls = (tls_context(ca_file, client_cert), address.host) if address.tls else None

    def studies(self, filters: Mapping[str, str]) -> list[Answer]:
        """The studies that match."""
        return self._find("STUDY", STUDY_KEYS, filters)

    def series(self, study_uid: str | None, filters: Mapping[str, str]) -> list[Answer]:
        """The series that match."""
        return self._find("SERIES", SERIES_KEYS, {**filters, **({"StudyInstanceUID": study_uid} if study_uid else {})})

    def instances(self, study_uid: str, series_uid: str) -> list[Answer]:
        """The objects of a series."""
        above = {"StudyInstanceUID": study_uid, "SeriesInstanceUID": series_uid}
        return self._find("IMAGE", INSTANCE_KEYS, above)

    def fetch(self, study_uid: str, series_uid: str, sop_uids: Sequence[str], keep: Keep) -> None:
        """Get objects, some at a time."""
        for start in range(0, len(sop_uids), AT_ONCE):
            some = list(sop_uids[start : start + AT_ONCE])
            asked = Dataset()
            asked.QueryRetrieveLevel = "IMAGE"
            asked.StudyInstanceUID, asked.SeriesInstanceUID, asked.SOPInstanceUID = study_uid, series_uid, some
            inbox = Inbox(some, keep)
            if self.receive_port is None:
                self._get(asked, inbox)
            else:
                self._move(asked, inbox, self.receive_port)
            inbox.check(self.peer)

    def store(self, paths: Sequence[Path], told: Told) -> None:
        """Store files over one association."""
        kinds = [_kind(path) for path in paths]
        if not kinds:
            return
        ae = self._ae()
        for sop_class, syntax in sorted(set(kinds)):
            ae.add_requested_context(sop_class, syntax)
            if syntax == EXPLICIT:  # a context of its own, so that a PACS that takes both takes the file as it is
                ae.add_requested_context(sop_class, IMPLICIT)
        with self._association(ae, "storing objects", LONGEST_OBJECT_S) as (association, guard):
            self._pace(association)
            taken = {(each.abstract_syntax, each.transfer_syntax[0]) for each in association.accepted_contexts}
            for path, (sop_class, syntax) in zip(paths, kinds, strict=True):
                only_implicit = (sop_class, syntax) not in taken and (sop_class, IMPLICIT) in taken
                try:
                    with _implicit(path) if only_implicit else nullcontext(path) as sent:
                        status = association.send_c_store(sent)
                except ValueError as error:  # no presentation context was accepted for this one
                    raise RefusedError(
                        f"{self.peer} does not take object {path.name}: not its class of objects."
                    ) from error
                self._check(status, f"storing object {path.name}")
                guard.anew()
                told(path, f"C-STORE {status.Status:04X}h")

    def _find(self, level: str, keywords: Sequence[str], filters: Mapping[str, str]) -> list[Answer]:
        asked = Dataset()
        asked.QueryRetrieveLevel = level
        for keyword in keywords:
            setattr(asked, keyword, None)
        for keyword, value in filters.items():
            setattr(asked, keyword, value)
        ae = self._ae()
        ae.add_requested_context(FIND, PLAIN_SYNTAXES)
        answers: list[Answer] = []
        with self._association(ae, QUERY, LONGEST_LIST_S) as (association, guard):
            for status, found in association.send_c_find(asked, FIND):
                self._check_list(status, len(answers))
                if status.Status in PENDING and found is not None:
                    answers.append({keyword: _text(found, keyword) for keyword in keywords})
                guard.count(len(answers))
        return answers

    def _get(self, asked: Dataset, inbox: Inbox) -> None:
        ae = self._ae()
        ae.add_requested_context(GET, PLAIN_SYNTAXES)
        packed = packed_syntaxes()
        for sop_class in SCANS:
            ae.add_requested_context(sop_class, PLAIN_SYNTAXES)
            ae.add_requested_context(sop_class, packed)
        roles = [build_role(sop_class, scp_role=True) for sop_class in SCANS]
        doing = "sending objects (C-GET)"
        handlers = [(evt.EVT_C_STORE, inbox.take)]
        with self._association(ae, doing, LONGEST_OBJECT_S, MOST_OBJECT_BYTES, handlers, roles) as (association, guard):
            inbox.took = guard.anew
            for status, _ in association.send_c_get(asked, GET):
                inbox.raise_own()
                self._check(status, doing)

    def _move(self, asked: Dataset, inbox: Inbox, port: int) -> None:
        receiver = AE(self.aet)
        receiver.require_called_aet = True
        for sop_class in SCANS:
            receiver.add_supported_context(sop_class, PLAIN_SYNTAXES + packed_syntaxes())
        receiver.network_timeout = self.timeout_s
        ae = self._ae()
        ae.add_requested_context(MOVE, PLAIN_SYNTAXES)
        doing = f"moving objects to {self.aet} (C-MOVE)"
        with self._association(ae, doing, LONGEST_OBJECT_S, MOST_OBJECT_BYTES) as (association, guard):
            inbox.took = guard.anew
            entered: list[Association] = []
            watching: list[Any] = [
                (evt.EVT_CONN_OPEN, lambda event: entered.append(event.assoc)),
                (evt.EVT_DATA_RECV, lambda event: guard.add(len(event.data))),
                (evt.EVT_C_STORE, inbox.take),
            ]
            here = "127.0.0.1" if is_loopback(self.address.host) else "", port
            try:
                server = receiver.start_server(here, False, evt_handlers=watching)
            except OSError as error:
                raise PacsError(
                    f"receive_port {port} cannot be listened on ({error.strerror}); choose another --receive_port."
                ) from error
            try:
                for status, _ in association.send_c_move(asked, self.aet, MOVE):
                    inbox.raise_own()
                    self._check(status, doing)
            finally:
                server.shutdown()  # type: ignore[union-attr]  # there is one, unless it blocks
                cut(entered)  # who drips into the port would hold this process to its end

    def _ae(self) -> AE:
        ae = AE(self.aet)
        ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = ae.connection_timeout = self.timeout_s
        return ae

    @contextmanager
    def _association(
        self,
        ae: AE,
        doing: str,
        longest_s: float,
        most_bytes: int = MOST_LIST_BYTES,
        handlers: Sequence[Any] = (),
        roles: Sequence[Any] = (),
    ) -> Iterator[tuple[Association, Guard]]:
        """An association that is released at the end, and what holds it to its limits."""
        address = self.address
        opened: list[Association] = []  # before it is established, too

        with Guard(self.peer, doing, longest_s, most_bytes, lambda: cut(opened)) as guard:
            watching = [
                (evt.EVT_CONN_OPEN, lambda event: opened.append(event.assoc)),
                (evt.EVT_DATA_RECV, lambda event: guard.add(len(event.data))),
            ]
            association = ae.associate(
                address.host,
                address.port,
                ae_title=address.aet,
                tls_args=self.tls,
                ext_neg=list(roles),
                evt_handlers=[*watching, *handlers],
            )
            if not association.is_established:
                raise self._why_not(association)
            try:
                yield association, guard
            finally:
                if association.is_established:
                    association.release()

    def _pace(self, association: Association) -> None:
        """Let no more of a file wait in memory than a few PDUs, and count the timeout from when the last has gone.

        pynetdicom would queue a file of gigabytes as fast as the disk gives it, and then wait for the answer.
        """
        dul = association.dul
        send = dul.send_pdu

        def send_in_turn(primitive: Any) -> None:
            length, since = dul.to_provider_queue.qsize(), time.monotonic()
            while length > MOST_WAITING and association.is_established and dul.is_alive():
                time.sleep(0.001)
                if dul.to_provider_queue.qsize() != length:
                    length, since = dul.to_provider_queue.qsize(), time.monotonic()
                elif time.monotonic() - since > self.timeout_s:
                    raise UnreachableError(f"{self.peer} took nothing for {self.timeout_s:g} s (--timeout).")
            send(primitive)

        dul.send_pdu = send_in_turn  # type: ignore[method-assign]

    def _why_not(self, association: Association) -> Exception:
        """Why an association was not made."""
        answer = association.acceptor.primitive
        if association.is_rejected and answer is not None:
            said = f"{self.peer} rejected the association ({answer.result_str}: {answer.reason_str})"
            if answer.result == 2:  # transient
                return UnreachableError(f"{said}.")
            return PacsError(f"{said}; it must know itself as {self.address.aet} and us as --aet {self.aet}.")
        if answer is not None and not association.accepted_contexts and association.rejected_contexts:
            return RefusedError(
                f"{self.peer} takes none of what it is asked for: no presentation context was accepted."
            )
        try:
            with socket.create_connection((self.address.host, self.address.port), self.timeout_s) as connection:
                if self.tls:
                    self.tls[0].wrap_socket(connection, server_hostname=self.tls[1]).close()
        except ssl.SSLCertVerificationError as error:
            return PacsError(
                f"{self.peer} has a certificate that is not trusted ({error.verify_message}); "
                "give its authority's with --ca_file FILE."
            )
        except OSError as error:
            return UnreachableError(f"{self.peer} cannot be reached ({error.strerror or error}).")
        return UnreachableError(
            f"{self.peer} takes connections but did not answer as DICOM within {self.timeout_s:g} s (--timeout)."
        )

    def _check_list(self, status: Dataset, answers: int) -> None:
        """Raise what a status of C-FIND says; a list that is not whole is none."""
        code = status.get("Status", 0)
        if code in OUT_OF_RESOURCES or code in WARNINGS or code == CANCELLED:
            raise PacsError(
                f"{self.peer}: status {code:04X}h after {answers} answers to a query, so it gives no more to one query"
                " (too many match); raise its limit, or ask for less (--patient, --study, --days)."
            )
        self._check(status, QUERY)

    def _check(self, status: Dataset, doing: str) -> None:
        """Raise what a status of DIMSE says, if it is no good one."""
        if "Status" not in status:
            raise UnreachableError(
                f"{self.peer} dropped the association, or was silent for {self.timeout_s:g} s, while {doing}; "
                f"if it always does, it may not know us: have --aet {self.aet} entered there."
            )
        code = status.Status
        # B000h to BFFFh are warnings: an object was stored, though perhaps not with all of its attributes
        if code == 0 or code in PENDING or (code in WARNINGS and code != FAILED_SOME):
            return
        comment = plain(str(status.get("ErrorComment", "")))
        said = ": ".join(part for part in (STATUSES.get(code, ""), comment) if part)
        text = f"{self.peer}: status {code:04X}h while {doing}{f' ({said})' if said else ''}"
        if code in OUT_OF_RESOURCES:
            raise FullError(f"{text}: out of resources; make room there.")
        if code == 0xA801:
            raise PacsError(f"{text}; have {self.aet}, this machine and port {self.receive_port} entered there.")
        if "C-MOVE" in doing:
            text += f"; {self.aet} must be entered there with this machine and port {self.receive_port}"
        raise RefusedError(f"{text}.")


def _kind(path: Path) -> tuple[str, str]:
    """SOP class and transfer syntax of a file."""
    meta = dcmread(path, stop_before_pixels=True, specific_tags=["SOPClassUID"]).file_meta
    return str(meta.MediaStorageSOPClassUID), str(meta.TransferSyntaxUID)


@contextmanager
def _implicit(path: Path) -> Iterator[Path]:
    """The same object in implicit VR, while it is sent."""
    with tempfile.TemporaryDirectory(dir=path.parents[1]) as folder:  # beside its folder, of which each file is stored
        write_implicit(path, Path(folder) / path.name)
        yield Path(folder) / path.name


def _text(found: Dataset, keyword: str) -> str:
    """A value as plain text; what cannot be read counts as not said."""
    try:
        value = found.get(keyword)
    except Exception:  # pydicom converts on reading, and a hostile value may raise anything
        return ""
    values = value if isinstance(value, (list, tuple, MultiValue)) else [value]
    return "\\".join("" if each is None else str(each) for each in values)
