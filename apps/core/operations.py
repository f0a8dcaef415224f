"""Migration operations of our own."""

from typing import Any

from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations.operations import CreateModel
from django.db.migrations.state import ProjectState


class CreatePartitionedModel(CreateModel):
    """CreateModel for an insert-only table: partitioned by range of its UUIDv7 key, with a DEFAULT partition.

    Months are added by apps.core.partitions; the default takes what falls outside of them.
    """

    def __init__(self, *args: Any, partition_key: str, **kwargs: Any) -> None:
        self.partition_key = partition_key
        super().__init__(*args, **kwargs)

    def database_forwards(
        self,
        app_label: str,
        schema_editor: BaseDatabaseSchemaEditor,
        from_state: ProjectState,
        to_state: ProjectState,
    ) -> None:
        model = to_state.apps.get_model(app_label, self.name)
        sql, params = schema_editor.table_sql(model)
        table = schema_editor.quote_name(model._meta.db_table)
        key = schema_editor.quote_name(self.partition_key)
        schema_editor.execute(f"{sql} PARTITION BY RANGE ({key})", params or None)
        for statement in schema_editor._model_indexes_sql(model):  # type: ignore[attr-defined]
            schema_editor.execute(statement, None)
        default = schema_editor.quote_name(f"{model._meta.db_table}_default")
        schema_editor.execute(f"CREATE TABLE {default} PARTITION OF {table} DEFAULT", None)

    def database_backwards(
        self,
        app_label: str,
        schema_editor: BaseDatabaseSchemaEditor,
        from_state: ProjectState,
        to_state: ProjectState,
    ) -> None:
        model = from_state.apps.get_model(app_label, self.name)
        schema_editor.execute(f"DROP TABLE {schema_editor.quote_name(model._meta.db_table)}", None)
