from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('mailboxes', '0003_identities'),
    ]

    operations = [
        migrations.AddField(
            model_name='mailboxusage',
            name='message_count',
            field=models.BigIntegerField(default=0, help_text='Messages that it holds, both ways.'),
        ),
    ]
