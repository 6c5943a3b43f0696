"""Which addresses this gateway asks on somebody's word: public ones over TLS, and those the deployment names."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection
from urllib.parse import SplitResult, urlsplit

from shared.errors import Rejected

LONGEST = 2048
_DEFAULT_PORTS = {"https": 443, "http": 80}
# IPv6 addresses that stand for IPv4 ones (RFC 6052, 3056): they lead wherever those do.
_TRANSLATED = (ipaddress.ip_network("64:ff9b::/32"), ipaddress.ip_network("2002::/16"))


class Hosts:
    """`allowed`: hosts, or host:port, that may be private and may be spoken to without TLS, lower case."""

    def __init__(self, allowed: Collection[str]) -> None:
        self._allowed = frozenset(allowed)

    def require(self, url: str, field: str) -> str:
        """`url`, where it may be asked as far as its text tells. Raises Rejected (`invalid_request`) that names
        `field`."""
        parts = _parts(url)
        wrong = "must be an https address with a host, and without user, password and fragment"
        if parts is None or len(url) > LONGEST or parts.scheme not in _DEFAULT_PORTS:
            raise Rejected("invalid_request", wrong, field=field)
        if "@" in parts.netloc or "#" in url or not parts.hostname:
            raise Rejected("invalid_request", wrong, field=field)
        if self.trusts(parts.hostname, _port(parts)):
            return url
        if parts.scheme != "https":
            raise Rejected("invalid_request", f"{wrong}; {_REMEDY}", field=field)
        literal = _address(parts.hostname)
        if literal is not None and not is_public(literal):
            raise Rejected("invalid_request", f"is a private address; {_REMEDY}", field=field)
        return url

    def trusts(self, host: str, port: int) -> bool:
        """Whether the deployment named it."""
        host = host.lower()
        return host in self._allowed or f"{host}:{port}" in self._allowed


def is_public(address: str) -> bool:
    """Whether an IP address is one of the Internet's."""
    found = ipaddress.ip_address(address)
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped is not None:
            return is_public(str(found.ipv4_mapped))
        if any(found in network for network in _TRANSLATED):
            return False
    return found.is_global and not found.is_multicast


_REMEDY = "name its host in TURNSTILE_CONNECT_HOSTS to allow it"


def _parts(url: str) -> SplitResult | None:
    if not url.isascii() or not url.isprintable() or " " in url or "\\" in url:
        return None
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return None
    return parts


def _port(parts: SplitResult) -> int:
    return parts.port or _DEFAULT_PORTS[parts.scheme]


def _address(host: str) -> str | None:
    """The host as an IP address, where it is one in any spelling that a connection would take."""
    try:
        return str(ipaddress.ip_address(host.partition("%")[0]))
    except ValueError:
        return None
