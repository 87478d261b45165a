"""What asyncio serves: each path of HTTP/1.1, and by which process."""
import os

import fdt_worker


async def handle(reader, writer, worker):
    while first := await worker.request(reader.readline()):
        fields = {}
        while (line := await reader.readline()).strip():
            name, _, value = line.decode("latin-1").partition(":")
            fields[name.strip().lower()] = value.strip()
        await reader.readexactly(int(fields.get("content-length", "0")))
        path = first.split()[1].decode("latin-1")
        body = f"{path} from process {os.getpid()}\n".encode()
        last = worker.draining.is_set() or fields.get("connection", "").lower() == "close"
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n%s\r\n%s"
                     % (len(body), b"Connection: close\r\n" if last else b"", body))
        await writer.drain()
        if last:
            return


if __name__ == "__main__":
    fdt_worker.run(handle)
