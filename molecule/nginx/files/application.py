"""An application that tells what it was asked: headers, own port, connection, and how often a path was asked for.

/drop takes a request and closes the connection without an answer, /impatient/ waits for a second,
/stream sends two events, /socket becomes a WebSocket that returns what it gets.
What is below /cached/ is answered in the way its query asks for, such as control=max-age%3D5&status=500&wait=0.5
A POST to /fails and /works decides whether everything below /cached/ is answered with 503.
A POST to /alike/stored adds its body to a file that outlives the application.
"""

import base64
import collections
import hashlib
import http.server
import json
import sys
import threading
import time
import urllib.parse
from pathlib import Path

asked = collections.Counter()
state = {"fails": False, "text": "first"}


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        asked[f"{self.command} {self.path}"] += 1
        path, _, query = self.path.partition("?")
        if path == "/drop":
            self.close_connection = True
        elif path == "/stream":
            self.stream()
        elif path == "/socket":
            self.websocket()
        elif path.startswith("/cached/"):
            self.cached(dict(urllib.parse.parse_qsl(query)))
        else:
            if self.command == "POST" and path == "/alike/stored":
                with Path("/var/lib/application-stored").open("ab") as file:
                    file.write(body + b"\n")
            if "/impatient/" in path:
                time.sleep(1)
            if path in ("/fails", "/works"):
                state["fails"] = path == "/fails"
            if path == "/text":
                state["text"] = body.decode()
            self.tell({"Cache-Control": "private, max-age=7"})

    def tell(self, headers, status=200, **more):
        answer = {
            "headers": dict(self.headers.items()),
            "path": self.path,
            "port": self.server.server_port,
            "connection": self.client_address[1],
            "asked": asked,
            **more,
        }
        body = json.dumps(answer).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def cached(self, wish):
        names = {"control": "Cache-Control", "vary": "Vary", "cookie": "Set-Cookie", "accel": "X-Accel-Expires"}
        headers = {names[key]: value for key, value in wish.items() if key in names}
        headers["X-Request-ID"] = self.headers.get("X-Request-ID", "")
        time.sleep(float(wish.get("wait", 0)))
        status = 503 if state["fails"] else int(wish.get("status", 200))
        self.tell(headers, status, number=asked[f"{self.command} {self.path}"], text=state["text"])

    def stream(self):
        """One event, and the next one only when the test has seen the first and says so."""
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        self.wfile.write(b"data: first\n\n")
        self.wfile.flush()
        end = time.monotonic() + 10
        while not asked["POST /next"] and time.monotonic() < end:
            time.sleep(0.02)
        asked["POST /next"] = 0
        self.wfile.write(b"data: second\n\n")

    def websocket(self):
        self.close_connection = True
        if self.headers.get("Upgrade") != "websocket" or self.headers.get("Connection") != "upgrade":
            self.tell({}, 426)
            return
        key = self.headers["Sec-WebSocket-Key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        accept = hashlib.sha1(key.encode(), usedforsecurity=False)
        self.send_response(101)
        self.send_header("Upgrade", "websocket")
        self.send_header("Connection", "Upgrade")
        self.send_header("Sec-WebSocket-Accept", base64.b64encode(accept.digest()).decode())
        self.end_headers()
        while True:
            # Short frames only: two bytes, the mask, the text.
            kind, length = self.rfile.read(2)
            mask, text = self.rfile.read(4), self.rfile.read(length & 0x7F)
            plain = bytes(byte ^ mask[place % 4] for place, byte in enumerate(text))
            self.wfile.write(bytes([kind, len(plain)]) + plain)
            if kind & 0x0F == 8:
                return

    do_GET = do_HEAD = do_POST = answer


for port in sys.argv[1:]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", int(port)), Handler)
    threading.Thread(target=server.serve_forever).start()
