"""`python -m api`: serve settings.api until SIGTERM, then finish what is under way and flush to Kafka."""

import os
import resource
import signal
import ssl
import sys
import tempfile
from pathlib import Path
from typing import Any

import uvicorn

from api.protocol import BoundedProtocol
from headwater.errors import SetupError
from headwater.log import configure_logging, logger
from headwater.settings import Api, Settings, load_settings

KEEP_ALIVE_S = 5
DRAIN_S = 5  # beyond the time that Kafka is given for an answer
BACKLOG = 2048


def main() -> int:
    """Exit codes: 0 stopped, 1 could not serve, 2 the configuration is wrong."""
    configure_logging()
    allow_many_connections()
    try:
        settings = load_settings()
        if settings.api.workers > 1:
            return _serve_many(settings)
        return _serve_one(settings)
    except SetupError as fault:
        logger("api").error("setup", reason=str(fault))
        return fault.exit_code


def allow_many_connections() -> None:
    """As many open files as the system allows: Kafka and Redis must not lack one for a crowd of clients."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _serve_one(settings: Settings) -> int:
    from api.app import create_app

    server = uvicorn.Server(uvicorn.Config(create_app(settings), **_options(settings)))
    # uvicorn raises the signal again once it has stopped; by then there is nothing left to do.
    for received in (signal.SIGTERM, signal.SIGINT):
        signal.signal(received, lambda *_: None)
    server.run()
    return 0 if server.started else 1


def _serve_many(settings: Settings) -> int:
    """Workers are processes of their own; their metrics meet in a folder."""
    with tempfile.TemporaryDirectory(prefix="headwater-api-metrics-") as folder:
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder
        from api.app import create_app

        create_app(settings)  # a wrong set-up ends here, not in workers that are started again and again
        options = _options(settings)
        uvicorn.run("api.app:create_app", factory=True, workers=settings.api.workers, **options)
    return 0


def _options(settings: Settings) -> dict[str, Any]:
    return {
        "host": settings.api.host,
        "port": settings.api.port,
        "log_config": None,
        "access_log": False,
        "server_header": False,
        "proxy_headers": False,
        "http": BoundedProtocol,
        "ws": "none",
        "backlog": BACKLOG,
        "timeout_keep_alive": KEEP_ALIVE_S,
        "timeout_graceful_shutdown": round(settings.api.kafka_timeout_s) + DRAIN_S,
        **certificate_options(settings.api),
    }


def certificate_options(api: Api) -> dict[str, Path]:
    """uvicorn's names for it. Tried here: a file that is no certificate is a fault of the set-up."""
    if api.certificate_file is None or api.certificate_key_file is None:
        return {}
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        # Nobody is asked for a passphrase: a key that has one is refused.
        context.load_cert_chain(api.certificate_file, api.certificate_key_file, password="")
    except (OSError, ValueError) as fault:
        why = getattr(fault, "reason", None) or fault.args[-1]
        raise SetupError(
            "api.certificate_file and api.certificate_key_file cannot be used as a certificate and its key "
            f"without a passphrase ({type(fault).__name__}: {why})"
        ) from None
    return {"ssl_certfile": api.certificate_file, "ssl_keyfile": api.certificate_key_file}


if __name__ == "__main__":
    sys.exit(main())
