"""A worker of fdt on Python's asyncio: this one file, Python 3.9 or newer, and nothing else.

    import fdt_worker

    async def handle(reader, writer, worker):
        while line := await worker.request(reader.readline()):
            writer.write(b"you said " + line)
            await writer.drain()

    fdt_worker.run(handle)

It serves the listeners that systemd passes, says READY=1, STOPPING=1 and WATCHDOG=1, drains on SIGTERM, and speaks the control
protocol, version 1, by which `fdtctl status` counts connections and `fdtctl drain` cuts them: see ANOTHER PROGRAM AS WORKER in
fdt-worker(8). Nothing here may be called from another thread than the loop's.
"""
import asyncio
import datetime
import errno
import json
import os
import re
import signal
import socket
import struct
import sys

PROTOCOL = 1
LONGEST = 64 << 10  # of a request on the control socket, in bytes
EXCHANGE = 10  # seconds that one may take


def listeners():
    """The listening sockets that systemd passes, by name, as sd_listen_fds(3) has it."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        raise SystemExit("fdt_worker: systemd has passed no listeners: LISTEN_PID is not this process")
    names = os.environ.get("LISTEN_FDNAMES", "").split(":")
    found = {}
    for i in range(int(os.environ.get("LISTEN_FDS", "0"))):
        os.set_inheritable(3 + i, False)
        sock = socket.socket(fileno=3 + i)
        sock.setblocking(False)  # and it must stay so: siblings share this very flag
        name = names[i] if i < len(names) else ""
        found[name if name and name not in found else str(3 + i)] = sock
    return found


def notify(*lines):
    """Tells systemd, as sd_notify(3) has it. Without NOTIFY_SOCKET nobody is told."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    if path:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as s:
            s.connect("\0" + path[1:] if path.startswith("@") else path)
            s.sendall("\n".join(lines).encode())


def seconds(duration):
    """What a duration of the control protocol, such as 1m30s or 250ms, is in seconds."""
    units = {"h": 3600, "m": 60, "s": 1, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
    part = r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(h|ms|m|s|us|µs|ns)"
    if duration != "0" and not re.fullmatch("(?:" + part + ")+", duration):
        raise ValueError(f"within: {duration!r} is not a duration such as 5s")
    return sum(float(number) * units[unit] for number, unit in re.findall(part, duration))


class Worker:
    """One worker: handle(reader, writer, worker) is a coroutine that serves a connection, and is cancelled where its time is
    over. At most threads connections are served at once; others wait in the kernel's queue, where a sibling may take them.
    While it drains, a connection without a request in hand is ended after silence, in seconds."""

    def __init__(self, handle, threads=256, silence=2.0):
        self.handle, self.threads, self.silence = handle, threads, silence
        self.open = self.idle = self.accepted = 0
        self.draining = asyncio.Event()
        self._listening = {}
        self._paused = False
        self._tasks = set()
        self._control = None
        self._since = datetime.datetime.now(datetime.timezone.utc)

    async def request(self, reading):
        """Awaits the beginning of a connection's next request, as of reader.readline(), and returns it. It is empty if the
        client has left, and None if the connection is to end because the worker drains. Until it returns, the connection counts
        as idle, and else as busy."""
        read = asyncio.ensure_future(reading)
        told = asyncio.ensure_future(self.draining.wait())
        self.idle += 1
        try:
            await asyncio.wait({read, told}, return_when=asyncio.FIRST_COMPLETED)
            if not read.done():
                await asyncio.wait({read}, timeout=self.silence)
            return read.result() if read.done() else None
        except ConnectionError:
            return b""
        finally:
            self.idle -= 1
            read.cancel()
            told.cancel()

    async def serve(self):
        """The worker's whole life. It returns when the last connection has ended after a drain."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self.drain)
        loop.add_signal_handler(signal.SIGINT, self.drain)
        loop.add_signal_handler(signal.SIGQUIT, self.drain, 0)
        self._listening = listeners()
        path = os.environ.get("FDT_CONTROL")
        if path:
            if os.path.exists(path):
                os.unlink(path)  # of a process that has died
            self._control = await asyncio.start_unix_server(self._exchange, path=path, limit=LONGEST)
            os.chmod(path, 0o660)
        self._accept(True)
        notify("READY=1", "STATUS=serving")
        watching = asyncio.ensure_future(self._watchdog())
        await self.draining.wait()
        while self._tasks:
            await asyncio.wait(self._tasks)
        watching.cancel()
        if self._control:
            self._control.close()
            if os.path.exists(path):  # Python 3.13 removes it by itself
                os.unlink(path)

    def drain(self, within=None, final=False):
        """Stops to accept, and lets connections end, those that are left after within seconds by cancelling them. Final says
        that nobody will accept after us: what waits in the queues is accepted before."""
        for sock in self._listening.values():
            if not self._paused:
                asyncio.get_running_loop().remove_reader(sock)
            while final and self._take(sock):
                pass
            sock.close()
        self._listening = {}
        if not self.draining.is_set():
            self._since = datetime.datetime.now(datetime.timezone.utc)
            self.draining.set()
            notify("STOPPING=1", f"STATUS=draining {self.open}")
        if within is not None:
            asyncio.get_running_loop().call_later(within, self._cut)

    def _cut(self):
        for task in self._tasks:
            task.cancel()

    def _accept(self, on):
        """Has the loop accept, or not."""
        self._paused = not on
        for sock in self._listening.values():
            if on:
                # One at each call: what one process takes no other can.
                asyncio.get_running_loop().add_reader(sock, self._take, sock)
            else:
                asyncio.get_running_loop().remove_reader(sock)

    def _take(self, sock):
        """Accepts one connection, and tells whether there was one."""
        try:
            conn, _ = sock.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return False  # a sibling was quicker, or the client has left
        except OSError as e:
            if e.errno not in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                raise
            print(f"<4>cannot accept: {e}", file=sys.stderr, flush=True)
            self._accept(False)
            asyncio.get_running_loop().call_later(1, self._accept, True)
            return False
        conn.setblocking(False)
        self.open += 1
        self.accepted += 1
        task = asyncio.ensure_future(self._connection(conn))
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        if self.open >= self.threads and not self._paused:
            self._accept(False)
        return True

    def _ended(self, task):
        self._tasks.discard(task)
        self.open -= 1
        if not task.cancelled() and task.exception():
            asyncio.get_running_loop().call_exception_handler({"message": "a connection has failed", "exception": task.exception()})
        if self._paused and self.open < self.threads:
            self._accept(True)

    async def _connection(self, conn):
        reader, writer = await asyncio.open_connection(sock=conn)
        try:
            await self.handle(reader, writer, self)
            await writer.drain()
        except ConnectionError:
            pass  # the client has left
        except asyncio.CancelledError:
            writer.transport.abort()  # it may not even read what was written
            raise
        finally:
            writer.close()
            try:
                await writer.wait_closed()
            except ConnectionError:
                pass

    async def _watchdog(self):
        """Pings systemd as often as the unit's WatchdogSec= wants: a loop that stands still does not."""
        interval = int(os.environ.get("WATCHDOG_USEC", "0")) / 2e6
        if interval and os.environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid()):
            while True:
                notify("WATCHDOG=1")
                await asyncio.sleep(interval)

    def status(self):
        """What the control socket tells of this worker."""
        generation, _, slot = os.path.basename(os.environ["FDT_CONTROL"]).partition(".")[0].partition("-")
        with open("/proc/self/statm", encoding="ascii") as f:
            memory = int(f.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        return {
            "protocol": PROTOCOL, "generation": int(generation), "slot": int(slot), "pid": os.getpid(),
            "state": "draining" if self.draining.is_set() else "serving", "since": self._since.isoformat(),
            "open": self.open, "busy": self.open - self.idle, "idle": self.idle, "threads": self.threads,
            "accepted": self.accepted, "memory": memory,
        }

    async def _exchange(self, reader, writer):
        """One question on the control socket."""
        try:
            line = await asyncio.wait_for(reader.readline(), EXCHANGE)
            answer = self._answer(json.loads(line), writer.get_extra_info("socket"))
        except (asyncio.TimeoutError, ConnectionError):
            answer = None
        except Exception as e:  # whatever was asked, the connection is closed and the worker serves on
            answer = {"error": str(e)}
        try:
            if answer is not None:
                writer.write(json.dumps(answer).encode() + b"\n")
                await asyncio.wait_for(writer.drain(), EXCHANGE)
        except (asyncio.TimeoutError, ConnectionError):
            pass
        finally:
            writer.close()

    def _answer(self, question, peer):
        op = question.get("op")
        if op == "status":
            return {"reply": self.status()}
        if op != "drain":
            return {"error": f"unknown operation {op!r}", "code": "unknown_op"}
        _, uid, _ = struct.unpack("3i", peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        if uid not in (0, os.getuid()):
            return {"error": "permission denied: drain is for root"}
        within = question.get("within")
        self.drain(seconds(within) if within else None, bool(question.get("final") or question.get("final_on")))
        return {"reply": None}


def run(handle, **options):
    """Runs a Worker until it has drained."""

    async def life():
        await Worker(handle, **options).serve()

    asyncio.run(life())
