"""The app: finds what the project declares, and registers it after migrating.

Migrating makes the partitions ahead, too: it may be the only thing that connects as
the owner of the tables.
"""

from __future__ import annotations

import logging
from typing import Any

from django.apps import AppConfig
from django.db import OperationalError, ProgrammingError, connections, transaction
from django.db.models.signals import post_migrate

from orchestrator import checks, registry, submission
from orchestrator.conf import settings
from orchestrator.engine import partitions, register, sessions

logger = logging.getLogger(__name__)

# Where definitions are written; a project may migrate one app at a time, or back.
TABLES = frozenset(
    {
        "orchestrator_queue",
        "orchestrator_workflow",
        "orchestrator_workflow_version",
        "orchestrator_task",
    }
)


class OrchestratorConfig(AppConfig):
    """Durable background tasks and workflows."""

    name = "orchestrator"
    label = "orchestrator"
    verbose_name = "Orchestrator"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Import `workflows` and `tasks` of every app; write them when migrated."""
        checks.install()
        registry.autodiscover()
        post_migrate.connect(
            register_definitions,
            sender=self,
            dispatch_uid="orchestrator.register_definitions",
        )


def register_definitions(*, using: str, **_: Any) -> None:
    """Write the definitions of this process, where their tables are there."""
    if using != settings.database:
        return
    connection = connections[using]
    with connection.cursor() as cursor:
        tables = set(connection.introspection.table_names(cursor))
    if not tables >= TABLES:
        return
    submission.forget_queues()  # `flush` ends with this signal, too
    try:
        with transaction.atomic(using=using):
            register.register(sessions.django_session(), registry.shapes())
    except ProgrammingError as error:
        # A column of a later migration is missing: the next `migrate` brings it, and
        # workers register as well.
        logger.warning("Definitions were not registered yet: %s", error)
    if tables.issuperset(partitions.TABLES):
        try:
            partitions.ensure(sessions.django_session())
        except OperationalError as error:
            logger.warning("Partitions were not made ahead yet: %s", error)
