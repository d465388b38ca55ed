#!/usr/bin/env python3
"""Load on `vqnat serve`: many clients that each send one sentence after the other.

vqnat serve exported --port 8000 &
scripts/load_test.py http://127.0.0.1:8000 --input text.en
"""

import argparse
import http.client
import itertools
import json
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np


class Client(threading.local):
    """A connection a thread, kept open."""

    def __init__(self, address: str) -> None:
        parts = urlsplit(address)
        self.connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=300)

    def send(self, line: str) -> tuple[float, str]:
        """Seconds until the answer is there, and what is wrong with it; empty if nothing is."""
        start, wrong = time.perf_counter(), ""
        try:
            headers = {"Content-Type": "application/json"}
            self.connection.request("POST", "/translate", json.dumps({"text": line}), headers)
            response = self.connection.getresponse()
            body = json.loads(response.read())
            if response.status != 200:
                wrong = f"{response.status} {body['error']}"
        except (OSError, http.client.HTTPException, ValueError) as error:
            wrong = f"{type(error).__name__} {error}"
            self.connection.close()
        return time.perf_counter() - start, wrong


def main() -> None:
    """Send, and print what came of it; the exit status is 1 if an answer is missing."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("address", help="of the server, such as http://127.0.0.1:8000")
    parser.add_argument("--input", type=Path, required=True, help="raw text, a sentence a line")
    parser.add_argument("--clients", type=int, default=64, help="that send at once (default: 64)")
    parser.add_argument("--requests", type=int, default=2000, help="of all clients together (default: 2000)")
    options = parser.parse_args()
    lines = [line for line in options.input.read_text(encoding="utf-8").splitlines() if line.strip()]
    if not lines:
        parser.error(f"--input {options.input}: is empty")
    client, start = Client(options.address), time.perf_counter()
    with ThreadPoolExecutor(options.clients) as pool:
        answers = list(pool.map(client.send, itertools.islice(itertools.cycle(lines), options.requests)))
    total = time.perf_counter() - start
    lost = [wrong for _, wrong in answers if wrong]
    # What is lost at once is not fast.
    answered = [seconds for seconds, wrong in answers if not wrong]
    median, tail = 1000 * np.percentile(answered, [50, 99]) if answered else (np.nan, np.nan)
    print(
        f"{options.clients} clients, {len(answers)} requests: {len(answered) / total:.0f} a second, "
        f"median {median:.0f} ms, p99 {tail:.0f} ms, {len(lost)} lost"
    )
    if lost:
        sys.exit(f"load_test: the first of them: {lost[0]}")


if __name__ == "__main__":
    main()
