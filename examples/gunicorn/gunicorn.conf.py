"""What makes gunicorn a worker of fdt: a self-check before it says READY=1, and a control socket. It needs nothing but gunicorn 20 or
newer. What the control protocol is, version 1, stands under ANOTHER PROGRAM AS WORKER in fdt-worker(8)."""
import json
import mmap
import os
import re
import signal
import socket
import struct
import threading
from wsgiref.util import setup_testing_defaults

PROTOCOL = 1
# How many requests each of gunicorn's own workers has in hand: 4 bytes each, which all of its processes share.
SLOTS = 512
in_hand = mmap.mmap(-1, 4 * SLOTS)
counting = threading.Lock()


def on_starting(server):
    """One request through the application that gunicorn has loaded, in this very process. A connection could not do it: the
    listeners are shared, and any worker, old or new, may take it."""
    environ = {"PATH_INFO": "/self-check"}
    setup_testing_defaults(environ)
    said = []
    body = b"".join(server.app.wsgi()(environ, lambda status, headers, exc_info=None: said.append(status)))
    if not said or not said[-1].startswith("200"):
        raise SystemExit(f"self-check: {said}: {body[:200]!r}")
    path = os.environ.get("FDT_CONTROL")
    if path:
        if os.path.exists(path):
            os.unlink(path)  # of a process that has died
        control = socket.socket(socket.AF_UNIX)
        control.bind(path)
        os.chmod(path, 0o660)
        control.listen()
        # Its workers are forked while this thread waits in accept or reads, so that it holds no lock that they would need.
        threading.Thread(target=answer, args=(server, control), daemon=True).start()


def on_exit(server):
    path = os.environ.get("FDT_CONTROL")
    if path and os.path.exists(path):
        os.unlink(path)


def pre_request(worker, req):
    count(worker, 1)


def post_request(worker, req, environ, resp):
    count(worker, -1)


def child_exit(server, worker):
    struct.pack_into("i", in_hand, worker.age % SLOTS * 4, 0)


def count(worker, n):
    with counting:
        at = worker.age % SLOTS * 4
        struct.pack_into("i", in_hand, at, struct.unpack_from("i", in_hand, at)[0] + n)


def answer(server, control):
    """Answers one question after another on the control socket."""
    while True:
        conn, _ = control.accept()
        with conn:
            try:
                conn.settimeout(10)
                with conn.makefile("rb") as lines:
                    reply = asked(server, conn, json.loads(lines.readline(64 << 10)))
                conn.sendall(json.dumps(reply).encode() + b"\n")
            except OSError:
                pass  # who asked has left
            except Exception as e:  # whatever was asked, the next one is answered
                conn.sendall(json.dumps({"error": str(e)}).encode() + b"\n")


def asked(server, conn, question):
    op = question.get("op")
    if op == "status":
        return {"reply": status(server)}
    if op != "drain":
        return {"error": f"unknown operation {op!r}", "code": "unknown_op"}
    _, uid, _ = struct.unpack("3i", conn.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    if uid not in (0, os.getuid()):
        return {"error": "permission denied: drain is for root"}
    within = seconds(question["within"]) if question.get("within") else None
    os.kill(os.getpid(), signal.SIGTERM)
    if within is not None:
        cutting = threading.Timer(within, cut, [server])
        cutting.daemon = True
        cutting.start()
    return {"reply": None}


def status(server):
    """What there is to tell. Connections are not: gunicorn's own workers accept them, and only requests are counted."""
    generation, _, slot = os.path.basename(os.environ["FDT_CONTROL"]).partition(".")[0].partition("-")
    return {
        "protocol": PROTOCOL, "generation": int(generation), "slot": int(slot), "pid": os.getpid(),
        "state": "serving" if server.LISTENERS else "draining",
        "busy": sum(struct.unpack(f"{SLOTS}i", in_hand[:])), "threads": server.num_workers * server.cfg.threads,
    }


def cut(server):
    for pid in list(server.WORKERS):
        try:
            os.kill(pid, signal.SIGQUIT)
        except ProcessLookupError:
            pass  # it has ended


def seconds(duration):
    """What a duration of the control protocol, such as 1m30s or 250ms, is in seconds."""
    units = {"h": 3600, "m": 60, "s": 1, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
    part = r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(h|ms|m|s|us|µs|ns)"
    if duration != "0" and not re.fullmatch("(?:" + part + ")+", duration):
        raise ValueError(f"within: {duration!r} is not a duration such as 5s")
    return sum(float(number) * units[unit] for number, unit in re.findall(part, duration))
