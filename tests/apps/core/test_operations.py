"""The partitioned tables are what their models say: columns, keys, indexes, and a default partition."""

import io

import pytest
from django.apps import apps
from django.core.management import call_command
from django.db import connection

from apps.core.partitions import PARTITIONED_TABLES

MODELS = {model._meta.db_table: model for model in apps.get_models() if model._meta.db_table in PARTITIONED_TABLES}


def test_every_partitioned_table_has_a_model() -> None:
    assert set(MODELS) == set(PARTITIONED_TABLES)


@pytest.mark.django_db
def test_the_list_of_partitioned_tables_is_complete() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT partrelid::regclass::text FROM pg_partitioned_table")
        assert {name for (name,) in cursor.fetchall()} == set(PARTITIONED_TABLES)


@pytest.mark.django_db
@pytest.mark.parametrize("table", PARTITIONED_TABLES)
def test_columns_and_indexes_are_those_of_the_model(table: str) -> None:
    options = MODELS[table]._meta
    with connection.cursor() as cursor:
        columns = {column.name for column in connection.introspection.get_table_description(cursor, table)}
        constraints = connection.introspection.get_constraints(cursor, table)
    primary = [constraint for constraint in constraints.values() if constraint["primary_key"]]

    assert columns == {field.column for field in options.local_fields if field.column}
    assert [constraint["columns"] for constraint in primary] == [[field.column for field in options.pk_fields]]
    assert {index.name for index in options.indexes} <= set(constraints)


@pytest.mark.django_db
@pytest.mark.parametrize("table", PARTITIONED_TABLES)
def test_nothing_points_at_an_insert_only_table(table: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_constraint WHERE contype = 'f' AND confrelid = %s::regclass", [table])
        assert cursor.fetchone() == (0,)


@pytest.mark.django_db
def test_migrations_say_all_that_the_models_say() -> None:
    call_command("makemigrations", check=True, dry_run=True, stdout=io.StringIO())
