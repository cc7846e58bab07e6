"""A Google Cloud Storage in memory, on loopback, for TensorFlow's own client of gs:// URLs.

The client knows only https://*.googleapis.com. So the server is its HTTPS proxy too, and answers in Google's name with
a certificate that the client is told to trust. It is a process of its own, because the client holds Python's lock while
it waits.
"""

import json
import os
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from unittest.mock import patch
from urllib.parse import parse_qsl, unquote, urlsplit

import trustme

from sandbox.host.ports import LOOPBACK

_HOSTS = ("www.googleapis.com", "storage.googleapis.com")
_OBJECTS = "/storage/v1/b/"
_WRITTEN = "/written"
"""What a test asks, without TLS."""


class _Server(ThreadingHTTPServer):
    """The objects by bucket and name; `uploads` are the names by session."""

    daemon_threads = True

    def __init__(self, context: ssl.SSLContext) -> None:
        super().__init__((LOOPBACK, 0), _Handler)
        self.context, self.objects, self.uploads = context, dict[str, bytes](), dict[str, str]()
        self.created: list[str] = []


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    # The base class gives these names.

    def do_CONNECT(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.connection = self.server.context.wrap_socket(self.connection, server_side=True)
        self.rfile = self.connection.makefile("rb")
        self.wfile = self.connection.makefile("wb")
        self.close_connection = False

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        if url.path == _WRITTEN:
            return self._json(self.server.created)
        if not url.path.startswith(_OBJECTS):
            return self._content(unquote(url.path[1:]))
        bucket, _, name = url.path.removeprefix(_OBJECTS).partition("/o")
        if name.startswith("/"):
            found = self.server.objects.get(f"{bucket}/{unquote(name[1:])}")
            if found is None:
                return self._answer(404)
            return self._json({"size": str(len(found)), "generation": "1", "updated": "2026-01-01T00:00:00.000Z"})
        if not url.path.endswith("/o"):
            return self._json({"name": bucket})
        return self._list(bucket, dict(parse_qsl(url.query)))

    def do_POST(self) -> None:
        url = urlsplit(self.path)
        query, body = dict(parse_qsl(url.query)), self._body()
        if "/rewriteTo/" in url.path:
            source, target = url.path.removeprefix(_OBJECTS).split("/rewriteTo/b/")
            names = [unquote(path).replace("/o/", "/", 1) for path in (source, target)]
            self.server.objects[names[1]] = self.server.objects[names[0]]
            return self._json({"done": True})
        name = f"{url.path.split('/b/')[1].partition('/')[0]}/{query['name']}"
        if query["uploadType"] == "media":
            return self._put(name, body)
        session = f"/session/{len(self.server.uploads)}"
        self.server.uploads[session] = name
        return self._answer(200, headers={"Location": f"https://{_HOSTS[0]}{session}"})

    def do_PUT(self) -> None:
        self._put(self.server.uploads[self.path], self._body())

    def do_DELETE(self) -> None:
        bucket, _, name = urlsplit(self.path).path.removeprefix(_OBJECTS).partition("/o/")
        self._answer(204 if self.server.objects.pop(f"{bucket}/{unquote(name)}", None) is not None else 404)

    def finish(self) -> None:
        super().finish()
        self.connection.close()

    def log_message(self, *_: object) -> None:
        """Writes nothing."""

    def _put(self, name: str, content: bytes) -> None:
        self.server.objects[name] = content
        self.server.created.append(name)
        self._json({"name": name})

    def _content(self, name: str) -> None:
        found = self.server.objects.get(name)
        if found is None:
            return self._answer(404)
        first, _, last = self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")
        part = found[int(first) : int(last) + 1 if last else None]
        return self._answer(206, part) if part or not found else self._answer(416)

    def _list(self, bucket: str, query: dict[str, str]) -> None:
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter")
        names, folders = list[str](), set[str]()
        for path in sorted(self.server.objects):
            name = path.removeprefix(f"{bucket}/")
            if path.startswith(f"{bucket}/{prefix}"):
                below, found, _ = name[len(prefix) :].partition(delimiter or "\0")
                if found:
                    folders.add(f"{prefix}{below}/")
                else:
                    names.append(name)
        limit = int(query.get("maxResults", 1000))
        self._json({"items": [{"name": name} for name in names[:limit]], "prefixes": sorted(folders)[:limit]})

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _json(self, content: object) -> None:
        self._answer(200, json.dumps(content).encode())

    def _answer(self, status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for key, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(body)


class Storage:
    """The storage that a child process serves."""

    def __init__(self, address: str) -> None:
        self._address = address

    def written(self) -> list[str]:
        """The names of the objects that were written, in order."""
        connection = HTTPConnection(urlsplit(self._address).netloc)
        connection.request("GET", _WRITTEN)
        names: list[str] = json.loads(connection.getresponse().read())
        connection.close()
        return names


@contextmanager
def google_cloud_storage(folder: Path) -> Iterator[Storage]:
    """Serves every bucket to this process and its children."""
    command = [sys.executable, "-m", "tests.model_training.gcs", str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        environment = {
            "https_proxy": address,
            "CURL_CA_BUNDLE": str(folder / "ca.pem"),
            "GOOGLE_AUTH_TOKEN_FOR_TESTING": "token",
            "GCS_STAT_CACHE_MAX_AGE": "0",
            "no_proxy": "",
        }
        with patch.dict(os.environ, environment):
            yield Storage(address)
        process.terminate()


def _serve(folder: Path) -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*_HOSTS).configure_cert(context)
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    server = _Server(context)
    sys.stdout.write(f"http://{LOOPBACK}:{server.server_address[1]}\n")
    sys.stdout.flush()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdin.read()  # it ends with the test


if __name__ == "__main__":
    _serve(Path(sys.argv[1]))
