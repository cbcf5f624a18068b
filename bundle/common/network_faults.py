"""What goes wrong between here and a file on another machine, in one line each."""

from __future__ import annotations

import re

from bundle.common.errors import InputError, causes

GO_ON = "what is done is kept, and the same command goes on"
CREDENTIALS = "(environment variables or a profile, docs/volumes.md)"
NO_CREDENTIALS = (
    *("NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError"),
    "DefaultCredentialsError",  # of Google
)
UNREACHED = (
    *("EndpointConnectionError", "ConnectTimeoutError", "ConnectionClosedError", "ReadTimeoutError", "HTTPClientError"),
    *("ProxyConnectionError", "ClientConnectorError", "ClientConnectionError", "ServerDisconnectedError"),
    *("ClientPayloadError", "ClientOSError", "ClientConnectorDNSError", "ServerTimeoutError", "SocketTimeoutError"),
    *("ConnectionTimeoutError", "IncompleteRead", "ResponseStreamingError", "FSTimeoutError"),
)
UNSAFE = ("SSLError", "ClientConnectorSSLError", "ClientConnectorCertificateError")
LIBRARIES = ("botocore", "aiobotocore", "s3fs", "aiohttp", "gcsfs", "google", "fsspec", "requests", "urllib3")
WRONG_KEY = ("InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "AuthFailure", "InvalidClientTokenId")
EXPIRED = ("ExpiredToken", "TokenRefreshRequired", "RequestTimeTooSkewed")
REGION = ("PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException", "301")


def network_fault(error: BaseException, where: str) -> InputError | None:
    """The line for an error that arose on the way to a place; None if it is of another kind, or nothing is there.

    What libraries say is not repeated but for the name of their error: it may hold a signed URL.

    Args:
        error: as it was raised.
        where: the place, as it may be printed.
    """
    found = [(type(link).__name__, type(link).__module__.partition(".")[0], link) for link in causes(error)]
    if any(isinstance(link, InputError) for _, _, link in found):
        return None
    for name, library, link in found:
        told = _of(name, library, link, where)
        if told:
            return InputError(f"{where} {told}")
    for _, _, link in found if "://" in where else ():
        if isinstance(link, PermissionError):
            return InputError(f"{where} {_refused('403')}")
        if isinstance(link, (ConnectionError, TimeoutError)):
            return InputError(f"{where} {_unreached(type(link).__name__)}")
    return None


def _of(name: str, library: str, error: BaseException, where: str) -> str | None:
    if library not in LIBRARIES:
        return None
    if name in NO_CREDENTIALS:
        return f"needs credentials, and none were found ({name}); set them {CREDENTIALS}."
    if name == "ProfileNotFound":
        return "is to be reached by a profile that does not exist (ProfileNotFound); see AWS_PROFILE."
    if name in UNSAFE:
        return f"is not trusted: its server's certificate is not valid here ({name}); see the address and the clock."
    if name in UNREACHED:
        return _unreached(name)
    response = getattr(error, "response", None)
    if isinstance(response, dict):
        return _of_code(str(response.get("Error", {}).get("Code", "")), where)
    status = getattr(error, "status", None)
    if isinstance(status, int):
        return _of_code(str(status), where)
    if library in ("botocore", "aiobotocore"):
        return f"cannot be reached as things are set ({name}); see the endpoint, region and profile {CREDENTIALS}."
    return None


def _of_code(code: str, where: str) -> str | None:
    """What a server's answer means; None where it says that nothing is there."""
    if code == "NoSuchBucket":
        bucket = re.split("[/,]", where.partition("://")[2])[0]
        return f"is in a bucket that does not exist, {bucket}; make it, or name another, and see the endpoint."
    if code in ("404", "NoSuchKey", "416", "InvalidRange"):
        return None
    if code in WRONG_KEY:
        return f"refuses the credentials that are set ({code}); set those of this store {CREDENTIALS}."
    if code in EXPIRED:
        return f"refuses the credentials that are set, which have expired ({code}); get new ones. Then {GO_ON}."
    if code in REGION:
        return f"is in another region than is set ({code}); set AWS_DEFAULT_REGION to that of the bucket."
    if code in ("403", "401", "AccessDenied", "Forbidden", "AllAccessDisabled"):
        return _refused(code)
    if code.startswith("5") or code in ("SlowDown", "ServiceUnavailable", "InternalError", "RequestTimeout"):
        return f"is at a server that has trouble ({code}); wait. Then {GO_ON}."
    return f"is refused by its server ({code or 'without a reason'}); see that name, endpoint and region are right."


def _refused(code: str) -> str:
    return f"may not be used with the credentials that are set ({code}); ask for the right to it, or set others."


def _unreached(name: str) -> str:
    return f"cannot be reached ({name}); see that its server runs and the endpoint is right. Then {GO_ON}."
