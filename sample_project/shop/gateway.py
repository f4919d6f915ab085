"""A payment gateway that is not to be relied on, over HTTP on this machine.

`charge` and `refund` are what an application would have of a real one. The server that
answers is started with the first of these calls in a process. As a real one does, it
keeps one charge for each key however often it is asked, and fails the first time.
Its ledger is a file, so all processes of the sample share it.
"""

from __future__ import annotations

import json
import sqlite3
import threading
import urllib.error
import urllib.request
from contextlib import closing
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from django.conf import settings

TIMEOUT = 10.0  # seconds
DECLINED = "declined"  # a card that no money comes from


class Declined(Exception):
    """The card was refused; to ask again is of no use."""


class Unavailable(Exception):
    """The gateway did not answer as it should; to ask again may help."""


def charge(key: str, amount: int, card: str) -> str:
    """Take `amount` cents from a card, once for each `key`; the payment's id.

    Raises Declined, Unavailable.
    """
    answer = _post("charges", {"key": key, "amount": amount, "card": card})
    return str(answer["payment"])


def refund(key: str) -> None:
    """Give back what the charge of that key took, if any. Raises Unavailable."""
    _post("refunds", {"key": key})


def ledger() -> dict[str, int]:
    """What the gateway holds, in cents by payment; a refund leaves 0."""
    with closing(_ledger()) as rows:
        return dict(rows.execute("SELECT payment, amount FROM charge"))


def _post(what: str, body: dict[str, Any]) -> dict[str, Any]:
    request = urllib.request.Request(  # noqa: S310 - an address of our own
        f"{_address()}/{what}", json.dumps(body).encode(), method="POST"
    )
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as response:  # noqa: S310
            answer: dict[str, Any] = json.load(response)
            return answer
    except urllib.error.HTTPError as error:
        with error:
            if error.code == 402:
                raise Declined("The card was declined.") from None
            raise Unavailable(f"The gateway answered {error.code}.") from None
    except OSError as error:
        raise Unavailable(f"The gateway is away: {error}") from error


# The other side.


@cache
def _address() -> str:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}"


def _ledger() -> sqlite3.Connection:
    path = Path(settings.SHOP_LEDGER)
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = sqlite3.connect(path, timeout=TIMEOUT, isolation_level=None)
    rows.executescript(
        "CREATE TABLE IF NOT EXISTS charge (payment TEXT PRIMARY KEY, amount INT);"
        "CREATE TABLE IF NOT EXISTS seen (request TEXT PRIMARY KEY);"
    )
    return rows


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        body = json.loads(self.rfile.read(length))
        with closing(_ledger()) as rows:
            self._answer(*self._act(rows, body))

    def _act(self, rows: sqlite3.Connection, body: Any) -> tuple[int, dict[str, Any]]:
        payment = f"pay-{body['key']}"
        request = f"{self.path} {payment}"
        seen = rows.execute("INSERT OR IGNORE INTO seen VALUES (?)", [request])
        if seen.rowcount:
            return 503, {}  # the first time fails: that is what retries are for
        if self.path == "/refunds":
            rows.execute("UPDATE charge SET amount = 0 WHERE payment = ?", [payment])
            return 200, {"payment": payment}
        if body["card"] == DECLINED:
            return 402, {}
        rows.execute(
            "INSERT OR IGNORE INTO charge VALUES (?, ?)", [payment, body["amount"]]
        )
        return 200, {"payment": payment}

    def _answer(self, status: int, body: dict[str, Any]) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: the worker's log is for its own lines."""
