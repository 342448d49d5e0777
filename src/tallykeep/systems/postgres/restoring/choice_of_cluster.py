"""Which cluster is meant, with what the command line says of its tiers instead of the settings."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from dataclasses import replace

from tallykeep.config.model import Secret
from tallykeep.config.sources import CONFIG_VARIABLE
from tallykeep.errors import ConfigError
from tallykeep.systems.postgres.cluster import Cluster, clusters_of
from tallykeep.systems.postgres.settings import NAME, ClusterSettings, PostgresSettings


def settings_of(args: argparse.Namespace) -> PostgresSettings:
    """The settings, with what the command line says instead. Raises: ConfigError."""
    settings: PostgresSettings = args.load_config(args.config).section("postgres")
    changes: dict[str, object] = {}
    if args.tier2:
        changes["tier2"] = replace(settings.tier2, url=args.tier2)
    if args.key_file is not None:
        changes |= {"key": Secret(""), "key_file": args.key_file}
    known = [cluster.name for cluster in settings.clusters]
    if args.cluster not in known and (args.tier2 or (args.cluster and not known)):  # a connection is not needed
        changes["clusters"] = (*settings.clusters, ClusterSettings(_named(args.cluster or "default")))
    return replace(settings, **changes)  # type: ignore[arg-type]


def _named(name: str) -> str:
    """A name that a cluster may have: it names folders. Raises: ConfigError."""
    try:
        return NAME(name)
    except ValueError:
        raise ConfigError(f"--cluster is {name!r}: allowed is {NAME.allowed}") from None


def cluster_of(args: argparse.Namespace, settings: PostgresSettings | None = None) -> Cluster:
    """The cluster that is meant. Raises: ConfigError."""
    settings = settings or settings_of(args)
    known = [cluster.name for cluster in settings.clusters]
    if not args.cluster and len(known) > 1:
        raise ConfigError(f"postgres: several clusters are configured; choose one with --cluster: {', '.join(known)}")
    found = clusters_of(settings, [args.cluster] if args.cluster else [])
    if not found:
        raise ConfigError("postgres: no cluster is configured; name one with --cluster, or give --config FILE")
    return found[0]


def tiers_of(args: argparse.Namespace) -> Sequence[str]:
    """The tiers that are asked; empty: all there are."""
    return tuple(args.tier) or (("2",) if args.tier2 else ())


def options_of(args: argparse.Namespace, settings: PostgresSettings) -> Sequence[str]:
    """What get-wal needs to be told to find the same, wherever it runs; cluster and tiers apart."""
    config = args.config or os.environ.get(CONFIG_VARIABLE)
    named = {"--config": config, "--key-file": settings.key_file}
    found = [word for name, path in named.items() if path for word in (name, os.path.abspath(path))]  # noqa: PTH100
    return [*found, *(("--tier2", _absolute(args.tier2)) if args.tier2 else ())]


def _absolute(url: str) -> str:
    return url if "://" in url else os.path.abspath(url)  # noqa: PTH100
