"""The HTTP client of the engines that ask servers: which proxy is on the way to a server, and which certificates count.

Both come from the environment, and are looked at for the addresses that are called: a variable that concerns none of
them cannot end a run. What is wrong with one that does is one line that names it. Credentials in a proxy's URL are
never shown.
"""

from __future__ import annotations

import functools
import ipaddress
import os
import ssl
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, parse_qsl, urlsplit

from gold_lightning.errors import ConfigError, GoldError

if TYPE_CHECKING:
    import httpx

__all__ = ["Address", "Proxy", "certificate_variable", "is_here", "open_client", "proxy_for"]

_CERTIFICATES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
_OPEN_QUERY = ("api-version", "api_version", "version")  # what may stand in a URL: it says nothing of who calls
_PROXY_SCHEMES = ("http", "https", "socks5", "socks5h")


@dataclass(frozen=True)
class Address:
    """A base URL in its parts.

    Args:
        base: Without a slash at its end, and without its query.
        query: What follows each path, with its question mark; "" if there is none.
    """

    base: str
    query: str = ""

    @staticmethod
    def read(url: str, key: str, key_setting: str) -> Address:
        """The address in a setting.

        Args:
            url: What the setting holds.
            key: Name of the setting.
            key_setting: Name of the setting for keys, to which a URL that holds one is pointed.

        Raises:
            ConfigError: It is no URL, or holds what may be a secret; then it is not shown.
        """
        allowed = "a URL as http://localhost:8000/v1"
        try:
            parts = urlsplit(url)
            right = (
                parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
            )
        except ValueError:
            raise ConfigError(key, "(not shown)", allowed) from None
        query = parse_qsl(parts.query, keep_blank_values=True)
        closed = [name for name, _ in query if name.lower() not in _OPEN_QUERY]
        if parts.username or parts.password or closed or parts.fragment or (parts.query and not query):
            hint = f"a key comes from the environment ({key_setting})"
            but = f"{allowed}, without user, password or query (but for api-version)"
            raise ConfigError(key, "(not shown)", but, hint)
        if not right or not url.isprintable() or " " in url:
            raise ConfigError(key, url, allowed)
        base = url.partition("?")[0].rstrip("/")
        for end in ("/chat/completions", "/completions"):
            if base.endswith(end):
                raise ConfigError(key, url, f"{allowed}, without {end}, which is added to it")
        return Address(base, f"?{parts.query}" if parts.query else "")

    @property
    def place(self) -> str:
        """Host, port and path, which say who answers; the scheme, a default port and upper case do not."""
        parts = urlsplit(self.base)
        port = "" if parts.port in (None, 443 if parts.scheme == "https" else 80) else f":{parts.port}"
        return f"{parts.hostname}{port}{parts.path}"

    @property
    def place_without_port(self) -> str:
        """The same, without the port if the host is this machine: a server that is started anew may have another."""
        parts = urlsplit(self.base)
        return f"localhost{parts.path}" if is_here(parts.hostname or "") else self.place


def is_here(host: str) -> bool:
    """Whether a host is this machine."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
    return address.is_loopback or address.is_unspecified


@dataclass(frozen=True)
class Proxy:
    """A proxy, and the variable that names it."""

    url: str
    variable: str

    @property
    def shown(self) -> str:
        """Its URL without credentials."""
        begin, sign, rest = self.url.rpartition("@")
        return f"{begin.partition('//')[0]}//{rest}" if sign else rest


def proxy_for(url: str) -> Proxy | None:
    """The proxy on the way to a URL, as the environment names it (``HTTP_PROXY``, ``ALL_PROXY``, ``NO_PROXY``)."""
    parts = urlsplit(url)
    if _is_excepted(parts):
        return None
    for kind in (parts.scheme, "all"):
        name = f"{kind}_proxy"
        variable = name if name in os.environ else name.upper()
        if value := os.environ.get(variable, "").strip():
            return Proxy(value if "://" in value else f"http://{value}", variable)
    set_by_system = urllib.request.getproxies() if not any(n.lower().endswith("_proxy") for n in os.environ) else {}
    value = set_by_system.get(parts.scheme, "") or set_by_system.get("all", "")
    if not value or urllib.request.proxy_bypass(parts.hostname or ""):
        return None
    return Proxy(value if "://" in value else f"http://{value}", "the system's settings")


def _is_excepted(parts: SplitResult) -> bool:
    """Whether ``NO_PROXY`` holds the host: as a name or its end, as an address or a net of them, or by ``*``."""
    host = (parts.hostname or "").lower()
    for entry in os.environ.get("no_proxy", os.environ.get("NO_PROXY", "")).replace(",", " ").split():
        name = entry.lower().rpartition("://")[2].strip("/")
        if name == "*":
            return True
        name, port = _host_and_port(name)
        if port and port != str(parts.port or (443 if parts.scheme == "https" else 80)):
            continue
        try:
            if ipaddress.ip_address(host) in ipaddress.ip_network(name, strict=False):
                return True
        except (ValueError, TypeError):
            name = name.removeprefix("*").removeprefix(".")
            if name and (host == name or host.endswith(f".{name}")):
                return True
    return False


def _host_and_port(entry: str) -> tuple[str, str]:
    if entry.startswith("["):
        host, _, rest = entry[1:].partition("]")
        return (f"{host}{rest}", "") if rest.startswith("/") else (host, rest.removeprefix(":"))
    host, sign, port = entry.rpartition(":")
    return (host, port) if sign and ":" not in host and port.isdigit() else (entry, "")


def certificate_variable() -> str:
    """The variable that says whom to trust; "" if none does."""
    return next((name for name in _CERTIFICATES if os.environ.get(name)), "")


def open_client(urls: Sequence[str], connect_timeout: float, connections: int) -> httpx.AsyncClient:
    """A client for calls to servers.

    Args:
        urls: Base URLs of the servers.
        connect_timeout: Seconds to connect.
        connections: How many to keep open.

    Raises:
        GoldError: The environment names a proxy or certificates that cannot be used.
    """
    import httpx

    proxies = {url: proxy for url in urls if (proxy := proxy_for(url))}
    encrypted = any(u.lower().startswith("https:") for u in (*urls, *(p.url for p in proxies.values())))
    trusted = _trusted() if encrypted else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=connections)
    mounts: dict[str, Any] = {}
    for url, proxy in proxies.items():
        parts = urlsplit(url)
        mounts[f"{parts.scheme}://{parts.netloc}"] = _through(proxy, parts.hostname or "", trusted, limits)
    return httpx.AsyncClient(
        timeout=httpx.Timeout(None, connect=connect_timeout),
        limits=limits,
        verify=trusted,
        mounts=mounts,
        trust_env=False,  # it is read above: httpx ends in a traceback where a variable is not as it should be
    )


def _through(proxy: Proxy, host: str, trusted: ssl.SSLContext, limits: httpx.Limits) -> httpx.AsyncHTTPTransport:
    import httpx

    begin = f"the environment variable {proxy.variable} names the proxy {proxy.shown}"
    aside = f"or put {host} into NO_PROXY"
    try:
        if urlsplit(proxy.url).scheme not in _PROXY_SCHEMES:
            raise ValueError("another scheme")
        return httpx.AsyncHTTPTransport(verify=trusted, limits=limits, proxy=httpx.Proxy(proxy.url), trust_env=False)
    except ImportError:
        raise GoldError(f"{begin}, which needs the package socksio: pip install 'httpx[socks]', {aside}") from None
    except (ValueError, httpx.InvalidURL):
        raise GoldError(
            f"{begin}, which cannot be used: write it as http://host:port or socks5://host:port, {aside}"
        ) from None


def _trusted() -> ssl.SSLContext:
    """Whom to trust; whoever reads the certificates does so once for each place."""
    variable = certificate_variable()
    return _context(variable, os.environ.get(variable, ""))


@functools.cache
def _context(variable: str, path: str) -> ssl.SSLContext:
    """The TLS context, cached because building it takes longer than a batch of calls to a server nearby."""
    import httpx

    if not variable:
        return httpx.create_ssl_context(trust_env=False)
    folders = [p for p in path.split(os.pathsep) if Path(p).is_dir()]
    begin = f"the environment variable {variable} is {path!r}"
    try:
        return ssl.create_default_context(capath=folders[0]) if folders else ssl.create_default_context(cafile=path)
    except ssl.SSLError:
        raise GoldError(
            f"{begin}, a file without certificates (PEM): set it to one that has some, or unset it"
        ) from None
    except (OSError, ValueError) as e:
        said = getattr(e, "strerror", None) or "no path"
        raise GoldError(f"{begin} ({said}): set it to a file of certificates (PEM), or unset it") from None
