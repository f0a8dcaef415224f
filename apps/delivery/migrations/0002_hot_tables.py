from django.db import migrations

_HOT = "autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0"


class Migration(migrations.Migration):
    """Rows that are written several times in their short life: room beside them, and vacuum often."""

    dependencies = [("delivery", "0001_initial"), ("mailboxes", "0001_initial")]

    operations = [
        migrations.RunSQL(
            sql=[
                f"ALTER TABLE delivery_delivery SET (fillfactor = 80, {_HOT})",
                f"ALTER TABLE delivery_lane SET (fillfactor = 50, {_HOT})",
                f"ALTER TABLE mailboxes_mailboxusage SET (fillfactor = 50, {_HOT})",
            ],
            reverse_sql=[
                "ALTER TABLE mailboxes_mailboxusage RESET (fillfactor, autovacuum_vacuum_scale_factor,"
                " autovacuum_vacuum_cost_delay)",
                "ALTER TABLE delivery_lane RESET (fillfactor, autovacuum_vacuum_scale_factor,"
                " autovacuum_vacuum_cost_delay)",
                "ALTER TABLE delivery_delivery RESET (fillfactor, autovacuum_vacuum_scale_factor,"
                " autovacuum_vacuum_cost_delay)",
            ],
        ),
    ]
