"""Load on a server: requests a second, latencies and errors, from plain connections that ask one after the other.

``gold-lightning serve STUDENT --port 8000`` in one terminal, ``python benchmarks/serve.py`` in another. The client
takes a part of the same processors; ``wrk`` takes less of them.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections import Counter
from urllib.parse import urlsplit

TEXTS = [
    "The striker scored twice in the second half, and the visitors go on to the next round of the cup.",
    "Shares fell after the retailer said that profits would be lower than expected.",
    "Parliament votes today on a treaty with its neighbours, a month after the election.",
    "Engineers have built a chip that recognises speech without a connection to a network.",
]


async def ask(url, rows, deadline, latencies, statuses):
    """Asks until the deadline on one connection; a refusal waits as long as it says."""
    parts = urlsplit(url)
    at = 0
    while time.monotonic() < deadline:
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        try:
            while time.monotonic() < deadline:
                texts = [TEXTS[(at + i) % len(TEXTS)] for i in range(rows)]
                at += 1
                body = json.dumps(texts[0] if rows == 1 else texts).encode()
                head = f"POST /predict HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Length: {len(body)}\r\n\r\n"
                started = time.perf_counter()
                writer.write(head.encode() + body)
                answer = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
                length = int(answer.split("content-length: ")[1].split("\r\n")[0])
                json.loads(await reader.readexactly(length))
                status = answer.split(" ")[1]
                statuses[status] += 1
                if status == "200":
                    latencies.append(time.perf_counter() - started)
                elif "retry-after: " in answer:
                    await asyncio.sleep(float(answer.split("retry-after: ")[1].split("\r\n")[0]))
        except (OSError, asyncio.IncompleteReadError):
            statuses["broken"] += 1
        finally:
            writer.close()


async def load(url, connections, rows, seconds):
    """Returns requests a second, seconds of each answer, and how many answers had each status."""
    latencies, statuses = [], Counter()
    started = time.monotonic()
    await asyncio.gather(*(ask(url, rows, started + seconds, latencies, statuses) for _ in range(connections)))
    return len(latencies) / (time.monotonic() - started), sorted(latencies), statuses


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 8, 32, 128])
    parser.add_argument("--rows", type=int, default=1, help="Texts in a request.")
    parser.add_argument("--seconds", type=float, default=10)
    options = parser.parse_args()
    print("connections  requests/s  texts/s  p50 ms  p99 ms  answers")
    for connections in options.connections:
        rate, latencies, statuses = asyncio.run(load(options.url, connections, options.rows, options.seconds))
        p50, p99 = (1000 * latencies[min(len(latencies) - 1, len(latencies) * q // 100)] for q in (50, 99))
        answers = ", ".join(f"{count} x {status}" for status, count in sorted(statuses.items()))
        print(f"{connections:11}  {rate:10.1f}  {rate * options.rows:7.0f}  {p50:6.1f}  {p99:6.1f}  {answers}")


if __name__ == "__main__":
    main()
