"""Receivers of OTLP made of opentelemetry-proto's own services: gRPC and http/protobuf, with TLS where wanted.

They take no more than a collector does: 4 MiB a gRPC message. What arrives is kept as protobuf, and the bytes on the
wire are counted by a relay in front, so that compression can be seen.
"""

from __future__ import annotations

import gzip
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import grpc
import trustme
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2 as metrics_pb2
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2_grpc as metrics_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as traces_pb2
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as traces_grpc


@dataclass
class Certificates:
    """An authority, a server on 127.0.0.1 and a client, as files."""

    authority: Path
    server: Path
    server_key: Path
    client: Path
    client_key: Path


def certificates(folder: Path) -> Certificates:
    """Fresh ones in `folder`."""
    authority = trustme.CA()
    files = Certificates(*(folder / name for name in ("ca.crt", "tls.crt", "tls.key", "client.crt", "client.key")))
    authority.cert_pem.write_to_path(files.authority)
    for issued, crt, key in (
        (authority.issue_cert("127.0.0.1", "localhost"), files.server, files.server_key),
        (authority.issue_cert("client@example.org"), files.client, files.client_key),
    ):
        crt.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        issued.private_key_pem.write_to_path(key)
    return files


@dataclass
class Received:
    """What has arrived."""

    metrics: list[Any] = field(default_factory=list)  # ExportMetricsServiceRequest
    traces: list[Any] = field(default_factory=list)  # ExportTraceServiceRequest
    headers: list[dict[str, str]] = field(default_factory=list)
    wire: int = 0  # bytes that came in through the relay
    refuse: bool = False  # answer "unavailable" instead
    arrived: threading.Condition = field(default_factory=threading.Condition)
    url: str = ""

    def add(self, request: Any, headers: dict[str, str]) -> None:
        """Keep one request."""
        with self.arrived:
            kept = self.metrics if isinstance(request, metrics_pb2.ExportMetricsServiceRequest) else self.traces
            kept.append(request)
            self.headers.append(headers)
            self.arrived.notify_all()

    def until(self, holds: Callable[[], object], timeout: float = 60.0) -> None:
        """Return once something has arrived that makes `holds` true."""
        with self.arrived:
            assert self.arrived.wait_for(holds, timeout), f"{len(self.metrics)} metrics, {len(self.traces)} traces came"

    def found(self) -> dict[str, Any]:
        """The last metric of each name."""
        return {metric.name: metric for _, metric in self.scoped()}

    def scoped(self) -> list[tuple[str, Any]]:
        """Every metric that came, with its meter's name."""
        return [
            (scope.scope.name, metric)
            for request in self.metrics
            for resource in request.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
        ]

    def spans(self) -> list[tuple[str, Any]]:
        """Every span that came, with its tracer's name."""
        return [
            (scope.scope.name, span)
            for request in self.traces
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    def resource(self) -> dict[str, Any]:
        """The attributes of the resource of what came last."""
        if self.metrics:
            return attributes(self.metrics[-1].resource_metrics[0].resource)
        return attributes(self.traces[-1].resource_spans[0].resource)


def attributes(holder: Any) -> dict[str, Any]:
    """The attributes of a point, span or resource."""
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in holder.attributes}


def points(metric: Any) -> list[Any]:
    """The points of a metric of any kind."""
    return list(getattr(metric, metric.WhichOneof("data")).data_points)


@contextmanager
def receiving(protocol: str, tls: Certificates | None = None, *, clients: bool = False) -> Iterator[Received]:
    """A receiver of `protocol`; with `tls` over TLS, and with `clients` it asks for a certificate of the authority."""
    received = Received()
    serve = _grpc if protocol == "grpc" else _http
    with serve(received, tls, clients) as port, _relay(received, port) as outer:
        received.url = f"{'https' if tls else 'http'}://127.0.0.1:{outer}"
        yield received


class _Metrics(metrics_grpc.MetricsServiceServicer):
    def __init__(self, received: Received) -> None:
        self._received = received

    def Export(self, request: Any, context: Any) -> Any:
        _take(self._received, request, context)
        return metrics_pb2.ExportMetricsServiceResponse()


class _Traces(traces_grpc.TraceServiceServicer):
    def __init__(self, received: Received) -> None:
        self._received = received

    def Export(self, request: Any, context: Any) -> Any:
        _take(self._received, request, context)
        return traces_pb2.ExportTraceServiceResponse()


def _take(received: Received, request: Any, context: Any) -> None:
    if received.refuse:
        context.abort(grpc.StatusCode.PERMISSION_DENIED, "not today")
    received.add(request, {pair.key: pair.value for pair in context.invocation_metadata()})


@contextmanager
def _grpc(received: Received, tls: Certificates | None, clients: bool) -> Iterator[int]:
    server = grpc.server(ThreadPoolExecutor(2))
    metrics_grpc.add_MetricsServiceServicer_to_server(_Metrics(received), server)  # type: ignore[no-untyped-call]
    traces_grpc.add_TraceServiceServicer_to_server(_Traces(received), server)  # type: ignore[no-untyped-call]
    if tls is None:
        port = server.add_insecure_port("127.0.0.1:0")
    else:
        pair = (tls.server_key.read_bytes(), tls.server.read_bytes())
        authority = tls.authority.read_bytes() if clients else None
        port = server.add_secure_port(
            "127.0.0.1:0", grpc.ssl_server_credentials([pair], authority, require_client_auth=clients)
        )
    server.start()
    try:
        yield port
    finally:
        server.stop(0).wait()


@contextmanager
def _http(received: Received, tls: Certificates | None, clients: bool) -> Iterator[int]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.headers["content-encoding"] == "gzip":
                body = gzip.decompress(body)
            kinds = {"/v1/metrics": (metrics_pb2, "Metrics"), "/v1/traces": (traces_pb2, "Trace")}
            if self.path not in kinds or received.refuse:
                self.send_response(404 if self.path not in kinds else 403)
                self.send_header("content-length", "0")
                self.end_headers()
                return
            module, name = kinds[self.path]
            received.add(
                getattr(module, f"Export{name}ServiceRequest").FromString(body),
                {key.lower(): value for key, value in self.headers.items()},
            )
            self.send_response(200)
            self.send_header("content-type", "application/x-protobuf")
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            return

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_: Any) -> None:
            return  # a client that goes away, or is refused by TLS

    server = Server(("127.0.0.1", 0), Handler)
    if tls is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tls.server, tls.server_key)
        if clients:
            context.load_verify_locations(tls.authority)
            context.verify_mode = ssl.CERT_REQUIRED
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def _relay(received: Received, port: int) -> Iterator[int]:
    """Passes connections on to `port` and counts what comes in."""
    outer = socket.create_server(("127.0.0.1", 0))
    threads: list[threading.Thread] = []
    ends: list[socket.socket] = []

    def begin(target: Callable[..., None], *args: object) -> None:
        threads.append(threading.Thread(target=target, args=args, daemon=True))
        threads[-1].start()

    def accept() -> None:
        with suppress(OSError):
            while True:
                near, _ = outer.accept()
                ends.append(near)
                far = socket.create_connection(("127.0.0.1", port))
                ends.append(far)
                begin(_pump, near, far, received)
                begin(_pump, far, near, None)

    begin(accept)
    try:
        yield outer.getsockname()[1]
    finally:
        outer.shutdown(socket.SHUT_RDWR)  # which ends what waits there; a mere close does not
        threads[0].join()
        for one in ends:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join()
        for one in (outer, *ends):
            one.close()


def _pump(near: socket.socket, far: socket.socket, received: Received | None) -> None:
    try:
        while data := near.recv(65536):
            if received is not None:
                with received.arrived:
                    received.wire += len(data)
            far.sendall(data)
        far.shutdown(socket.SHUT_WR)
    except OSError:
        return
