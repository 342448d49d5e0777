"""What the OTEL_* variables come to: receivers, resource, exporters."""

from __future__ import annotations

import platform
import socket
import sys
from pathlib import Path
from typing import Any

import pytest

from tallykeep.config.load import load
from tallykeep.errors import ConfigError
from tallykeep.telemetry import resource
from tallykeep.telemetry.exporters import metric_exporter, span_exporter
from tallykeep.telemetry.otlp_settings import GRPC, HTTP, Receiver, receiver
from tallykeep.telemetry.settings import TelemetrySettings
from tallykeep.telemetry.work import _warnings

OTLP = "OTEL_EXPORTER_OTLP_"


def settings(**variables: str) -> TelemetrySettings:
    found: TelemetrySettings = load({"telemetry": TelemetrySettings}, variables).section("telemetry")
    return found


def metrics_to(**variables: str) -> Receiver:
    found = settings(**{f"{OTLP}{name}": value for name, value in variables.items()})
    return receiver("metrics", found.otlp, found.otlp_metrics)


def traces_to(**variables: str) -> Receiver:
    found = settings(**{f"{OTLP}{name}": value for name, value in variables.items()})
    return receiver("traces", found.otlp, found.otlp_traces)


# --- receivers


def test_defaults_are_those_of_the_contract() -> None:
    """Without a variable: http/protobuf to localhost:4318, 10 s, no compression, no certificate."""
    assert metrics_to() == Receiver(HTTP, "http://localhost:4318/v1/metrics", {}, False, 10.0, None, None, None)
    assert traces_to().endpoint == "http://localhost:4318/v1/traces"
    assert metrics_to(PROTOCOL=GRPC).endpoint == "http://localhost:4317"


@pytest.mark.parametrize(
    ("variables", "endpoint"),
    [
        ({"ENDPOINT": "http://c:4318"}, "http://c:4318/v1/metrics"),
        ({"ENDPOINT": "http://c:4318/"}, "http://c:4318/v1/metrics"),
        ({"ENDPOINT": "http://c:9090/api/v1/otlp"}, "http://c:9090/api/v1/otlp/v1/metrics"),
        ({"METRICS_ENDPOINT": "http://c/own"}, "http://c/own"),
        ({"ENDPOINT": "http://a", "METRICS_ENDPOINT": "https://c/own"}, "https://c/own"),
        ({"PROTOCOL": GRPC, "ENDPOINT": "https://c:4317"}, "https://c:4317"),
        ({"PROTOCOL": GRPC, "ENDPOINT": "c:4317", "INSECURE": "true"}, "http://c:4317"),
        ({"PROTOCOL": GRPC, "ENDPOINT": "c:4317"}, "https://c:4317"),
        ({"PROTOCOL": GRPC, "ENDPOINT": "c:4317", "INSECURE": "true", "METRICS_INSECURE": "false"}, "https://c:4317"),
        ({"PROTOCOL": GRPC, "ENDPOINT": "https://c:4317", "INSECURE": "true"}, "https://c:4317"),
        ({"PROTOCOL": HTTP, "METRICS_PROTOCOL": GRPC, "ENDPOINT": "http://c:4317"}, "http://c:4317"),
    ],
)
def test_endpoint(variables: dict[str, str], endpoint: str) -> None:
    """A signal's endpoint is taken as it is, the one of both gets its path over HTTP; `insecure` decides where the
    endpoint does not, which without it is TLS.
    """
    assert metrics_to(**variables).endpoint == endpoint


def test_a_signal_wins_over_both() -> None:
    """Each variable of a signal wins over the one for both, and the other signal keeps the latter."""
    both = {
        "COMPRESSION": "gzip", "TIMEOUT": "7000", "HEADERS": "a=1,b=two%20words", "CERTIFICATE": "/ca",
        "CLIENT_CERTIFICATE": "/crt", "CLIENT_KEY": "/key",
    }  # fmt: skip
    own = {
        "METRICS_COMPRESSION": "none", "METRICS_TIMEOUT": "60000", "METRICS_HEADERS": "c=3",
        "METRICS_CERTIFICATE": "/m", "METRICS_CLIENT_CERTIFICATE": "/mcrt",
        "METRICS_CLIENT_KEY": "/mkey",
    }  # fmt: skip
    found = metrics_to(**both, **own)
    assert (found.gzip, found.timeout, found.headers) == (False, 60.0, {"c": "3"})
    assert (found.certificate, found.client_certificate, found.client_key) == (Path("/m"), Path("/mcrt"), Path("/mkey"))
    other = traces_to(**both, **own)
    assert (other.gzip, other.timeout, other.headers) == (True, 7.0, {"a": "1", "b": "two words"})
    assert (other.certificate, other.client_certificate, other.client_key) == (Path("/ca"), Path("/crt"), Path("/key"))


@pytest.mark.parametrize("protocol", [GRPC, HTTP])
def test_exporters_are_told_seconds(protocol: str) -> None:
    """A timeout of 10000 is ten seconds to both exporters, whatever they would read themselves."""
    found = settings(
        OTEL_METRICS_EXPORTER="otlp", OTEL_TRACES_EXPORTER="otlp", OTEL_EXPORTER_OTLP_PROTOCOL=protocol,
        OTEL_EXPORTER_OTLP_TIMEOUT="10000", OTEL_EXPORTER_OTLP_COMPRESSION="none",
    )  # fmt: skip
    for exporter, place in (metric_exporter(found), span_exporter(found)):
        told: Any = exporter
        assert (told._timeout if protocol == GRPC else told._client._timeout) == 10.0
        assert place.startswith("http://localhost:43")
        told.shutdown()


def test_values_that_cannot_be_used_are_named() -> None:
    """Each mistake is found at the start, with the variable and what is allowed; a header is never shown."""
    with pytest.raises(ConfigError) as caught:
        settings(
            OTEL_METRICS_EXPORTER="jaeger", OTEL_EXPORTER_OTLP_PROTOCOL="http/json", OTEL_METRIC_EXPORT_INTERVAL="1m",
            OTEL_RESOURCE_ATTRIBUTES="nonsense",
        )  # fmt: skip
    text = str(caught.value)
    assert "OTEL_METRICS_EXPORTER is 'jaeger': allowed is otlp, prometheus, console, none" in text
    assert "OTEL_EXPORTER_OTLP_PROTOCOL is 'http/json': allowed is http/protobuf, grpc" in text
    assert "OTEL_METRIC_EXPORT_INTERVAL is '1m': allowed is a whole number, 100 or more" in text
    assert "OTEL_RESOURCE_ATTRIBUTES is 'nonsense': allowed is key=value pairs" in text
    assert "hush" not in repr(settings(OTEL_EXPORTER_OTLP_HEADERS="authorization=hush"))


def test_a_header_may_stand_in_a_file(tmp_path: Path) -> None:
    """Any variable may be given as NAME_FILE: the token of a receiver is a secret."""
    (tmp_path / "headers").write_text("authorization=Bearer%20hush\n")
    assert metrics_to(HEADERS_FILE=str(tmp_path / "headers")).headers == {"authorization": "Bearer hush"}


def test_disabled_wins() -> None:
    """OTEL_SDK_DISABLED=true and the exporter `none` switch off."""
    on = {"OTEL_METRICS_EXPORTER": "otlp", "OTEL_TRACES_EXPORTER": "otlp"}
    assert (settings(**on).metrics, settings(**on).traces) == ("otlp", "otlp")
    off = settings(**on, OTEL_SDK_DISABLED="true")
    assert (off.metrics, off.traces) == ("", "")
    assert settings(OTEL_METRICS_EXPORTER="none").metrics == ""


def test_an_endpoint_alone_sends_nothing_and_says_so() -> None:
    """An endpoint without an exporter is remarked on; so are a service without a name and a detector there is not."""
    [warning] = _warnings(settings(OTEL_EXPORTER_OTLP_ENDPOINT="http://c"))
    assert "neither OTEL_TRACES_EXPORTER nor OTEL_METRICS_EXPORTER" in warning
    assert _warnings(settings()) == []
    said = _warnings(settings(OTEL_METRICS_EXPORTER="otlp", OTEL_RESOURCE_DETECTORS="host,aws.ec2"))
    assert len(said) == 2 and "'aws.ec2'" in said[0] and "OTEL_SERVICE_NAME is not set" in said[1]
    named = {"OTEL_METRICS_EXPORTER": "otlp", "OTEL_RESOURCE_ATTRIBUTES": "service.name=mine"}
    assert _warnings(settings(**named)) == []


# --- the resource


def test_the_name_of_the_service() -> None:
    """OTEL_SERVICE_NAME wins over OTEL_RESOURCE_ATTRIBUTES, which wins over tallykeep."""
    pairs = "service.name=pairs,deployment.environment=a%2Cb"
    assert resource.attributes(settings())["service.name"] == "tallykeep"
    assert resource.attributes(settings(OTEL_RESOURCE_ATTRIBUTES=pairs))["service.name"] == "pairs"
    both = resource.attributes(settings(OTEL_RESOURCE_ATTRIBUTES=pairs, OTEL_SERVICE_NAME="own"))
    assert (both["service.name"], both["deployment.environment"]) == ("own", "a,b")


def test_kubernetes_fills_only_what_is_missing() -> None:
    """CONTAINER_NAME, POD_NAME and NAMESPACE_NAME each become an attribute, and override none."""
    variables = {"CONTAINER_NAME": "c", "POD_NAME": "p"}
    found = resource.attributes(settings(**variables, OTEL_RESOURCE_ATTRIBUTES="k8s.pod.name=mine"))
    assert (found["k8s.container.name"], found["k8s.pod.name"]) == ("c", "mine")
    assert "k8s.namespace.name" not in found
    assert found["service.instance.id"] == "mine.c"
    given = resource.attributes(settings(**variables, OTEL_RESOURCE_ATTRIBUTES="service.instance.id=x"))
    assert given["service.instance.id"] == "x"


def test_the_detectors_of_the_contract() -> None:
    """telemetry.sdk, host, os.type and process.executable.name find what Klio's users have on their dashboards."""
    names = "telemetry.sdk,host,os.type,process.executable.name"
    found = resource.attributes(settings(OTEL_RESOURCE_DETECTORS=names))
    assert found["telemetry.sdk.name"] == "opentelemetry"
    assert found["telemetry.sdk.language"] == "python"
    assert found["host.name"] == socket.gethostname()
    assert found["os.type"] == platform.system().lower()
    assert found["process.executable.name"] == Path(sys.executable).resolve().name
    assert not {"process.pid", "os.description"} & set(found)


@pytest.mark.parametrize("name", list(resource.DETECTORS))
def test_every_detector_gives_attributes(name: str) -> None:
    """Each detector gives texts and numbers under names that begin as its own, or nothing where there is nothing."""
    for key, value in resource.DETECTORS[name]().items():
        assert key.startswith(name.partition(".")[0])
        assert value != ""


def test_arguments_are_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command line may hold a secret: of it the name of the program is sent, and no argument."""
    monkeypatch.setattr(sys, "argv", ["/usr/bin/tallykeep", "run", "--password=hush"])
    assert resource.DETECTORS["process.command.args"]() == {"process.command": "tallykeep"}
    assert "hush" not in str(resource.DETECTORS["process"]())
