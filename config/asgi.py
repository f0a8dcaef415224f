"""The web process's application: REST, admin, waiting requests and streams, all on one port."""

import os

from django.core.wsgi import get_wsgi_application

from config.web.front import build_front

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

application = build_front(get_wsgi_application())
