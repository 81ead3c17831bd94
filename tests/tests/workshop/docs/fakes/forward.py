"""Forwards connections to a port of a container, until the container ends.

    forward.py PID ADDRESS HOST_PORT CONTAINER_PORT READY

The listener opens in the network of the machine. Then the process enters that of the
container, where it opens the connections. It writes "ready" or "failed" to the pipe READY.
"""

import ctypes
import os
import pathlib
import select
import socket
import sys
import threading

from containers import ADDRESS

pid, address, host, inner, ready = sys.argv[1:]
listener = socket.socket()
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
try:
    listener.bind((address, int(host)))
except OSError:
    pathlib.Path(ready).write_text("failed")
    sys.exit(1)
listener.listen()
container = os.pidfd_open(int(pid))
libc = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNET = 0x40000000
if libc.setns(os.open(f"/proc/{pid}/ns/net", os.O_RDONLY), CLONE_NEWNET) != 0:
    sys.exit(os.strerror(ctypes.get_errno()))
pathlib.Path(ready).write_text("ready")


def copy(source, target):
    while data := source.recv(65536):
        target.sendall(data)
    target.shutdown(socket.SHUT_WR)


while True:
    readable, _, _ = select.select([listener, container], [], [])
    if container in readable:
        break
    client, _ = listener.accept()
    server = socket.create_connection((ADDRESS, int(inner)))
    for pair in [(client, server), (server, client)]:
        threading.Thread(target=copy, args=pair, daemon=True).start()
