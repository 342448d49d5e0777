"""`tallykeep postgres server --take-over`: what is done before the server starts."""

from __future__ import annotations

import argparse
import asyncio
import logging
from collections.abc import Sequence

from tallykeep.clock import SystemClock
from tallykeep.systems.postgres.cluster import Cluster, clusters_of, prepare
from tallykeep.systems.postgres.offload.ownership import take_over

_log = logging.getLogger(__name__)


def run_take_over(args: argparse.Namespace) -> int:
    """Make tier 2 of the clusters in `args.take_over` ours. Raises: TallykeepError."""
    settings = args.load_config(args.config).section("postgres")
    asyncio.run(_take_over(clusters_of(settings, args.take_over)))
    return 0


async def _take_over(clusters: Sequence[Cluster]) -> None:
    for cluster in clusters:
        tier = cluster.tier("2")
        try:
            await prepare(cluster)
            before = await take_over(cluster, tier, SystemClock())
        finally:
            await cluster.close()
        if before:
            _log.warning("%s: tier 2 was taken over from a server on %s", cluster.name, before)
