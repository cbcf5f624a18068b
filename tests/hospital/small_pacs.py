"""An application entity that finds, gives and takes, with the faults that Orthanc cannot be made to have."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

from pydicom import Dataset, dcmread
from pynetdicom import AE, DEFAULT_TRANSFER_SYNTAXES, evt
from pynetdicom.sop_class import (
    CTImageStorage,
    MultiFrameTrueColorSecondaryCaptureImageStorage,
    SecondaryCaptureImageStorage,
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
)

MODELS = (
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
)
LEVELS = {"STUDY": "StudyInstanceUID", "SERIES": "SeriesInstanceUID", "IMAGE": "SOPInstanceUID"}


class SmallPacs:
    """A context manager.

    Args:
        files: that it holds.
        certificate: with its key, PEM, for TLS.

    Attributes:
        held: headers and pixels by SOP Instance UID.
        takes: so many more objects are taken; then ``status`` is answered.
        status: to a C-STORE that is not taken; 0 to drop the association instead.
        gives: so many more objects are given by C-GET; then the association is dropped.
        lists: whether it lists what it was given.
        syntaxes: transfer syntaxes of the objects that it takes and gives; set before it is started.
    """

    aet = "SMALL"

    def __init__(self, *files: Path, certificate: str | None = None) -> None:
        self.certificate = certificate
        self.held = {str(each.SOPInstanceUID): each for each in map(dcmread, files)}
        self.takes = self.gives = 10**9
        self.status = 0xA700
        self.lists = True
        self.syntaxes = list(DEFAULT_TRANSFER_SYNTAXES)

    def __enter__(self) -> SmallPacs:
        """Start it."""
        ae = AE(self.aet)
        ae.require_called_aet = True
        for model in MODELS:
            ae.add_supported_context(model)
        for kind in (CTImageStorage, SecondaryCaptureImageStorage, MultiFrameTrueColorSecondaryCaptureImageStorage):
            ae.add_supported_context(kind, self.syntaxes, scu_role=True, scp_role=True)
        handlers: list[Any] = [
            (evt.EVT_C_FIND, self.find),
            (evt.EVT_C_GET, self.give),
            (evt.EVT_C_MOVE, self.move),
            (evt.EVT_C_STORE, self.take),
        ]
        context = None
        if self.certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(self.certificate)
        self.server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers, ssl_context=context)
        self.address = f"dicom{'+tls' * bool(context)}://{self.aet}@127.0.0.1:{self.server.server_address[1]}"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End it."""
        self.server.shutdown()

    def find(self, event: evt.Event) -> Iterator[tuple[int, Dataset | None]]:
        """Answer a C-FIND, as plainly as can be: UIDs, dates as given, and what has the same text."""
        asked, told = event.identifier, set()
        level = LEVELS[asked.QueryRetrieveLevel]
        for each in list(self.held.values()):
            uids = [key for key in LEVELS.values() if asked.get(key)]
            if each.get(level) in told or any(str(each.get(key)) != str(asked.get(key)) for key in uids):
                continue
            told.add(each.get(level))
            answer = Dataset()
            for element in asked:
                setattr(answer, element.keyword, each.get(element.keyword))
            answer.QueryRetrieveLevel = asked.QueryRetrieveLevel
            yield 0xFF00, answer

    def give(self, event: evt.Event) -> Iterator[Any]:
        """Answer a C-GET."""
        wanted = event.identifier.SOPInstanceUID
        wanted = [wanted] if isinstance(wanted, str) else list(wanted)
        yield len(wanted)
        for uid in wanted:
            self.gives -= 1
            if self.gives < 0:
                event.assoc.abort()
                return
            yield 0xFF00, self.held[uid]

    def move(self, event: evt.Event) -> Iterator[Any]:
        """Answer a C-MOVE: it knows nobody."""
        yield None, None

    def take(self, event: evt.Event) -> int:
        """Answer a C-STORE."""
        self.takes -= 1
        if self.takes < 0:
            if self.status == 0:
                event.assoc.abort()
            return self.status or 0xC000
        dataset = event.dataset
        dataset.file_meta = event.file_meta
        if self.lists:
            self.held[str(dataset.SOPInstanceUID)] = dataset
        return 0
