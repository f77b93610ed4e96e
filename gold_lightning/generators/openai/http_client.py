"""The HTTP client: server addresses, and the proxy and certificates that the environment sets for them.

Only variables that concern the called addresses are read, so that no other one can end a run. An error in one of them
is a single line that names it. Credentials in a proxy's URL are never shown.
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
_PUBLIC_QUERY = ("api-version", "api_version", "version")  # parameters that are no secret
_PROXY_SCHEMES = ("http", "https", "socks5", "socks5h")


@dataclass(frozen=True)
class Address:
    """A base URL in its parts.

    Args:
        base: The URL without its query and without a final slash.
        query: The query that follows each path, with its question mark; "" if there is none.
    """

    base: str
    query: str = ""

    @staticmethod
    def read(url: str, key: str, key_setting: str) -> Address:
        """Parses the address in a setting.

        Args:
            url: Value of the setting.
            key: Name of the setting.
            key_setting: Name of the setting for keys, which the error names if the URL may hold a key.

        Raises:
            ConfigError: The value is no URL, or may hold a secret, in which case it is not shown.
        """
        allowed = "a URL as http://localhost:8000/v1"
        try:
            parts = urlsplit(url)
            valid = (
                parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
            )
        except ValueError:
            raise ConfigError(key, "(not shown)", allowed) from None
        query = parse_qsl(parts.query, keep_blank_values=True)
        may_be_secret = any(name.lower() not in _PUBLIC_QUERY for name, _ in query)
        if parts.username or parts.password or may_be_secret or parts.fragment or (parts.query and not query):
            hint = f"a key comes from the environment ({key_setting})"
            allowed = f"{allowed}, without user, password or query (but for api-version)"
            raise ConfigError(key, "(not shown)", allowed, hint)
        if not valid or not url.isprintable() or " " in url:
            raise ConfigError(key, url, allowed)
        base = url.partition("?")[0].rstrip("/")
        for path in ("/chat/completions", "/completions"):
            if base.endswith(path):
                raise ConfigError(key, url, f"{allowed}, without {path}, which is added to it")
        return Address(base, f"?{parts.query}" if parts.query else "")

    @property
    def place(self) -> str:
        """Host, port and path, which identify the server; without scheme, default port and upper case."""
        parts = urlsplit(self.base)
        port = "" if parts.port in (None, 443 if parts.scheme == "https" else 80) else f":{parts.port}"
        return f"{parts.hostname}{port}{parts.path}"

    @property
    def place_without_port(self) -> str:
        """The same without the port on this machine, where a restarted server may have another one."""
        parts = urlsplit(self.base)
        return f"localhost{parts.path}" if is_here(parts.hostname or "") else self.place


def is_here(host: str) -> bool:
    """Whether a host name or address is this machine."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
    return address.is_loopback or address.is_unspecified


@dataclass(frozen=True)
class Proxy:
    """A proxy, and the environment variable that names it."""

    url: str
    variable: str

    @property
    def shown(self) -> str:
        """The URL without credentials."""
        begin, sign, rest = self.url.rpartition("@")
        return f"{begin.partition('//')[0]}//{rest}" if sign else rest


def proxy_for(url: str) -> Proxy | None:
    """The proxy that the environment sets for a URL (``HTTP_PROXY``, ``ALL_PROXY``, ``NO_PROXY``)."""
    parts = urlsplit(url)
    if _is_excepted(parts):
        return None
    for kind in (parts.scheme, "all"):
        name = f"{kind}_proxy"
        variable = name if name in os.environ else name.upper()
        if value := os.environ.get(variable, "").strip():
            return Proxy(value if "://" in value else f"http://{value}", variable)
    of_system = urllib.request.getproxies() if not any(n.lower().endswith("_proxy") for n in os.environ) else {}
    value = of_system.get(parts.scheme, "") or of_system.get("all", "")
    if not value or urllib.request.proxy_bypass(parts.hostname or ""):
        return None
    return Proxy(value if "://" in value else f"http://{value}", "the system's settings")


def _is_excepted(parts: SplitResult) -> bool:
    """Whether ``NO_PROXY`` lists the host: by name or domain, by address or network, or by ``*``."""
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
    """The environment variable that sets the trusted certificates; "" for none."""
    return next((name for name in _CERTIFICATES if os.environ.get(name)), "")


def open_client(urls: Sequence[str], connect_timeout: float, connections: int) -> httpx.AsyncClient:
    """Opens a client for calls to servers.

    Args:
        urls: Base URLs of the servers.
        connect_timeout: Seconds to connect.
        connections: Number of connections to keep open.

    Raises:
        GoldError: The environment names a proxy or certificates that cannot be used.
    """
    import httpx

    proxies = {url: proxy for url in urls if (proxy := proxy_for(url))}
    encrypted = any(u.lower().startswith("https:") for u in (*urls, *(p.url for p in proxies.values())))
    tls = _tls_context() if encrypted else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=connections)
    mounts: dict[str, Any] = {}
    for url, proxy in proxies.items():
        parts = urlsplit(url)
        mounts[f"{parts.scheme}://{parts.netloc}"] = _through(proxy, parts.hostname or "", tls, limits)
    return httpx.AsyncClient(
        timeout=httpx.Timeout(None, connect=connect_timeout),
        limits=limits,
        verify=tls,
        mounts=mounts,
        trust_env=False,  # read above, as httpx raises a traceback for an invalid variable
    )


def _through(proxy: Proxy, host: str, tls: ssl.SSLContext, limits: httpx.Limits) -> httpx.AsyncHTTPTransport:
    import httpx

    begin = f"the environment variable {proxy.variable} names the proxy {proxy.shown}"
    otherwise = f"or put {host} into NO_PROXY"
    try:
        if urlsplit(proxy.url).scheme not in _PROXY_SCHEMES:
            raise ValueError("another scheme")
        return httpx.AsyncHTTPTransport(verify=tls, limits=limits, proxy=httpx.Proxy(proxy.url), trust_env=False)
    except ImportError:
        raise GoldError(f"{begin}, which needs the package socksio: pip install 'httpx[socks]', {otherwise}") from None
    except (ValueError, httpx.InvalidURL):
        raise GoldError(
            f"{begin}, which cannot be used: write it as http://host:port or socks5://host:port, {otherwise}"
        ) from None


def _tls_context() -> ssl.SSLContext:
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
