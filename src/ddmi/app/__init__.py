"""A local web application in which a person explores samples as functions: `ddmi app`.

`queue.py` the line in which all rendering waits, `studio.py` models and samples, `server.py` the requests, `static/`
the page: HTML, CSS and JavaScript modules that the browser runs as they are, beside OpenSeadragon and three.js.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence

from ddmi.base.errors import UserError, missing_extra


def serve(
    models: Sequence[str], host: str = "127.0.0.1", port: int = 0, ready: Callable[[str], None] = lambda url: None
) -> None:
    """Serve until it is interrupted.

    Args:
        models: names or folders. host: address to listen on. port: 0 for any that is free.
        ready: called with the address of the page.

    Raises:
        UserError: no such model, the port is taken, the host is none, or a package is missing.
    """
    try:
        import uvicorn
    except ImportError as error:
        raise missing_extra("uvicorn", "app") from error
    from ddmi.app.queue import SOON, RenderQueue
    from ddmi.app.server import application
    from ddmi.app.studio import Studio

    queue = RenderQueue()
    studio = Studio(models, queue)
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.socket(family)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except OSError as error:
        raise UserError(f"cannot listen on {host}:{port}: {error.strerror or error}") from error
    queue.submit(lambda: studio.pipe(models[0]), SOON)
    served = application(studio, {"localhost", host, socket.gethostname()})
    server = uvicorn.Server(uvicorn.Config(served, log_level="error", lifespan="on", timeout_graceful_shutdown=1))
    shown = f"[{host}]" if ":" in host else host
    ready(f"http://{shown}:{listener.getsockname()[1]}/")
    server.run(sockets=[listener])
