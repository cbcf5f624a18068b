"""Where a PACS is, and with what we may speak to it: an address, and credentials from the environment."""

from __future__ import annotations

import base64
import ipaddress
import os
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from bundle.common.errors import InputError
from bundle.images.dicom.words import plain

FORMS = "https://host/dicom-web, dicom://CALLED_AET@host:port or dicom+tls://CALLED_AET@host:port"
TOKEN, USER, PASSWORD = (f"VIRTUAL_STAINING_PACS_{name}" for name in ("TOKEN", "USER", "PASSWORD"))
AE_TITLE = re.compile(r"[!-\[\]-~](?:[ -\[\]-~]{0,14}[!-\[\]-~])?")  # PS3.5 table 6.2-1: no backslash, no control


@dataclass(frozen=True)
class Web:
    """A DICOMweb service: its address, without a slash at the end, and the headers' Authorization or None."""

    url: str
    authorization: str | None


@dataclass(frozen=True)
class Dimse:
    """A DICOM application entity."""

    aet: str
    host: str
    port: int
    tls: bool

    def __str__(self) -> str:
        return f"{'dicom+tls' if self.tls else 'dicom'}://{self.aet}@{self.host}:{self.port}"


def read_address(address: str, environment: Mapping[str, str] = os.environ) -> Web | Dimse:
    """Read where a PACS is.

    Args:
        address: in one of :data:`FORMS`.
        environment: where the credentials of DICOMweb are.

    Raises:
        InputError: if it is in none of them, or credentials would travel in clear text.
    """
    try:
        parts = urlsplit(str(address))
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise InputError(f"pacs is no address ({error}); it is {FORMS}.") from error
    if parts.scheme in ("http", "https") and host:
        if parts.username is not None or parts.password is not None:  # not repeated here: it would be in the log
            raise InputError(f"pacs has credentials in its address, which others can read; set {USER} and {PASSWORD}.")
        if parts.query or parts.fragment:
            raise InputError(f"pacs is {plain(str(address))!r}; it must have no ? and no #.")
        authorization = _authorization(environment)
        if authorization and parts.scheme == "http" and not is_loopback(host):
            raise InputError(
                f"pacs is {plain(str(address))!r}: credentials are set and would go over the network in clear text; "
                "use https."
            )
        return Web(str(address).rstrip("/"), authorization)
    if parts.scheme in ("dicom", "dicom+tls"):
        aet = parts.username or ""
        if not AE_TITLE.fullmatch(aet) or not host or port is None or parts.path.strip("/"):
            raise InputError(f"pacs is {plain(str(address))!r}; it is {FORMS} with an AE title of up to 16 characters.")
        return Dimse(aet, host, port, parts.scheme == "dicom+tls")
    raise InputError(f"pacs is {plain(str(address))!r}; it is {FORMS}.")


def is_loopback(host: str) -> bool:
    """Whether a host is this machine, reached without a network."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def tls_files(ca_file: str | None, client_cert: str | None) -> None:
    """Check the files of TLS.

    Raises:
        InputError: if one is not there or holds no certificate.
    """
    for name, given in (("ca_file", ca_file), ("client_cert", client_cert)):
        if given is not None and not Path(str(given)).is_file():
            raise InputError(f"{name} {given} does not exist.")
    tls_context(ca_file, client_cert)


def tls_context(ca_file: str | None, client_cert: str | None) -> ssl.SSLContext:
    """What checks the PACS's certificate and its host name.

    Args:
        ca_file: certificates, PEM, of those who may sign it; None for those that the system trusts.
        client_cert: our own certificate with its key, PEM.

    Raises:
        InputError: if a file holds none.
    """
    try:
        context = ssl.create_default_context(cafile=ca_file)
    except (ssl.SSLError, OSError) as error:
        raise InputError(f"ca_file {ca_file} holds no certificate in PEM ({error}).") from error
    if client_cert is not None:
        try:
            context.load_cert_chain(client_cert)
        except (ssl.SSLError, OSError) as error:
            raise InputError(
                f"client_cert {client_cert} holds no certificate with its key in PEM ({error})."
            ) from error
    return context


def _authorization(environment: Mapping[str, str]) -> str | None:
    token, user, password = (environment.get(name) for name in (TOKEN, USER, PASSWORD))
    if token and (user or password):
        raise InputError(f"{TOKEN} is set and {USER} or {PASSWORD} too; unset one or the other.")
    if bool(user) != bool(password):
        raise InputError(f"of {USER} and {PASSWORD} one is set; set both.")
    if any(ord(letter) < 33 or ord(letter) > 126 for letter in token or ""):
        raise InputError(f"{TOKEN} has letters that a header cannot hold; set the token alone, without a line's end.")
    if token:
        return f"Bearer {token}"
    if user and password:
        return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
    return None
