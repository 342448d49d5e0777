"""The page of its own that OTEL_METRICS_EXPORTER=prometheus asks for: the same as /metrics, on the contract's port."""

from __future__ import annotations

import logging
from contextlib import AsyncExitStack

from tallykeep.runtime.health import Health
from tallykeep.telemetry.settings import TelemetrySettings
from tallykeep.web.asgi import App
from tallykeep.web.listener import Listener
from tallykeep.web.live import LiveWebConfig

_PART = "the Prometheus listener"

_log = logging.getLogger("tallykeep")


async def serve_prometheus(
    stack: AsyncExitStack, settings: TelemetrySettings, app: App, health: Health, web: LiveWebConfig | None = None
) -> None:
    """Serve `app` until `stack` ends, where the settings ask for it.

    Raises: ConfigError where the port cannot be had.
    """
    if settings.metrics != "prometheus":
        return
    host, port = settings.prometheus_host, settings.prometheus_port
    listener = Listener(app, host, port, setting="OTEL_EXPORTER_PROMETHEUS_PORT", web=web)
    health.expect(_PART)
    await listener.start()
    stack.push_async_callback(listener.stop)
    health.report(_PART)
    _log.info("the Prometheus exporter is at %smetrics", listener.url, extra={"url": f"{listener.url}metrics"})
