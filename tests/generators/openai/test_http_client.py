"""Which proxy and which certificates count, by the variables of the environment."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import socket

import pytest
from gold_lightning.errors import ConfigError, GoldError
from gold_lightning.generators import OpenAIGenerator, Request
from gold_lightning.generators.openai.http_client import Address, open_client, proxy_for

from tests.servers import FakeServer

pytest.importorskip("httpx", reason="the extra openai is not installed")

ASKED = Request("You write.", "Demos.\n\n", "Write one.", seed=1, max_tokens=60)
LOCAL = "http://127.0.0.1:8000/v1"
FAR = "https://example.com/v1"


@pytest.fixture(autouse=True)
def clean(monkeypatch):
    for name in list(os.environ):
        if name.lower().endswith("_proxy") or name in ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE"):
            monkeypatch.delenv(name)
    return monkeypatch


def opened(url):
    client = open_client([url], 1.0, 1)
    asyncio.run(client.aclose())


def refused(url):
    with pytest.raises(GoldError) as e:
        opened(url)
    assert len(str(e.value).splitlines()) == 1
    return str(e.value)


@pytest.mark.parametrize(
    ("variables", "url", "proxy"),
    [
        ({}, LOCAL, None),
        ({"HTTP_PROXY": "http://p:1"}, LOCAL, "http://p:1"),
        ({"http_proxy": "p:1"}, LOCAL, "http://p:1"),
        ({"HTTP_PROXY": "http://p:1"}, FAR, None),
        ({"HTTPS_PROXY": "http://p:1"}, FAR, "http://p:1"),
        ({"ALL_PROXY": "socks5://p:1"}, FAR, "socks5://p:1"),
        ({"ALL_PROXY": "http://all:1", "https_proxy": "http://p:1"}, FAR, "http://p:1"),
        ({"http_proxy": "", "HTTP_PROXY": "http://p:1"}, LOCAL, None),
        *(
            ({"HTTP_PROXY": "http://p:1", "NO_PROXY": no}, LOCAL, None)
            for no in ("127.0.0.1", "localhost, 127.0.0.1,[::1]", "127.0.0.0/8", "*", "127.0.0.1:8000", "x 127.0.0.1")
        ),
        *(
            ({"HTTP_PROXY": "http://p:1", "NO_PROXY": no}, LOCAL, "http://p:1")
            for no in (
                "",
                "localhost",
                "127.0.0.1:9",
                "fe80::/10",
                "[::1]",
                "10.0.0.0/8",
                "[",
                "//",
                "1.2.3.4/99",
                ",,",
            )
        ),
        *(
            ({"ALL_PROXY": "http://p:1", "no_proxy": no}, "http://[::1]:8000/v1", None)
            for no in ("[::1]", "::1", "[::1]:8000", "::/64", "fe80::/10,::1")
        ),
        *(
            ({"HTTPS_PROXY": "http://p:1", "NO_PROXY": no}, "https://api.example.com/v1", None)
            for no in ("example.com", ".example.com", "*.example.com", "API.example.com", "https://api.example.com")
        ),
        ({"HTTPS_PROXY": "http://p:1", "NO_PROXY": "ample.com"}, "https://api.example.com/v1", "http://p:1"),
    ],
    ids=str,
)
def test_the_proxy_on_the_way(clean, variables, url, proxy):
    for name, value in variables.items():
        clean.setenv(name, value)
    found = proxy_for(url)
    assert (found.url if found else None) == proxy
    if not (proxy or "").startswith("socks"):
        opened(url)


def test_variables_that_concern_no_address_end_nothing(clean):
    for name, value in {
        "ALL_PROXY": "socks5://127.0.0.1:1",
        "NO_PROXY": "localhost,127.0.0.1,[::1],fe80::/10",
        "SSL_CERT_FILE": "/gone/ca.pem",
        "SSL_CERT_DIR": "/gone",
        "REQUESTS_CA_BUNDLE": "/gone/ca.pem",
    }.items():
        clean.setenv(name, value)
    with FakeServer() as server:
        assert OpenAIGenerator("toy", server.url).generate([ASKED])[0].text


@pytest.mark.parametrize("value", ["ftp://p:1", "http://p:port", "http://[::1", "socks4://p:1", "://"])
def test_a_proxy_that_cannot_be_used_is_named(clean, value):
    clean.setenv("HTTP_PROXY", value)
    told = refused(LOCAL)
    assert "HTTP_PROXY" in told
    assert "put 127.0.0.1 into NO_PROXY" in told


@pytest.mark.skipif(importlib.util.find_spec("socksio") is not None, reason="socksio is installed")
def test_a_socks_proxy_without_its_package_names_both(clean):
    clean.setenv("ALL_PROXY", "socks5://user:hunter2@127.0.0.1:1")
    told = refused(LOCAL)
    assert "ALL_PROXY names the proxy socks5://127.0.0.1:1, which needs the package socksio" in told
    assert "pip install 'httpx[socks]'" in told
    assert "hunter2" not in told


def test_a_proxy_that_is_down_is_named_without_its_password(clean):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # nobody listens
        clean.setenv("HTTP_PROXY", f"http://user:hunter2@127.0.0.1:{taken.getsockname()[1]}")
        with FakeServer() as server, pytest.raises(GoldError) as e:
            OpenAIGenerator("toy", server.url, retries=0).generate([ASKED])
    told = str(e.value)
    assert " through the proxy http://127.0.0.1:" in told
    assert "(HTTP_PROXY)" in told
    assert "an address of this machine needs none: put 127.0.0.1 into NO_PROXY" in told
    assert "hunter2" not in told


def test_a_proxy_is_used(clean):
    with FakeServer() as proxy:  # an address in place of a path, as a proxy gets it
        clean.setenv("http_proxy", proxy.url.removesuffix("/v1"))
        with pytest.raises(GoldError, match="HTTP 404"):
            OpenAIGenerator("toy", "http://model.invalid/v1").generate([ASKED])
        assert proxy.calls[0].path == "http://model.invalid/v1/chat/completions"


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE"])
@pytest.mark.parametrize("kind", ["gone", "no PEM", "empty"])
def test_certificates_that_cannot_be_read_are_named(clean, tmp_path, variable, kind):
    path = tmp_path / "ca.pem"
    if kind != "gone":
        path.write_text("" if kind == "empty" else "nothing of the kind")
    clean.setenv(variable, str(path))
    told = refused(FAR)
    assert variable in told
    assert str(path) in told
    opened(LOCAL)


def test_certificates_that_can_be_read_are_taken(clean, tmp_path):
    clean.setenv("SSL_CERT_DIR", str(tmp_path))
    opened(FAR)
    import certifi

    clean.setenv("REQUESTS_CA_BUNDLE", certifi.where())
    clean.delenv("SSL_CERT_DIR")
    opened(FAR)


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ("[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed", r"set SSL_CERT_DIR to its certificates \(now"),
        ("[SSL: WRONG_VERSION_NUMBER] wrong version number", r"base_url with http://"),
    ],
)
def test_a_server_without_trust_or_without_tls_is_told_at_once(clean, tmp_path, message, said):
    import httpx

    class Refusing(httpx.AsyncHTTPTransport):
        async def handle_async_request(self, request):
            raise httpx.ConnectError(message)

    clean.setenv("SSL_CERT_DIR", str(tmp_path))  # trusts nobody
    real = httpx.AsyncClient
    clean.setattr(httpx, "AsyncClient", lambda **how: real(**how, transport=Refusing()))
    with pytest.raises(GoldError, match=said):
        OpenAIGenerator("toy", FAR, backoff=60).generate([ASKED])


@pytest.mark.parametrize(
    ("url", "base", "query", "place"),
    [
        ("http://H:80/v1/", "http://H:80/v1", "", "h/v1"),
        ("https://h/v1", "https://h/v1", "", "h/v1"),
        ("http://[::1]:8000/v1", "http://[::1]:8000/v1", "", "::1:8000/v1"),
        (
            "https://x.openai.azure.com/openai/deployments/gpt?api-version=2024-10-21",
            "https://x.openai.azure.com/openai/deployments/gpt",
            "?api-version=2024-10-21",
            "x.openai.azure.com/openai/deployments/gpt",
        ),
    ],
)
def test_an_address_in_its_parts(url, base, query, place):
    address = Address.read(url, "url", "key")
    assert (address.base, address.query, address.place) == (base, query, place)


@pytest.mark.parametrize(
    "query",
    [
        "key=S3",
        "api_key=S3",
        "token=S3",
        "code=S3",
        "sig=S3",
        "api-version=1&subscription-key=S3",
        "S3",
        "api-version=1&S3",
    ],
)
def test_a_query_that_may_hold_a_secret_is_refused_and_not_shown(query):
    with pytest.raises(ConfigError) as e:
        Address.read(f"http://h/v1?{query}", "data.url", "data.key")
    assert "S3" not in str(e.value)
    assert "data.key" in str(e.value)
