"""An object store on this machine: a process of its own that can be ended and begun anew, and checks keys if asked."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import boto3
import requests

BUCKET = "scans"
SECRET = "wJalrXUtnFEMIplanted7MDENGsecret"  # that no file, log or error may hold
SERVE = """
import os, sys
from werkzeug.serving import make_server
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
class Counting(MotoRequestHandler):
    def log_request(self, *given):
        os.write(2, f"{self.command} {self.path}\\n".encode())  # in one piece, as requests come side by side
server = make_server("127.0.0.1", int(sys.argv[1]), DomainDispatcherApplication(create_backend_app), True,
                     request_handler=Counting)
print(server.server_address[1], flush=True)
server.serve_forever()
"""


@dataclass
class Store:
    """A moto server.

    Attributes:
        log: what it was asked, a line each.
        port: 0 until it is chosen.
    """

    log: Path
    port: int = 0
    process: subprocess.Popen[str] | None = field(default=None, repr=False)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Begin, empty."""
        with self.log.open("a") as log:
            command = [sys.executable, "-c", SERVE, str(self.port)]
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline())

    def stop(self) -> None:
        """End at once."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            assert self.process.stdout is not None
            self.process.stdout.close()
            self.process = None

    def client(self):
        keys = {"aws_access_key_id": "AKIAPLANTED", "aws_secret_access_key": SECRET}
        return boto3.client("s3", endpoint_url=self.url, region_name="us-east-1", **keys)

    def upload(self, local: Path, name: str) -> str:
        """Put a file, or all of a folder, into the bucket; gives its URL."""
        files = [local] if local.is_file() else [path for path in local.rglob("*") if path.is_file()]
        for path in files:
            rest = "" if local.is_file() else f"/{path.relative_to(local)}"
            self.client().put_object(Bucket=BUCKET, Key=f"{name}{rest}", Body=path.read_bytes())
        return f"s3://{BUCKET}/{name}"

    def objects(self, prefix: str = "") -> dict[str, bytes]:
        """All objects below a prefix, by what follows it."""
        client = self.client()
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix)
        keys = [each["Key"] for page in pages for each in page.get("Contents", [])]
        found = {}
        for key in keys:
            with suppress(client.exceptions.NoSuchKey):  # removed meanwhile, by who is at work
                found[key.removeprefix(prefix).lstrip("/")] = client.get_object(Bucket=BUCKET, Key=key)["Body"].read()
        return found

    def restore(self, objects: dict[str, bytes]) -> None:
        """Make the bucket anew, with what it held."""
        client = self.client()
        client.create_bucket(Bucket=BUCKET)
        for key, content in objects.items():
            client.put_object(Bucket=BUCKET, Key=key, Body=content)

    def asked(self) -> list[str]:
        """What it was asked since it began."""
        return self.log.read_text().splitlines()

    def check_keys(self, after: float) -> None:
        """Refuse keys that it does not know, after so many more requests."""
        requests.post(f"{self.url}/moto-api/reset-auth", data=str(after), timeout=10).raise_for_status()


def environment(store: Store) -> dict[str, str]:
    """What a user sets."""
    return {
        "AWS_ACCESS_KEY_ID": "AKIAPLANTED",
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": store.url,
        "AWS_CONFIG_FILE": "/nonexistent",
        "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent",
        "AWS_EC2_METADATA_DISABLED": "true",
    }


@contextmanager
def object_store(folder: Path) -> Iterator[Store]:
    """A store with one bucket."""
    store = Store(folder / "s3.log")
    store.start()
    try:
        store.client().create_bucket(Bucket=BUCKET)
        yield store
    finally:
        store.stop()
