"""Which proxy variable gRPC applies to a model server's address. Pure."""

from collections.abc import Mapping
from ipaddress import ip_address, ip_network
from urllib.parse import unquote

from streamer.settings.hosts import is_loopback, without_port

_PROXY = ("grpc_proxy", "https_proxy", "http_proxy")
_EXEMPT = ("no_grpc_proxy", "no_proxy")


def is_local(address: str) -> bool:
    """Whether an address of gRPC leads to this machine: loopback or a Unix socket."""
    if address.startswith(("unix:", "unix-abstract:")):
        return True
    return all(is_loopback(host) for host in _hosts(address))


def proxy_variable(address: str, environment: Mapping[str, str]) -> str | None:
    """The variable that names a proxy for an address; None: the connection is direct.

    As gRPC reads them (`http_proxy_mapper.cc`): lower case only; the first one that is set counts, also if it is empty;
    an exemption is the end of a host name, or a network of addresses.
    """
    name = next((name for name in _PROXY if name in environment), None)
    if name is None or not environment[name].startswith("http://") or is_local(address):
        return None
    exempt = next((environment[name] for name in _EXEMPT if name in environment), "")
    entries = [entry.strip().lower() for entry in exempt.split(",")]
    return None if all(_is_exempt(host, entries) for host in _hosts(address)) else name


def _hosts(address: str) -> list[str]:
    """The hosts of `host:port`, `dns:///host:port`, `ipv4:host:port,…` or `ipv6:[host]:port`."""
    scheme, _, rest = address.partition(":")
    rest = rest.rpartition("/")[2] if scheme in {"dns", "ipv4", "ipv6"} and rest else address
    return [without_port(part) for part in unquote(rest).split(",")]


def _is_exempt(host: str, entries: list[str]) -> bool:
    return any(entry and (host.lower().endswith(entry) or _is_inside(host, entry)) for entry in entries)


def _is_inside(host: str, network: str) -> bool:
    try:
        return ip_address(host) in ip_network(network, strict=False)
    except ValueError:
        return False
