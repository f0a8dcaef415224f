"""Reading one row with its relations at the cost of the query alone.

Django compiles a query anew each time it is asked, which for a join of four tables takes ten times as long as
PostgreSQL takes to answer. What every request reads (its key, its mailbox) is therefore compiled once, here.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Generic, TypeVar

from django.db import connection
from django.db.models import Field, Model

Row = TypeVar("Row", bound=Model)


@dataclass(slots=True)
class _Part:
    """The columns of one model within the joined row."""

    model: type[Model]
    start: int
    names: list[str]
    converters: list[tuple[int, list[Callable[..., Any]]]]

    def build(self, values: Sequence[Any]) -> Model | None:
        """The instance, None when the outer join found no row."""
        own = list(values[self.start : self.start + len(self.names)])
        if all(value is None for value in own):
            return None
        for index, converters in self.converters:
            for convert in converters:
                own[index] = convert(own[index], None, connection)
        return self.model.from_db(connection.alias, self.names, own)


@dataclass
class JoinedRow(Generic[Row]):
    """A query for one row of `model` with relations to one (`joins`: attribute -> model), by a condition.

    The condition names columns of the model's own table as `row.column` and takes %s parameters, for instance
    `row.key_hash = %s`. Relations are those of select_related: forward keys, and one-to-one ones backwards.
    """

    model: type[Row]
    condition: str
    joins: Mapping[str, type[Model]] = field(default_factory=dict)

    def load(self, parameters: Sequence[Any]) -> Row | None:
        """The row with its relations set, or None."""
        with connection.cursor() as cursor:
            cursor.execute(self._sql, parameters)
            values = cursor.fetchone()
        if values is None:
            return None
        found = self._parts["row"].build(values)
        if not isinstance(found, self.model):
            return None
        for name, part in self._parts.items():
            if name != "row":
                self._attach(found, name, part.build(values))
        return found

    def _attach(self, row: Row, name: str, related: Model | None) -> None:
        relation = self.model._meta.get_field(name)
        row._state.fields_cache[name] = related
        if related is not None and relation.one_to_one:
            related._state.fields_cache[relation.remote_field.name] = row  # type: ignore[union-attr]

    @cached_property
    def _parts(self) -> dict[str, _Part]:
        parts: dict[str, _Part] = {}
        start = 0
        models: dict[str, type[Model]] = {"row": self.model, **self.joins}
        for name, model in models.items():
            fields = model._meta.concrete_fields
            converters = [(index, found) for index, one in enumerate(fields) if (found := _converters(one))]
            parts[name] = _Part(model, start, [one.attname for one in fields], converters)
            start += len(fields)
        return parts

    @cached_property
    def _sql(self) -> str:
        columns = [
            f'"{name}"."{one.column}"' for name, part in self._parts.items() for one in part.model._meta.concrete_fields
        ]
        joins = [self._join(name, model) for name, model in self.joins.items()]
        table = self.model._meta.db_table
        return f'SELECT {", ".join(columns)} FROM "{table}" "row" {" ".join(joins)} WHERE {self.condition} LIMIT 1'

    def _join(self, name: str, model: type[Model]) -> str:
        relation = self.model._meta.get_field(name)
        if relation.concrete:
            own, other = relation.column, relation.target_field.column  # type: ignore[attr-defined]
        else:
            own, other = self.model._meta.pk.column, relation.field.column  # type: ignore[union-attr]
        return f'LEFT JOIN "{model._meta.db_table}" "{name}" ON "{name}"."{other}" = "row"."{own}"'


def _converters(one: "Field[Any, Any]") -> list[Callable[..., Any]]:
    return [
        *connection.ops.get_db_converters(one.get_col(one.model._meta.db_table)),
        *one.get_db_converters(connection),
    ]
