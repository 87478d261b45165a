"""What gunicorn does before it says READY=1: one request through the application that it has loaded, in this very
process. A connection could not do it: the listeners are shared, and any worker, old or new, may take it."""
from wsgiref.util import setup_testing_defaults


def on_starting(server):
    environ = {"PATH_INFO": "/self-check"}
    setup_testing_defaults(environ)
    said = []
    body = b"".join(server.app.wsgi()(environ, lambda status, headers, exc_info=None: said.append(status)))
    if not said or not said[-1].startswith("200"):
        raise SystemExit(f"self-check: {said}: {body[:200]!r}")
