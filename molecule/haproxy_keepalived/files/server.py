"""A server that says its name and what it was asked. Its health fails while the file /run/sick is there.

/primary answers 200 while the file /run/primary is there. /slow/3 takes three seconds.

/drop takes a request and closes the connection without an answer; /dropped says how often, by method.
"""

import collections
import http.server
import json
import pathlib
import socket
import sys
import threading
import time

dropped = collections.Counter()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def answer(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path == "/drop":
            dropped[self.command] += 1
            self.close_connection = True
            return
        if self.path.startswith("/slow/"):
            time.sleep(float(self.path.removeprefix("/slow/")))
        sick = self.path == "/health" and pathlib.Path("/run/sick").exists()
        sick |= self.path == "/primary" and not pathlib.Path("/run/primary").exists()
        asked = {"name": socket.gethostname(), "port": self.server.server_port, "method": self.command}
        asked["headers"] = dict(self.headers.items())
        body = json.dumps(dropped if self.path == "/dropped" else asked).encode()
        self.send_response(500 if sick else 200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = answer

    def log_message(self, *_):
        """Nobody reads it."""


http.server.ThreadingHTTPServer.request_queue_size = 128
for port in sys.argv[1:]:
    listener = http.server.ThreadingHTTPServer(("", int(port)), Handler)
    threading.Thread(target=listener.serve_forever).start()
