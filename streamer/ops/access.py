"""Which requests to an operations port are executed. Pure."""

import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus

from streamer.settings.deployment import OpsSettings
from streamer.settings.hosts import is_address, is_loopback, without_port

PROBES = frozenset({"/healthz", "/readyz", "/metrics"})
"""Pages that need no token: probes of orchestrators and Prometheus read them."""
_READS = frozenset({"GET", "HEAD"})


@dataclass(frozen=True, slots=True)
class Access:
    """The access check of one operations port.

    An order is a request that is neither GET nor HEAD.

    1. Probes are open.
    2. With a token, every other request needs it.
    3. A browser's order must come from a page of this port (`Origin`): a form on any web page can send one.
    4. Without a token, orders are executed on loopback or a Unix socket only.
    5. Without a token on loopback, `Host` must be an address or `localhost`: a foreign name that leads here (DNS
       rebinding) would make another site's page one of this port.
    """

    settings: OpsSettings

    def rejection(self, method: str, path: str, headers: Mapping[str, str]) -> tuple[HTTPStatus, str] | None:
        """Status and reason (one line) if the request is rejected; None if it is executed."""
        if path in PROBES:
            return None
        settings, is_order = self.settings, method not in _READS
        if settings.token is not None:
            sent = headers.get("Authorization", "").encode(errors="surrogateescape")
            if not hmac.compare_digest(sent, f"Bearer {settings.token.get_secret_value()}".encode()):
                return HTTPStatus.UNAUTHORIZED, "ops.token: expected as `Authorization: Bearer …`"
        host, origin = headers.get("Host", ""), headers.get("Origin")
        if is_order and origin is not None and origin.partition("://")[2].lower() != host.lower():
            return HTTPStatus.FORBIDDEN, f"Origin {origin!a}: orders from pages of other sites are rejected"
        if settings.token is not None or settings.socket is not None:
            return None
        if not is_loopback(settings.host):
            reason = f"ops.token: not set; orders need it because ops.host {settings.host} is not a loopback address"
            return (HTTPStatus.FORBIDDEN, reason) if is_order else None
        name = without_port(host)
        if name and not is_address(name) and not is_loopback(name):
            return HTTPStatus.FORBIDDEN, f"Host {host!a}: without ops.token only an IP address or localhost"
        return None
