"""migrate: bring topics, Avro schemas, Delta tables, PostgreSQL and Elasticsearch to what the contracts and
migrations say.

Safe to run again: what is there already is left as it is, but for columns that a table lacks, which are
added, and columns whose type is to be wider.
"""

from jobs.evolve import evolve
from jobs.queries import Context
from schemas.comments import lake_tables
from schemas.migrate import upgrade
from schemas.topics import create_topics
from sinks.registry import SINKS
from sources.registry import register


def migrate(context: Context) -> list[str]:
    """What was changed, a line each. Raises SetupError where a table cannot become what is declared."""
    settings = context.settings
    done = [f"topic {name} created" for name in create_topics(settings)]
    done += evolve(context, lake_tables())
    done += [f"PostgreSQL migrated to {revision}" for revision in upgrade(settings)]
    for (domain, system), destination in sorted(SINKS.items()):
        for route in destination.routes:
            route.make(settings, f"deliver.{domain}.{system}").setup()
    # At the end: all else is done by then, also where there is no registry yet.
    return done + register(settings.registry)
