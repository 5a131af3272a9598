"""Turns a fresh mongod into a replica set of one member with a user, or checks that one answers.

Transactions need a replica set, and only a command over the wire makes one. MongoDB's shell is not in the package
that brings the server, and a driver would be one more download, so this speaks the little of the protocol that
four commands need: OP_MSG with one BSON document (https://www.mongodb.com/docs/manual/reference/mongodb-wire-protocol/,
https://bsonspec.org/spec.html), with the standard library alone.

usage: mongodb_replica_set.py create|check PORT     (create reads the user's password from standard input)
"""

import socket
import struct
import sys
import time

OP_MSG = 2013
# Bytes of the BSON types of fixed size that a reply may hold; the values themselves are of no interest here.
FIXED_SIZE = {0x06: 0, 0x07: 12, 0x09: 8, 0x0A: 0, 0x11: 8, 0x13: 16, 0xFF: 0, 0x7F: 0}


def encode(document):
    body = b""
    for key, value in document.items():
        name = key.encode() + b"\0"
        if isinstance(value, bool):
            body += b"\x08" + name + struct.pack("<?", value)
        elif isinstance(value, int):
            body += b"\x10" + name + struct.pack("<i", value)
        elif isinstance(value, str):
            text = value.encode() + b"\0"
            body += b"\x02" + name + struct.pack("<i", len(text)) + text
        elif isinstance(value, list):
            body += b"\x04" + name + encode({str(i): item for i, item in enumerate(value)})
        else:
            body += b"\x03" + name + encode(value)
    return struct.pack("<i", len(body) + 5) + body + b"\0"


def decode(data):
    """The document's top-level booleans, numbers and strings; whatever else it holds is skipped over."""
    found, at = {}, 4
    while data[at] != 0:
        kind, end = data[at], data.index(b"\0", at + 1)
        name, at = data[at + 1 : end].decode(), end + 1
        if kind == 0x01:
            found[name], at = struct.unpack_from("<d", data, at)[0], at + 8
        elif kind == 0x08:
            found[name], at = data[at] != 0, at + 1
        elif kind == 0x10:
            found[name], at = struct.unpack_from("<i", data, at)[0], at + 4
        elif kind == 0x12:
            found[name], at = struct.unpack_from("<q", data, at)[0], at + 8
        elif kind == 0x02:
            size = struct.unpack_from("<i", data, at)[0]
            found[name], at = data[at + 4 : at + 3 + size].decode(), at + 4 + size
        elif kind in (0x03, 0x04):
            at += struct.unpack_from("<i", data, at)[0]
        elif kind == 0x05:
            at += 5 + struct.unpack_from("<i", data, at)[0]
        elif kind in FIXED_SIZE:
            at += FIXED_SIZE[kind]
        else:
            raise ValueError(f"the server sent a BSON type that is not expected here: {kind:#x}")
    return found


def receive(connection, size):
    data = b""
    while len(data) < size:
        part = connection.recv(size - len(data))
        if not part:
            raise ConnectionError("the server closed the connection")
        data += part
    return data


def command(port, document):
    # A connection per command: the first ones reach a server that is still changing its role, which closes connections.
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        body = struct.pack("<iB", 0, 0) + encode({**document, "$db": "admin"})
        connection.sendall(struct.pack("<iiii", 16 + len(body), 1, 0, OP_MSG) + body)
        size = struct.unpack("<iiii", receive(connection, 16))[0]
        return decode(receive(connection, size - 16)[5:])


def must(port, document):
    reply = command(port, document)
    if reply.get("ok") != 1:
        # Never the document itself: it may hold the password.
        sys.exit(f"MongoDB refused {next(iter(document))}: {reply.get('errmsg')}")
    return reply


def is_primary(port):
    return must(port, {"hello": 1}).get("isWritablePrimary") is True


def create(port, password):
    member = {"_id": 0, "host": f"127.0.0.1:{port}"}
    must(port, {"replSetInitiate": {"_id": "v1v2", "members": [member]}})
    deadline = time.monotonic() + 60
    while not is_primary(port):
        if time.monotonic() > deadline:
            sys.exit("MongoDB's replica set has no primary after 60 seconds")
        time.sleep(0.05)
    # The first user may be created without a password, from the same machine ("localhost exception").
    must(port, {"createUser": "v1v2", "pwd": password, "roles": ["root"]})


if __name__ == "__main__":
    action, port = sys.argv[1], int(sys.argv[2])
    if action == "create":
        create(port, sys.stdin.readline().strip())
    elif not is_primary(port):
        sys.exit("MongoDB is not a primary")
