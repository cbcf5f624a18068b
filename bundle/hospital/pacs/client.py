"""A client for an address."""

from __future__ import annotations

from bundle.common.errors import InputError
from bundle.hospital.pacs.address import AE_TITLE, read_address, tls_files
from bundle.hospital.pacs.address import Web as WebAddress
from bundle.hospital.pacs.dimse import Dimse
from bundle.hospital.pacs.faults import Patience
from bundle.hospital.pacs.series import Pacs
from bundle.hospital.pacs.web import Web
from bundle.images.dicom.words import plain

FETCHES = ("get", "move")
AET = "VSTAIN"


def connect(
    pacs: str,
    patience: Patience,
    aet: str = AET,
    fetch: str = "get",
    receive_port: int = 11113,
    ca_file: str | None = None,
    client_cert: str | None = None,
) -> Pacs:
    """A client of a PACS; nothing is sent yet.

    Args:
        pacs: its address, see :func:`bundle.hospital.pacs.address.read_address`.
        patience: its timeout.
        aet: our own AE title (DIMSE).
        fetch: ``get`` or ``move`` (DIMSE).
        receive_port: where a C-MOVE comes in.
        ca_file: certificates that are trusted, PEM; None for those of the system.
        client_cert: our own with its key, PEM.

    Raises:
        InputError: if one of them is not what it must be.
    """
    address = read_address(pacs)
    if fetch not in FETCHES:
        raise InputError(f"fetch is {fetch!r}; it must be one of {', '.join(FETCHES)}.")
    tls_files(ca_file, client_cert)
    if isinstance(address, WebAddress):
        return Web(address, patience, ca_file, client_cert)
    if not AE_TITLE.fullmatch(str(aet)):
        raise InputError(f"aet is {plain(str(aet))!r}; an AE title has 1 to 16 characters, no backslash.")
    if fetch == "move" and address.tls:
        raise InputError("fetch is 'move', but what a C-MOVE sends us would come without TLS; use --fetch get.")
    if type(receive_port) is not int or not 0 < receive_port < 65536:
        raise InputError(f"receive_port is {receive_port!r}; it must be from 1 to 65535.")
    return Dimse(address, patience, str(aet), receive_port if fetch == "move" else None, ca_file, client_cert)
