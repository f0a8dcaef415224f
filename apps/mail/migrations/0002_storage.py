from django.db import migrations


class Migration(migrations.Migration):
    """How the tables lie on disk: blobs are compressed already, so PostgreSQL need not try."""

    dependencies = [("mail", "0001_initial")]

    operations = [
        migrations.RunSQL(
            sql=[
                "ALTER TABLE mail_blobchunk ALTER COLUMN data SET STORAGE EXTERNAL",
                "ALTER TABLE mail_blobchunk_default ALTER COLUMN data SET STORAGE EXTERNAL",
            ],
            reverse_sql=[
                "ALTER TABLE mail_blobchunk_default ALTER COLUMN data SET STORAGE EXTENDED",
                "ALTER TABLE mail_blobchunk ALTER COLUMN data SET STORAGE EXTENDED",
            ],
        ),
    ]
