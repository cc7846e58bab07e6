"""Host names and addresses. Pure."""

from ipaddress import ip_address


def is_address(host: str) -> bool:
    """Whether a host is an IP address, without brackets."""
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """Whether a host is `localhost` or an address of the loopback interface."""
    if is_address(host):
        return ip_address(host).is_loopback
    return host.lower().rstrip(".") == "localhost"


def without_port(text: str) -> str:
    """The host of `host:port`, `[address]:port`, a host or a bare IPv6 address."""
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.partition(":")[0] if text.count(":") == 1 else text
