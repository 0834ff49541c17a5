"""gunicorn's settings, all from the environment; gunicorn finds this file by itself."""

import gc
import os
import resource
import sys

from gateway.boot import greeting, keep_configuration, load_configuration, state_warning
from gateway.errors import ConfigurationError
from gateway.metrics import WorkerNumbers, count_as_worker

try:
    configuration = load_configuration(os.environ)
except ConfigurationError as problem:
    sys.exit(str(problem))
keep_configuration(configuration)
settings = configuration.settings

bind = settings.bind
workers = settings.workers
threads = settings.threads
worker_class = "gateway.lifecycle.Worker"
# gunicorn counts idle keep-alives and silent connections too, and at this limit it stops accepting.
worker_connections = settings.threads + 1000
keepalive = 95  # must outlast the proxy's idle time (nginx 60 s, Heroku 90 s), or it closes under a request
timeout = 120  # of a worker's own heartbeat, not of a request
graceful_timeout = 26  # running requests get 20 s of it (lifecycle.LAST_S); platforms kill after 30 s
# What a request may hold before its body; together with MAX_REQUEST_BYTES, that is all of it.
limit_request_line = 4094
limit_request_fields = 100
limit_request_field_size = 8190
# Nobody in front decides scheme or path by a header, be it on this machine: proxies are TRUSTED_PROXY_HOPS's affair.
forwarder_headers = ""
secure_scheme_headers = {}  # type: ignore[var-annotated]
accesslog = None  # the gateway writes its own line a request
logger_class = "gateway.serverlog.ServerLog"
loglevel = "warning"
control_socket_disable = True


def on_starting(server):  # type: ignore[no-untyped-def]
    """Allow as many open files as the system does: a stream takes two. Have a folder for what this master's workers count."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard if hard != resource.RLIM_INFINITY else max(soft, 65536), hard))
    server.worker_numbers = WorkerNumbers()  # not here: a reload reads this file anew, and keeps what was counted
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = server.worker_numbers.folder


def when_ready(server):  # type: ignore[no-untyped-def]
    """Tell the operator once how to begin: at the address that was bound, which `-b` and PORT=0 decide elsewhere."""
    addresses = [str(listener) for listener in server.LISTENERS] or [f"http://{bind}"]
    size = f"{server.num_workers} workers of {server.cfg.threads} threads"
    print(f"Listening on {', '.join(addresses)} with {size}.", file=sys.stderr)
    if warning := state_warning(settings):
        print(warning, file=sys.stderr)
    print(greeting(configuration, addresses[0]), file=sys.stderr, flush=True)


def pre_fork(server, worker):  # type: ignore[no-untyped-def]
    worker.number = server.worker_numbers.take()
    gc.freeze()  # what is collected is written to: memory that the worker shares with the master would be copied


def post_fork(server, worker):  # type: ignore[no-untyped-def]
    count_as_worker(worker.number)
    # A request leaves one cycle (Flask's, of itself and its environment): looked for every 700 objects, cycles cost 4%. The
    # oldest objects are looked at as often as by default: with 10,000 and 10s a worker held 40 MB more (measured 2026-11).
    gc.set_threshold(5_000, 5, 4)
    # Threads wait for each other's input and output, hardly for long computing: those that wait for the interpreter wake up
    # this often to ask for it, which at 64 clients costs 5% and the first in the line its place (measured 2026-11).
    sys.setswitchinterval(0.05)


def child_exit(server, worker):  # type: ignore[no-untyped-def]
    server.worker_numbers.give_back(worker.number)
    worker.wipe()


def on_exit(server):  # type: ignore[no-untyped-def]
    server.worker_numbers.close()
