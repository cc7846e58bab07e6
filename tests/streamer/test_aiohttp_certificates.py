"""aiohttp's default contexts load the certificates at their first connection, and only then."""

import subprocess
import sys

_PROGRAM = """
import ssl
load = ssl.SSLContext.load_default_certs
import streamer.commands
from aiohttp import connector

assert ssl.SSLContext.load_default_certs is load
assert "set_default_verify_paths" not in vars(ssl.SSLContext)
expected = ssl.create_default_context().cert_store_stats()
for context in (connector._SSL_CONTEXT_VERIFIED, connector._SSL_CONTEXT_UNVERIFIED):
    assert context.cert_store_stats()["x509"] == 0
    for _ in range(2):
        context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname="example.org")
        assert context.cert_store_stats() == expected
assert connector._SSL_CONTEXT_VERIFIED.verify_mode == ssl.CERT_REQUIRED
assert connector._SSL_CONTEXT_VERIFIED.check_hostname
"""


def test_certificates_are_loaded_at_the_first_connection() -> None:
    subprocess.run([sys.executable, "-c", _PROGRAM], check=True, timeout=60)
