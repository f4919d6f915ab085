"""System checks: what would not work is said before anything runs.

E001 a setting · E002 no such database · E003 not PostgreSQL · E004 psycopg2 ·
E005 an old server · E006 a definition · E007 a router that splits the tables ·
W001 another app's runworker · W002 a role that cannot make partitions
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from django.apps import AppConfig, apps
from django.conf import settings as django_settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register
from django.db import connections, router
from django.db.utils import OperationalError

from orchestrator import conf, registry
from orchestrator.exceptions import OrchestratorError, SettingsError

OLDEST = 150_000  # of PostgreSQL, as the server tells it

Check = Callable[..., list[CheckMessage]]


def install() -> None:
    """Have Django run the checks; called once, when the app is ready."""
    register(check_settings)
    register(check_app_order)
    register(check_driver)
    register(check_routers)
    register(check_definitions)
    register(check_server, Tags.database)


def check_settings(
    *, app_configs: Sequence[AppConfig] | None, **_: Any
) -> list[CheckMessage]:
    """E001: every key of ORCHESTRATOR is known and has a value of its type."""
    problems = conf.problems(getattr(django_settings, "ORCHESTRATOR", {}))
    messages: list[CheckMessage] = [
        Error(problem, id="orchestrator.E001") for problem in problems
    ]
    if not problems:
        named = {"DATABASE": conf.settings.database}
        if conf.settings.listen_database is not None:
            named["LISTEN_DATABASE"] = conf.settings.listen_database
        messages += [
            Error(
                f"ORCHESTRATOR[{key!r}] is {alias!r}, which DATABASES does not have.",
                hint=f"Use one of {', '.join(map(repr, connections))}.",
                id="orchestrator.E002",
            )
            for key, alias in named.items()
            if alias not in connections
        ]
    return messages


def check_app_order(
    *, app_configs: Sequence[AppConfig] | None, **_: Any
) -> list[CheckMessage]:
    """W001: `manage.py runworker` is ours."""
    names = [config.name for config in apps.get_app_configs()]
    if "channels" not in names[: names.index("orchestrator")]:
        return []
    return [
        Warning(
            "'channels' comes before 'orchestrator' in INSTALLED_APPS, so that "
            "`manage.py runworker` is the command of Channels.",
            hint="Put 'orchestrator' before it, leave 'channels' out (consumers work "
            "without it), or call `manage.py orchestrator_worker`.",
            id="orchestrator.W001",
        )
    ]


def check_driver(
    *, app_configs: Sequence[AppConfig] | None, **_: Any
) -> list[CheckMessage]:
    """E003, E004: the database is PostgreSQL, spoken to with psycopg 3."""
    alias = _alias()
    if alias is None:
        return []
    connection = connections[alias]
    if connection.vendor != "postgresql":
        return [
            Error(
                f"The orchestrator needs PostgreSQL, and the database {alias!r} is "
                f"{connection.display_name}.",
                hint="Set ORCHESTRATOR['DATABASE'] to an alias whose ENGINE is "
                "'django.db.backends.postgresql'.",
                id="orchestrator.E003",
            )
        ]
    from django.db.backends.postgresql.psycopg_any import is_psycopg3

    if not is_psycopg3:
        return [
            Error(
                "Django speaks to PostgreSQL with psycopg2; the orchestrator needs "
                "psycopg 3.",
                hint="Run `pip install 'psycopg[binary]>=3.2'`; Django prefers it.",
                id="orchestrator.E004",
            )
        ]
    return []


def check_routers(
    *, app_configs: Sequence[AppConfig] | None, **_: Any
) -> list[CheckMessage]:
    """E007: all our tables are in the one database where the engine looks for them."""
    alias = _alias()
    if alias is None:
        return []
    for model in apps.get_app_config("orchestrator").get_models():
        for routed in (router.db_for_read(model), router.db_for_write(model)):
            if routed != alias:
                return [
                    Error(
                        f"{model.__name__} is routed to the database {routed!r}, and "
                        f"ORCHESTRATOR['DATABASE'] is {alias!r}.",
                        hint="Let a router of DATABASE_ROUTERS answer "
                        f"{alias!r} for the app 'orchestrator', or change the setting.",
                        id="orchestrator.E007",
                    )
                ]
    return []


def check_definitions(
    *, app_configs: Sequence[AppConfig] | None, **_: Any
) -> list[CheckMessage]:
    """E006: every workflow has tasks, and its types have a place in JSON."""
    if _alias() is None:
        return []
    messages: list[CheckMessage] = []
    for definition in registry.workflows().values():
        try:
            definition.verify()
        except OrchestratorError as error:
            messages.append(
                Error(
                    f"The workflow {definition.name!r} in {definition.module} cannot "
                    f"work: {error}",
                    id="orchestrator.E006",
                )
            )
    return messages


def check_server(
    *,
    app_configs: Sequence[AppConfig] | None,
    databases: Sequence[str] | None = None,
    **_: Any,
) -> list[CheckMessage]:
    """E005, W002: the server is recent, and lets the role make partitions.

    A server that cannot be reached is no finding of this check.
    """
    alias = _alias()
    if alias is None or alias not in (databases or ()):
        return []
    connection = connections[alias]
    if connection.vendor != "postgresql":
        return []
    try:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT current_setting('server_version_num')::int,"
                " current_setting('server_version'), current_user,"
                " has_schema_privilege(current_schema(), 'CREATE'),"
                " pg_has_role((SELECT relowner FROM pg_class"
                " WHERE oid = to_regclass('orchestrator_run')), 'USAGE')"
            )
            number, version, role, may_create, owns = cursor.fetchone()
    except OperationalError:
        return []
    messages: list[CheckMessage] = []
    if number < OLDEST:
        messages.append(
            Error(
                f"The server of {alias!r} is PostgreSQL {version}; the orchestrator "
                "needs 15 or newer.",
                hint="Upgrade the server, or use another database.",
                id="orchestrator.E005",
            )
        )
    lacks = "may not create tables" if not may_create else "does not own the tables"
    if not (may_create and owns is not False) and (
        conf.settings.partition_by != "none"
    ):
        messages.append(
            Warning(
                f"The role {role!r} {lacks}, so that workers and schedulers cannot "
                "make the partitions of history ahead.",
                hint="Let them connect as the role that owns the tables, or run "
                "`manage.py migrate` as it at least once in every period of "
                "PARTITION_BY.",
                id="orchestrator.W002",
            )
        )
    return messages


def _alias() -> str | None:
    """The database of the settings, or None where E001 or E002 says what is wrong."""
    try:
        alias = conf.settings.database
    except SettingsError:
        return None
    return alias if alias in connections else None
