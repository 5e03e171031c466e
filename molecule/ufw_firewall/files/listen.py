"""Accepts connections on TCP ports over both versions of IP, and says hello."""

import selectors
import socket
import sys

ready = selectors.DefaultSelector()
for port in map(int, sys.argv[1:]):
    ready.register(socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True), selectors.EVENT_READ)
while True:
    for key, _events in ready.select():
        connection, _address = key.fileobj.accept()
        with connection:
            connection.sendall(b"hello\n")
