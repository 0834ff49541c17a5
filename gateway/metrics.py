"""Figures for Prometheus: counted in each worker, summed over the workers of one master when somebody asks.

The client library's multiprocess form: a worker's numbers stand in files of its own that are mapped into its memory, in a
folder of the master's. The library names the files by process id, so that they would pile up with every worker that is
replaced; here a worker has a number instead (WorkerNumbers), and who takes the place of a dead one goes on with its counters.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, values
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from gateway.domain import Candidate
from gateway.errors import GatewayBusy
from gateway.telemetry import Counting, RequestRecord

PREFIX = "gateway_"

TTFT_BUCKETS_S = (0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2, 3, 5, 10, 20, 30)
DURATION_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)

# --- the master's side -----------------------------------------------------------------------------------------------


class WorkerNumbers:
    """Which worker counts under which number, and the folder where. In the master only."""

    def __init__(self) -> None:
        self.folder = tempfile.mkdtemp(prefix="gateway-metrics-")
        self._taken: set[int] = set()

    def take(self) -> int:
        """Return a number that no living worker has."""
        number = next(number for number in range(len(self._taken) + 1) if number not in self._taken)
        self._taken.add(number)
        return number

    def give_back(self, number: int) -> None:
        """Take note that a worker is dead: what it had open is no more, what it counted stays."""
        mark_process_dead(number, self.folder)  # type: ignore[no-untyped-call]
        self._taken.discard(number)

    def close(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


def count_as_worker(number: int) -> None:
    """Let what this process counts from now on be found by the other workers: before it has anything that counts.

    The library reads from the environment where: PROMETHEUS_MULTIPROC_DIR.
    """
    values.ValueClass = values.MultiProcessValue(process_identifier=lambda: number)  # type: ignore[no-untyped-call]


# --- a worker's side -------------------------------------------------------------------------------------------------


class Labelled(dict[tuple[str, ...], Histogram]):
    """A histogram by the values of its labels: the library's own look-up takes longer than the counting."""

    def __init__(self, histogram: Histogram) -> None:
        super().__init__()
        self._histogram = histogram

    def __missing__(self, labels: tuple[str, ...]) -> Histogram:
        self[labels] = self._histogram.labels(*labels)
        return self[labels]


class PrometheusTelemetry(Counting):
    """Counts. The values of labels are known beforehand: neither what clients make up nor projects and keys, which are many."""

    def __init__(self, threads: int) -> None:
        self._is_one_of_many = values.ValueClass is not values.MutexValue
        self._registry = CollectorRegistry()
        self._sums: dict[tuple[Counter | Gauge, tuple[str, ...]], float] = {}
        self._requests = self._counter(
            "requests",
            "Requests by surface, HTTP status (499: the client left) and error code; a stream that broke has status 200.",
            "surface",
            "status",
            "error",
        )
        self._durations = self._histogram(
            "request_duration_seconds", "From a request to the end of its answer.", "surface", DURATION_BUCKETS_S
        )
        self._ttft = self._histogram(
            "ttft_seconds", "From a request to the beginning of its streamed answer, by who gave it.", "provider", TTFT_BUCKETS_S
        )
        self._attempts = self._counter(
            "attempts",
            "Upstream calls by how they ended: ok, abandoned (by nobody's fault), or the kind of failure.",
            "provider",
            "model",
            "outcome",
        )
        self._cooldowns = self._counter("cooldowns", "Rests that began with a failure.", "provider", "model")
        self._tokens = self._counter("tokens", "Tokens of prompts and of completions.", "provider", "model", "kind")
        self._sheds = self._counter("sheds", "Requests refused while every place was taken.")
        self._state_errors = self._counter("state_errors", "Questions that the state store did not answer.", "verb")
        self._streams_open = self._gauge("streams_open", "Streamed answers that are under way.")
        self._threads_busy = self._gauge("threads_busy", "Threads that work on requests to models.")
        self._gauge("threads", "Threads for requests to models: GATEWAY_THREADS in each worker.").set(threads)

    def request_admitted(self) -> None:
        self._add(self._threads_busy, (), 1)

    def stream_began(self) -> None:
        self._add(self._streams_open, (), 1)

    def request_ended(self, record: RequestRecord) -> None:
        self._add(self._requests, (record.surface, str(record.status), record.error or ""), 1)
        self._durations[record.surface,].observe(record.duration_ms / 1000)
        if record.admitted:
            self._add(self._threads_busy, (), -1)
        if record.streamed:
            self._add(self._streams_open, (), -1)
        if record.error == GatewayBusy.code and record.for_models:
            self._add(self._sheds, (), 1)
        if record.served_by:
            self._served(record, *record.served_by.split("/", 1))

    def _served(self, record: RequestRecord, provider: str, model: str) -> None:
        if record.ttft_ms is not None:
            self._ttft[provider,].observe(record.ttft_ms / 1000)
        if record.usage:
            self._add(self._tokens, (provider, model, "prompt"), max(0, record.usage.prompt_tokens))
            self._add(self._tokens, (provider, model, "completion"), max(0, record.usage.completion_tokens))

    def attempt_ended(self, candidate: Candidate, outcome: str, ms: float, *, rested: bool = False) -> None:
        provider, model = candidate.provider.key, candidate.model.id
        self._add(self._attempts, (provider, model, outcome.removeprefix("failed:")), 1)
        if rested:
            self._add(self._cooldowns, (provider, model), 1)

    def state_failed(self, verb: str) -> None:
        self._state_errors.labels(verb).inc()

    def flush(self) -> None:
        for (metric, labels), amount in self._sums.items():
            (metric.labels(*labels) if labels else metric).inc(amount)
        self._sums = {}

    def _add(self, metric: Counter | Gauge, labels: tuple[str, ...], amount: float) -> None:
        place = (metric, labels)
        self._sums[place] = self._sums.get(place, 0) + amount

    def _counter(self, name: str, about: str, *labels: str) -> Counter:
        return Counter(PREFIX + name, about, labels, registry=self._registry)

    def _histogram(self, name: str, about: str, label: str, buckets_s: Sequence[float]) -> Labelled:
        return Labelled(Histogram(PREFIX + name, about, (label,), buckets=buckets_s, registry=self._registry))

    def _gauge(self, name: str, about: str) -> Gauge:
        return Gauge(PREFIX + name, about, multiprocess_mode="livesum", registry=self._registry)

    # --- what is asked for ---------------------------------------------------------------------------------------------

    def expose(self, accept: str, shared: Shared) -> tuple[bytes, str]:
        """Return what all workers counted, and what they see alike, in a form that an Accept header names; and which it is."""
        registry = CollectorRegistry()
        if self._is_one_of_many:
            MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        else:
            registry.register(self._registry)
        registry.register(shared)
        encode, content_type = choose_encoder(accept)
        return encode(registry), content_type


class Shared:
    """What every worker sees alike, since the state store holds it.

    `quotas`: as `/v1/quota` has them. `rests`: provider, model and credential's number of who rests, and for how many
    seconds more.
    """

    def __init__(self, quotas: Iterable[Mapping[str, Any]], rests: Iterable[tuple[str, str, int, float]]) -> None:
        self._quotas = quotas
        self._rests = rests

    def collect(self) -> Iterator[Metric]:
        labels = ("provider", "model", "credential", "window")
        limit = GaugeMetricFamily(f"{PREFIX}quota_limit", "Quotas; one without a model is an account's.", labels=labels)
        left = GaugeMetricFamily(f"{PREFIX}quota_remaining", "What is left of each quota.", labels=labels)
        for quota in self._quotas:
            place = [quota["provider"], quota["model"] or "", str(quota["credential"]), quota["window"]]
            limit.add_metric(place, quota["limit"])
            left.add_metric(place, quota["remaining"])
        cooldown = GaugeMetricFamily(
            f"{PREFIX}cooldown_seconds", "How much longer those rest that rest now.", labels=("provider", "model", "credential")
        )
        for provider, model, credential, seconds in self._rests:
            cooldown.add_metric([provider, model, str(credential)], seconds)
        yield from (limit, left, cooldown)
