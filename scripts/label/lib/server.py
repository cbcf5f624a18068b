"""MONAI Label's own server, with one line also where its own code meets what it did not expect."""

from __future__ import annotations

from fastapi import Request
from fastapi.responses import JSONResponse
from lib.answers import answer
from monailabel.app import app
from monailabel.config import settings


async def one_line(request: Request, error: Exception) -> JSONResponse:
    """The answer to a request that raised an error."""
    said = answer(error, settings.MONAI_LABEL_STUDIES)
    return JSONResponse({"detail": said.detail}, said.status_code)


app.add_exception_handler(Exception, one_line)
