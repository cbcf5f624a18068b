"""MONAI Label's own server, of which only what stains and what only reads is served, to no other web site.

MONAI Label alone lets any client, and any page open in a browser on this machine, replace scans (by names that lead out
of their folder, too), replace the model, start a training, and read the PACS with the server's credentials.
"""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

from fastapi import Request, Response
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import JSONResponse
from lib.answers import UNFIT, answer
from monailabel.app import app
from monailabel.config import settings

REFUSED = 403
SERVED = {  # the last of GET is asked for by MONAI Label itself when it starts
    "GET": re.compile(r"/info/?|/datastore/?|/datastore/image(/info)?/?|/logs/?|/openapi\.json"),
    "POST": re.compile(r"/infer/[^/]+/?"),
}
OUTPUTS = ("image", "json", "all")


async def one_line(request: Request, error: Exception) -> JSONResponse:
    """The answer to a request that raised an error."""
    said = answer(error, settings.MONAI_LABEL_STUDIES)
    return JSONResponse({"detail": said.detail}, said.status_code)


async def only_served(request: Request, go_on: Callable[[Request], Awaitable[Response]]) -> Response:
    """Answer what is served, and say in one line that all else is not."""
    method, path = request.method, request.url.path
    origin = request.headers.get("origin")
    if origin is not None and urlsplit(origin).netloc != request.headers.get("host"):
        return JSONResponse({"detail": "requests of other web sites are not served."}, REFUSED)
    if method not in SERVED or not SERVED[method].fullmatch(path):
        detail = "this is not served: the server stains, and changes neither scans nor the model; see docs/label.md."
        return JSONResponse({"detail": detail}, REFUSED)
    if method == "POST":
        output = request.query_params.get("output")
        if output not in (None, *OUTPUTS):
            return JSONResponse({"detail": f"output is {output[:64]!r}; it must be {', '.join(OUTPUTS)}."}, UNFIT)
        sent = request.headers.get("content-type", "").startswith("multipart/form-data")
        if not request.query_params.get("image") and not sent:
            detail = "there is no scan to stain; give its id as ?image=ID, or send a NIfTI as file."
            return JSONResponse({"detail": detail}, UNFIT)
    return await go_on(request)


app.add_exception_handler(Exception, one_line)
app.add_exception_handler(json.JSONDecodeError, one_line)  # else the log has a traceback of what a client mistyped
app.user_middleware = [each for each in app.user_middleware if each.cls is not CORSMiddleware]
app.middleware("http")(only_served)
