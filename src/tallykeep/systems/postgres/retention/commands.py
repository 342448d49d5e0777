"""`tallykeep postgres retention`: what is kept and why, and letting go of the rest."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from tallykeep.systems.postgres.cli import command, common

if TYPE_CHECKING:
    from tallykeep.systems.postgres.working import Work

    SubParsers = argparse._SubParsersAction[argparse.ArgumentParser]

_RETENTION = """
Let go of the base backups that no rule of the settings keeps, tier by tier, and of the WAL that no backup needs. Each
decision is explained; --dry-run does nothing else. A backup that was let go can still be restored until its grace
period is over; then its bytes go with the next run. A running server does this after each backup and once a day.
More than half of a tier's backups go only with --yes.
Clusters, storage and key come from TALLYKEEP_POSTGRES_* variables or from the section postgres of a tallykeep.yaml.
"""


def add_retention(commands: SubParsers) -> None:
    """Add the command."""
    parser = command(commands, "retention", "let go of what no rule keeps, and explain each decision", _RETENTION)
    common(parser, "retention.commands:run_retention")
    parser.add_argument("--tier", choices=("1", "2"), help="only this tier (default: both)")
    parser.add_argument("--dry-run", action="store_true", help="change nothing")
    parser.add_argument("--yes", action="store_true", help="also where more than half of the backups go")


def run_retention(args: argparse.Namespace) -> int:
    """`retention`."""
    from tallykeep.systems.postgres.working import run_work

    return run_work(args, _retention)


async def _retention(work: Work) -> int:
    from tallykeep.runtime.telling import remark, tell
    from tallykeep.systems.postgres.retention.planning import RetentionPlan, RetentionRefused, plan_retention
    from tallykeep.systems.postgres.retention.service import retain
    from tallykeep.systems.postgres.retention.telling import plan_json, plan_lines

    args, plans, refused = work.args, list[RetentionPlan](), list[str]()
    for cluster in work.clusters:
        for tier in [cluster.tier(args.tier)] if args.tier else cluster.tiers:
            await tier.check_key()
            try:
                if args.dry_run:
                    plans.append(await plan_retention(cluster, tier, work.settings, work.clock))
                else:
                    plans.append(await retain(cluster, tier, work.settings, work.clock, yes=args.yes))
            except RetentionRefused as error:
                refused.append(str(error))
    lines = [line for plan in plans for line in plan_lines(plan, dry=args.dry_run)]
    tell(args, [plan_json(plan, dry=args.dry_run) for plan in plans], lines)
    remark(*refused)
    return int(bool(refused))
