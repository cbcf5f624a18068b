"""MONAI Label's own server, of which only what stains and what only reads is served, to no other web site's page.

MONAI Label alone lets any client, and any page open in a browser on this machine, replace scans (by names that lead out
of their folder, too), replace the model, start a training, and read the PACS with the server's credentials.
"""

from __future__ import annotations

import ipaddress
import json
import os
import re
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

from fastapi import Request, Response
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import JSONResponse
from lib.answers import UNFIT, answer
from monailabel.app import app
from monailabel.config import settings

from bundle.images.dicom.words import plain

REFUSED = 403
SERVED = {  # the last of GET is asked for by MONAI Label itself when it starts
    "GET": re.compile(r"/info/?|/datastore/?|/datastore/image(/info)?/?|/logs/?|/openapi\.json"),
    "POST": re.compile(r"/infer/[^/]+/?"),
}
OUTPUTS = ("image", "json", "all")
LOOPBACK = ("localhost", "127.0.0.1", "::1")
NAMES = {*LOOPBACK, *os.environ.get("VIRTUAL_STAINING_LABEL_NAMES", "").lower().split()}  # set by scripts.label


def is_ours(host: str, address: str) -> bool:
    """Whether a request is meant for this server.

    A page of another site may have its own name lead to this machine (DNS rebinding); its browser then takes us for
    that site, and the page reads what we answer. The name it asks for is still its own.

    Args:
        host: the request's Host header, with or without a port.
        address: of this machine, where the request came in; as good as a name, for no name server has a say in it.
    """
    try:
        name = (urlsplit(f"//{host}").hostname or "").rstrip(".")
        return name in NAMES or ipaddress.ip_address(name) == ipaddress.ip_address(address)
    except ValueError:  # no host at all, or a name of somebody else's
        return False


async def one_line(request: Request, error: Exception) -> JSONResponse:
    """The answer to a request that raised an error."""
    said = answer(error, settings.MONAI_LABEL_STUDIES)
    return JSONResponse({"detail": said.detail}, said.status_code)


async def only_served(request: Request, go_on: Callable[[Request], Awaitable[Response]]) -> Response:
    """Answer what is served, and say in one line that all else is not."""
    method, path = request.method, request.url.path
    host, origin = request.headers.get("host", ""), request.headers.get("origin")
    if not is_ours(host, (request.scope.get("server") or [""])[0]):
        detail = f"this server is not called {plain(host)!r}; where that is one of its names, start it with --names."
        return JSONResponse({"detail": detail}, REFUSED)
    if origin is not None and urlsplit(origin).netloc != host:
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
