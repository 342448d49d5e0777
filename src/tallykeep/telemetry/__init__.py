"""Telemetry by the OTEL_* variables: metrics and traces to a receiver, to a page of their own, or to the terminal.

Nothing of OpenTelemetry is imported until a variable asks for it: a sidecar that is only scraped pays nothing.
`settings` and `families` are cheap; `work` puts the rest to work.
"""
