"""A real Orthanc for tests: its own database, its own ports, gone when they end."""

from __future__ import annotations

import json
import socket
import subprocess
import time
import urllib.error
import urllib.request
from base64 import b64encode
from pathlib import Path
from types import TracebackType
from typing import Any

PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")  # and no other: orthanc-gdcm crashed on RLE
WSI_PLUGIN = PLUGIN.with_name("libOrthancWSI.so")  # the viewer of whole slides, where a test asks for it
AET = "ORTHANC"
PATIENCE_S = 60.0


def free_ports(count: int) -> list[int]:
    """Ports of this machine that nothing listens on."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


class Orthanc:
    """A running Orthanc with DICOMweb; a context manager.

    Args:
        folder: of its database and log; it is new each time.
        modalities: other application entities that may query it and that it may move to, {AET: port on this machine}.
        options: of its configuration, to add or replace.

    Attributes:
        aet: its application entity title.
        dicom_port: where it listens for DICOM.
        http: its address.
        web: of its DICOMweb.
        user, password: what HTTP asks for.
    """

    aet = AET
    user, password = "research", "secret of this test"

    def __init__(self, folder: Path, modalities: dict[str, int] | None = None, **options: Any) -> None:
        self.folder = folder
        self.dicom_port, http_port = free_ports(2)
        self.http = f"http://127.0.0.1:{http_port}"
        self.web = f"{self.http}/dicom-web"
        self.configuration = {
            "Name": "test",
            "StorageDirectory": str(folder / "database"),
            "IndexDirectory": str(folder / "database"),
            "Plugins": [str(PLUGIN)],
            "HttpPort": http_port,
            "RemoteAccessAllowed": False,  # it listens on all addresses whatever it is told
            "AuthenticationEnabled": True,
            "RegisteredUsers": {self.user: self.password},
            "DicomAet": AET,
            "DicomPort": self.dicom_port,
            "DicomCheckCalledAet": True,
            "DicomModalities": {aet: [aet, "127.0.0.1", port] for aet, port in (modalities or {}).items()},
            "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
            "OverwriteInstances": True,
            "LimitFindResults": 0,
            **options,
        }
        self.process: subprocess.Popen | None = None

    def start(self) -> Orthanc:
        """Start it, on the database that is there, and wait until it answers."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / "orthanc.json"
        path.write_text(json.dumps(self.configuration, indent=1))
        with (self.folder / "log.txt").open("a") as log:
            self.process = subprocess.Popen(["Orthanc", str(path)], stdout=log, stderr=log)
        end = time.monotonic() + PATIENCE_S
        while True:
            try:
                self.get("/system")
                return self
            except (urllib.error.URLError, ConnectionError) as error:
                if self.process.poll() is not None or time.monotonic() > end:
                    log_text = (self.folder / "log.txt").read_text()[-3000:]
                    raise RuntimeError(f"Orthanc did not start: {log_text}") from error
                time.sleep(0.1)

    def stop(self) -> None:
        """End it; its database stays."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def __enter__(self) -> Orthanc:
        """Start it."""
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End it."""
        self.stop()

    def request(self, path: str, body: bytes | None = None, method: str | None = None) -> bytes:
        """What its own REST interface answers."""
        request = urllib.request.Request(f"{self.http}{path}", data=body, method=method)
        credentials = b64encode(f"{self.user}:{self.password}".encode()).decode()
        request.add_header("Authorization", f"Basic {credentials}")
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
            return answer.read()

    def get(self, path: str) -> Any:
        """JSON of its own REST interface, such as ``/series``."""
        return json.loads(self.request(path))

    def upload(self, *files: Path) -> None:
        """Put DICOM files into it, over its own REST interface."""
        for file in files:
            self.request("/instances", file.read_bytes())

    def clear(self) -> None:
        """Remove all it holds."""
        for patient in self.get("/patients"):
            self.request(f"/patients/{patient}", method="DELETE")
