"""An application that tells what it was asked: headers, own port, connection, and how often a path was asked for.

/drop takes a request and closes the connection without an answer.
"""

import collections
import http.server
import json
import sys
import threading

asked = collections.Counter()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        asked[f"{self.command} {self.path}"] += 1
        if self.path == "/drop":
            self.close_connection = True
            return
        answer = {
            "headers": dict(self.headers.items()),
            "path": self.path,
            "port": self.server.server_port,
            "connection": self.client_address[1],
            "asked": asked,
        }
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Cache-Control", "private, max-age=7")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = answer


for port in sys.argv[1:]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", int(port)), Handler)
    threading.Thread(target=server.serve_forever).start()
