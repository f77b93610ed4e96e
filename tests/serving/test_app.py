"""The server over HTTP: answers, limits, saturation, hostile clients, and a stop that loses nothing."""

import contextlib
import json
import re
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import httpx
import pytest
from gold_lightning import __version__
from gold_lightning.serving.settings import ServeSettings

from tests.serving.conftest import RuleStudent

pytestmark = pytest.mark.integration

GOOD = "Sports: the striker scored twice"


def connection(url):
    parts = urlsplit(url)
    return socket.create_connection((parts.hostname, parts.port), timeout=10)


def numbers(client):
    lines = client.get("/metrics").text.splitlines()
    return {name: float(value) for name, value in (x.rsplit(" ", 1) for x in lines if not x.startswith("#"))}


def ask(url, content):
    return httpx.post(f"{url}/predict", json=content, timeout=30, verify=False)  # without reading certificates


def until(condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_one_text_gives_an_object_and_several_a_list(client):
    prediction = RuleStudent().predict([{"text": GOOD}])[0]
    assert client.post("/predict", json=GOOD).json() == prediction.to_dict()
    answers = client.post("/predict", json=[GOOD, {"text": "Morse code"}])
    assert answers.headers["content-type"] == "application/json"
    assert [(a["label"], a["known"]) for a in answers.json()] == [("Sports", True), ("World", False)]
    assert client.post("/predict", json=[]).json() == []
    assert client.post("/predict", content=json.dumps(GOOD)).json() == prediction.to_dict()  # as curl -d sends it


def test_other_paths(client):
    assert client.get("/health").json() == {"status": "ok", "task": "news_topics", "version": __version__}
    assert [label["name"] for label in client.get("/task").json()["labels"]] == list(RuleStudent().task.label_names)
    assert client.get("/predict").status_code == 405 and client.get("/none").status_code == 404
    for path in ("/", "/docs"):
        page = client.get(path)
        assert page.headers["content-type"].startswith("text/html")
        assert not re.search(r"""(src|href)=["']?(https?:)?//""", page.text)
        assert "'unsafe" not in page.headers["content-security-policy"]


def test_the_openapi_document_holds_what_the_server_answers(client):
    document = client.get("/openapi.json").json()
    operation = document["paths"]["/predict"]["post"]
    example = document["components"]["schemas"]["Text"]["oneOf"][1]["example"]
    answer = client.post("/predict", json=example).json()
    prediction = document["components"]["schemas"]["Prediction"]
    assert set(prediction["required"]) <= set(answer) <= set(prediction["properties"])
    seen = {str(client.post("/predict", content=body).status_code) for body in (b'"a"', b"[", b"3", b"9" * 30_000)}
    assert seen == {"200", "400", "422", "413"} and seen <= set(operation["responses"])
    names = re.findall(r'"#/components/schemas/(\w+)"', json.dumps(document))
    assert set(names) == set(document["components"]["schemas"])


def test_what_is_too_large_is_refused_before_it_is_read(client):
    assert client.post("/predict", content=b" " * 10_000_000).status_code == 413
    assert client.post("/predict", content=(b" " * 1000 for _ in range(10_000))).status_code == 413  # chunked
    assert client.post("/predict", json=["a"] * 51).status_code == 413
    assert client.post("/predict", json="a" * 2001).status_code == 413
    assert client.post("/predict", json=GOOD).status_code == 200


def test_pages_of_other_sites_may_not_ask(client):
    assert client.post("/predict", json=GOOD, headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403
    assert client.post("/predict", json=GOOD, headers={"Sec-Fetch-Site": "same-origin"}).status_code == 200


def test_requests_that_arrive_together_share_a_pass(serve):
    student = RuleStudent()
    with serve(student, batch_size=16) as url, ThreadPoolExecutor(24) as pool, httpx.Client(base_url=url) as client:
        student.free.clear()
        replies = [pool.submit(ask, url, f"Sports {i}") for i in range(24)]
        until(lambda: len(student.batches) > 1)
        sizes = [len(batch) for batch in student.batches[1:]]  # after the one at the start
        until(lambda: numbers(client)["gold_lightning_waiting_texts"] == 24 - sum(sizes))
        student.free.set()
        assert [reply.result().json()["label"] for reply in replies] == ["Sports"] * 24
        counted = numbers(client)
    sizes = [len(batch) for batch in student.batches[1:]]
    assert sum(sizes) == 24 and len(sizes) <= 4 and max(sizes) <= 16
    assert counted['gold_lightning_requests_total{status="200"}'] == 24
    assert counted['gold_lightning_texts_total{known="yes"}'] == 24
    assert counted["gold_lightning_batch_texts_count"] == len(sizes)
    assert counted["gold_lightning_waiting_texts"] == 0


def test_a_saturated_server_refuses_and_recovers(serve):
    with serve(RuleStudent(seconds=0.2), batch_size=1, max_waiting=2) as url, ThreadPoolExecutor(12) as pool:
        replies = list(pool.map(lambda _: ask(url, GOOD), range(12)))
        assert {reply.status_code for reply in replies} == {200, 503}
        refused = [reply for reply in replies if reply.status_code == 503]
        assert all(1 <= int(reply.headers["retry-after"]) <= 60 for reply in refused)
        assert ask(url, GOOD).status_code == 200


def test_a_text_on_which_the_student_fails_fails_alone(serve, caplog):
    with serve(RuleStudent(seconds=0.05)) as url, ThreadPoolExecutor(8) as pool:
        texts = ["fail" if i == 3 else GOOD for i in range(8)]
        replies = list(pool.map(lambda text: ask(url, text), texts))
    assert [reply.status_code for reply in replies] == [500 if i == 3 else 200 for i in range(8)]
    assert "out of memory" not in replies[3].text and "out of memory" in caplog.text


def test_slow_clients_are_ended_and_hold_up_nobody(url, client):
    head = b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n"
    silent, partial, body = (connection(url) for _ in range(3))
    partial.sendall(head[:20])
    body.sendall(head + b'"abc')
    crowd = [connection(url) for _ in range(300)]
    for other in crowd:
        other.sendall(b"GET /he")
    started = time.monotonic()
    assert client.post("/predict", json=GOOD).status_code == 200
    assert time.monotonic() - started < 5
    assert silent.recv(100) == b"" and partial.recv(100) == b""
    assert body.recv(100).startswith(b"HTTP/1.1 408")
    # A byte now and then does not count as a head.
    drip = connection(url)
    drip.sendall(b"GET /health HTTP/1.1\r\n")
    with pytest.raises(OSError):
        for _ in range(40):
            drip.sendall(b"X")
            time.sleep(0.05)
    for other in (silent, partial, body, drip, *crowd):
        other.close()


def test_an_answer_that_nobody_reads_is_dropped(serve):
    with serve(RuleStudent(), read_seconds=0.5, max_rows=10_000) as url:
        reader = connection(url)
        rows = ["Sports"] * 10_000
        content, whole = json.dumps(rows).encode(), len(ask(url, rows).content)
        head = f"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: {len(content)}\r\n\r\n".encode()
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # ended before all is sent
            reader.sendall((head + content) * 24)  # more than the buffers of both ends hold
        time.sleep(3)
        received = 0
        with contextlib.suppress(ConnectionResetError):
            while part := reader.recv(1 << 20):
                received += len(part)
        reader.close()
        assert received < 20 * whole
        assert ask(url, GOOD).status_code == 200


def test_hostile_clients_change_nothing_for_others(url):
    """Good requests get the same answers while others send what they should not."""
    hostile = [
        b"\x00\xff" * 5000,
        b"[" * 19_000,
        b'"\xff\xfe"',
        b"NaN",
        json.dumps(["a"] * 4000).encode(),
        b'{"text": {"text": {"text": 1}}}',
        b'{"text": true}',
        b" " * 10_000_000,
        json.dumps("a" * 100_000).encode(),
    ]
    stop = threading.Event()
    seen = set()

    def attack(body):
        while not stop.is_set():
            try:
                seen.add(httpx.post(f"{url}/predict", content=body, verify=False).status_code)
            except httpx.TransportError:  # the server need not read all of a body that it refuses
                seen.add(0)

    def garbage():
        while not stop.is_set():
            with connection(url) as raw:
                raw.sendall(b"\x16\x03\x01 nonsense\r\n\r\n" * 10)
                raw.settimeout(1)
                try:
                    raw.recv(100)
                except OSError:
                    pass

    threads = [threading.Thread(target=attack, args=(body,)) for body in hostile] + [threading.Thread(target=garbage)]
    for thread in threads:
        thread.start()
    try:
        with httpx.Client(base_url=url, timeout=20) as client:
            expected = client.post("/predict", json=[GOOD, "Business grows"]).json()
            for _ in range(60):
                reply = client.post("/predict", json=[GOOD, "Business grows"])
                assert reply.status_code == 200 and reply.json() == expected
    finally:
        stop.set()
        for thread in threads:
            thread.join(20)
    assert seen <= {0, 400, 413, 422} and {400, 413, 422} <= seen


def test_a_hundred_thousand_texts_in_a_request_are_refused_and_hold_up_nobody(serve):
    body = json.dumps(["Sports"] * 100_000).encode()
    student = RuleStudent()
    # They get past the limit of bytes, so that it is their number that is refused.
    with (
        serve(student, max_rows=1000, max_bytes=2 * len(body)) as url,
        httpx.Client(base_url=url, timeout=20) as client,
    ):
        expected = client.post("/predict", json=GOOD).json()
        with ThreadPoolExecutor(4) as pool:
            refused = [pool.submit(httpx.post, f"{url}/predict", content=body, timeout=20) for _ in range(12)]
            others = [client.post("/predict", json=GOOD) for _ in range(20)]
        assert all(reply.status_code == 200 and reply.json() == expected for reply in others)
        for reply in (future.result() for future in refused):
            assert reply.status_code == 413 and "100,000 texts" in reply.text and "1,000" in reply.text
    assert sum(len(batch) for batch in student.batches) < 100  # nothing of them was predicted


def test_a_client_that_goes_costs_nothing_more(serve):
    student = RuleStudent()
    with serve(student, batch_size=1) as url, ThreadPoolExecutor(1) as pool:
        student.free.clear()
        first = pool.submit(lambda: ask(url, "World first"))
        until(lambda: len(student.batches) == 2)  # one is at the start
        gone = connection(url)
        gone.sendall(b'POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: 12\r\n\r\n"World gone"')
        with httpx.Client(base_url=url) as client:
            until(lambda: numbers(client)["gold_lightning_waiting_texts"] == 1)
            gone.close()
            until(lambda: 'gold_lightning_requests_total{status="499"}' in numbers(client))
        student.free.set()
        assert first.result().status_code == 200
        assert ask(url, "World last").status_code == 200
    assert [batch[0]["text"] for batch in student.batches[1:]] == ["World first", "World last"]


def test_requests_under_way_are_answered_when_the_server_stops(serve):
    student = RuleStudent()
    with ThreadPoolExecutor(3) as pool:
        with serve(student, batch_size=4) as url:
            student.free.clear()
            replies = [pool.submit(lambda: ask(url, [GOOD] * 8)) for _ in range(3)]
            with httpx.Client(base_url=url) as client:
                until(lambda: numbers(client)["gold_lightning_waiting_texts"] == 20)  # 4 of 24 are in a pass
            threading.Timer(0.5, student.free.set).start()
        answers = [reply.result() for reply in replies]
    assert [(answer.status_code, len(answer.json())) for answer in answers] == [(200, 8)] * 3
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{url}/health")


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"port": 70_000}, "--port"),
        ({"batch_size": 0}, "--batch_size"),
        ({"max_wait": -1}, "--max_wait"),
        ({"read_seconds": 0}, "--read_seconds"),
    ],
)
def test_settings_are_checked(settings, key):
    with pytest.raises(Exception) as error:
        ServeSettings(**settings)
    assert error.value.key == key
