"""What a client is told when something is wrong: one line, and an HTTP status."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager

import requests
from fastapi import HTTPException

from bundle.common.errors import full_disk, input_error
from bundle.hospital.pacs.faults import LaterError, PacsError

logger = logging.getLogger(__name__)

NOT_FOUND, UNFIT, BROKEN, NO_PACS, FULL = 404, 422, 500, 502, 507


@contextmanager
def told(pacs: str) -> Iterator[None]:
    """Answer with one line where MONAI Label would answer ``Internal Server Error``.

    Args:
        pacs: address of the DICOMweb server, for the message; it holds no credentials.

    Raises:
        HTTPException: of :func:`answer`.
    """
    try:
        yield
    except Exception as error:
        said = answer(error, pacs)
        if said is error:
            raise
        raise said from error


def answer(error: Exception, pacs: str) -> HTTPException:
    """What a client is told of an error; the log has its traceback, unless it is the user's to mend.

    Args:
        error: any.
        pacs: as of :func:`told`.

    Returns:
        422 for what the user can mend, 502 for what the PACS refuses, 507 for a full disk, 500 for anything else.
    """
    if isinstance(error, HTTPException):
        said = error
    elif isinstance(fault := input_error(error), (PacsError, LaterError)):
        said = HTTPException(NO_PACS, str(fault))
    elif fault is not None:
        said = HTTPException(UNFIT, str(fault))
    elif isinstance(error, json.JSONDecodeError):
        said = HTTPException(UNFIT, f"params is no JSON ({error}).")
    elif isinstance(error, requests.RequestException):
        said = HTTPException(NO_PACS, _pacs_fault(pacs, error))
    elif (full := full_disk(error)) is not None:
        said = HTTPException(FULL, f"the disk of the server is full ({full.strerror}); make room.")
    else:
        logger.error("failed", exc_info=error)
        said = HTTPException(BROKEN, f"{type(error).__name__} in the server; its log has the traceback.")
    logger.error("%s %s", said.status_code, said.detail)
    return said


def _pacs_fault(pacs: str, error: requests.RequestException) -> str:
    status = error.response.status_code if error.response is not None else None
    if status in (401, 403):
        return (
            f"the PACS at {pacs} refuses these credentials ({status}); start the server with "
            "MONAI_LABEL_DICOMWEB_USERNAME and MONAI_LABEL_DICOMWEB_PASSWORD in its environment."
        )
    if status is not None:
        return f"the PACS at {pacs} answered {status}; look at its log, and ask again."
    if isinstance(error, requests.Timeout):
        return f"the PACS at {pacs} does not answer in time; ask again."
    return f"the PACS at {pacs} cannot be reached, or broke off ({type(error).__name__}); ask again when it is up."
