"""Clients of programs on this machine; they ignore the proxy variables of the environment."""

import http.client

DIRECT = (("grpc.enable_http_proxy", 0),)
"""Options of a gRPC channel to a program on this machine."""


def get(port: int, path: str, timeout_s: float) -> tuple[int, str]:
    """Status and text of a page.

    Raises:
        OSError, http.client.HTTPException: no complete answer came in time.
    """
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout_s)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()
