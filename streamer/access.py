"""Which requests to an HTTP port are executed. Pure."""

import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus

from pydantic import SecretStr

from streamer.settings.hosts import is_address, is_loopback, without_port

_READS = frozenset({"GET", "HEAD"})


@dataclass(frozen=True, slots=True)
class Access:
    """The access check of one port.

    An order is a request that is neither GET nor HEAD.

    1. The `probes` are open: probes of orchestrators and Prometheus read these pages.
    2. With a token, every other request needs it.
    3. A browser's order must come from a page of this port (`Origin`): a form on any web page can send one.
    4. Without a token, orders are executed on loopback or a Unix socket only.
    5. Without a token on loopback, `Host` must be an address or `localhost`: a foreign name that leads here (DNS
       rebinding) would make another site's page one of this port.

    Attributes:
        section: of the settings of this port; rejections name it.
        host: the interface; None: a Unix socket.
    """

    section: str
    host: str | None
    token: SecretStr | None = field(repr=False)
    probes: frozenset[str] = frozenset()

    def rejection(self, method: str, path: str, headers: Mapping[str, str]) -> tuple[HTTPStatus, str] | None:
        """Status and reason (one line) if the request is rejected; None if it is executed."""
        if path in self.probes:
            return None
        section, is_order = self.section, method not in _READS
        if self.token is not None:
            sent = headers.get("Authorization", "").encode(errors="surrogateescape")
            if not hmac.compare_digest(sent, f"Bearer {self.token.get_secret_value()}".encode()):
                return HTTPStatus.UNAUTHORIZED, f"{section}.token: expected as `Authorization: Bearer …`"
        host, origin = headers.get("Host", ""), headers.get("Origin")
        if is_order and origin is not None and origin.partition("://")[2].lower() != host.lower():
            return HTTPStatus.FORBIDDEN, f"Origin {origin!a}: orders from pages of other sites are rejected"
        if self.token is not None or self.host is None:
            return None
        if not is_loopback(self.host):
            where = f"{section}.host {self.host}"
            reason = f"{section}.token: not set; orders need it because {where} is not a loopback address"
            return (HTTPStatus.FORBIDDEN, reason) if is_order else None
        name = without_port(host)
        if name and not is_address(name) and not is_loopback(name):
            return HTTPStatus.FORBIDDEN, f"Host {host!a}: without {section}.token only an IP address or localhost"
        return None
