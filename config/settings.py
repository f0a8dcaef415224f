"""Django's settings. What an operator may change comes from config/env.py and nowhere else."""

import hashlib
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from config.env import PROJECT, BadEnvironment, read_environment
from config.logs import build_logging

try:
    ENV = read_environment()
except BadEnvironment as error:
    sys.stderr.write(f"mailhost: {error}\n")
    raise SystemExit(2) from None

MAILHOST_STATE = ENV.mailhost_state
MAILHOST_BIND = ENV.mailhost_bind
MAILHOST_HTTP_PORT = ENV.mailhost_http_port
MAILHOST_SMTP_PORT = ENV.mailhost_smtp_port
MAILHOST_SUBMISSION_PORT = ENV.mailhost_submission_port
MAILHOST_SUBMISSIONS_PORT = ENV.mailhost_submissions_port
MAILHOST_PUBLIC_URL = ENV.mailhost_public_url
MAILHOST_HOSTNAME = ENV.mailhost_hostname
MAILHOST_DEFAULT_DOMAIN = ENV.mailhost_default_domain
MAILHOST_GENERATED_NAMES = ENV.mailhost_generated_names
MAILHOST_DELIVERY = ENV.mailhost_delivery
MAILHOST_RELAY_URL = ENV.mailhost_relay_url
MAILHOST_DNS_SERVERS = ENV.mailhost_dns_servers
MAILHOST_OUTBOUND_PORT = ENV.mailhost_outbound_port
MAILHOST_OUTBOUND_IPS = ENV.mailhost_outbound_ips
MAILHOST_SUSPEND_MIN_SENT = ENV.mailhost_suspend_min_sent
MAILHOST_SUSPEND_BOUNCE_PERCENT = ENV.mailhost_suspend_bounce_percent
MAILHOST_SUSPEND_COMPLAINT_PERCENT = ENV.mailhost_suspend_complaint_percent
MAILHOST_SUSPEND_WINDOW_DAYS = ENV.mailhost_suspend_window_days
MAILHOST_SECRET_KEY = ENV.mailhost_secret_key
MAILHOST_PRIVATE_TARGETS = ENV.mailhost_private_targets
MAILHOST_TRUSTED_PROXIES = ENV.mailhost_trusted_proxies
MAILHOST_TLS_CERT = ENV.mailhost_tls_cert
MAILHOST_TLS_KEY = ENV.mailhost_tls_key
MAILHOST_DIALECT_HOSTS = ENV.mailhost_dialect_hosts
MAILHOST_RSPAMD_URL = ENV.mailhost_rspamd_url
MAILHOST_X402_FACILITATOR = ENV.mailhost_x402_facilitator
MAILHOST_BLOBS = ENV.mailhost_blobs
MAILHOST_WEB_PROCESSES = ENV.mailhost_web_processes
MAILHOST_SMTP_PROCESSES = ENV.mailhost_smtp_processes
MAILHOST_WORKER_PROCESSES = ENV.mailhost_worker_processes
DATABASE_URL = ENV.database_url
REDIS_URL = ENV.redis_url

# --- Django ---------------------------------------------------------------------------------------

BASE_DIR: Path = PROJECT
DEBUG = False
# Derived, so that a leak of Django's signing key does not give the key that encrypts secrets at rest.
SECRET_KEY = hashlib.sha256(f"django:{MAILHOST_SECRET_KEY}".encode()).hexdigest()
# Every host name: an installation answers to its address, its names and its dialects' names, and no
# link is ever built from the Host header (MAILHOST_PUBLIC_URL serves for that).
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "config.urls"
WSGI_APPLICATION = "config.wsgi.application"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
AUTH_USER_MODEL = "accounts.User"

INSTALLED_APPS = [
    "unfold",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.postgres",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "apps.core",
    "apps.accounts",
    "apps.events",
    "apps.domains",
    "apps.mailboxes",
    "apps.mail",
    "apps.delivery",
    "apps.inbound",
    "apps.api",
    "apps.smtp",
    "apps.console",
]

MIDDLEWARE = [
    "apps.api.middleware.RequestIdMiddleware",
    "apps.api.dialect_hosts.DialectHostMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

TEMPLATES: list[dict[str, Any]] = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 12}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]

# --- Database -------------------------------------------------------------------------------------

DATABASES: dict[str, dict[str, Any]] = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": ENV.database.name,
        "USER": ENV.database.user,
        "PASSWORD": ENV.database.password,
        "HOST": ENV.database.host,
        "PORT": ENV.database.port,
        "OPTIONS": {"connect_timeout": "10", **ENV.database.options},
        "CONN_MAX_AGE": None,
        "CONN_HEALTH_CHECKS": True,
    }
}

# --- Time and language ----------------------------------------------------------------------------

TIME_ZONE = "UTC"
USE_TZ = True
LANGUAGE_CODE = "en-us"
USE_I18N = False
FORMAT_MODULE_PATH = ["apps.console.formats"]

# --- HTTP -----------------------------------------------------------------------------------------

DATA_UPLOAD_MAX_MEMORY_SIZE = 40 * 1024 * 1024
DATA_UPLOAD_MAX_NUMBER_FIELDS = 10_000
APPEND_SLASH = True
_PUBLIC = urlsplit(MAILHOST_PUBLIC_URL)
_HTTPS = _PUBLIC.scheme == "https"
CSRF_TRUSTED_ORIGINS = [f"{_PUBLIC.scheme}://{_PUBLIC.netloc}"]
# Two installations on one host name differ only by port, which cookies do not: the port is in the name.
SESSION_COOKIE_NAME = f"mailhost_session_{MAILHOST_HTTP_PORT}"
CSRF_COOKIE_NAME = f"mailhost_csrf_{MAILHOST_HTTP_PORT}"
SESSION_ENGINE = "django.contrib.sessions.backends.db"
SESSION_COOKIE_SECURE = _HTTPS
CSRF_COOKIE_SECURE = _HTTPS
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"

# --- Static files: served by the web process itself, straight from the packages -------------------

STATIC_URL = "/static/"
# Finders instead of collectstatic: nothing to build before the first start, nothing to go stale.
WHITENOISE_USE_FINDERS = True
WHITENOISE_AUTOREFRESH = False
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.InMemoryStorage"},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
}

# --- REST framework and OpenAPI -------------------------------------------------------------------

REST_FRAMEWORK: dict[str, Any] = {
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["rest_framework.parsers.JSONParser"],
    "DEFAULT_AUTHENTICATION_CLASSES": [],
    "DEFAULT_PERMISSION_CLASSES": [],
    "UNAUTHENTICATED_USER": None,
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
}

SPECTACULAR_SETTINGS: dict[str, Any] = {
    "TITLE": "Mailhost",
    "DESCRIPTION": "Mailboxes for agents: create an inbox, send, receive, and follow what happens.",
    "VERSION": "1",
    "OAS_VERSION": "3.1.0",
    "SERVE_INCLUDE_SCHEMA": False,
    "SCHEMA_PATH_PREFIX": "/v1",
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "REDOC_DIST": "SIDECAR",
}

# --- Admin ----------------------------------------------------------------------------------------

UNFOLD: dict[str, Any] = {
    "SITE_TITLE": "Mailhost",
    "SITE_HEADER": "Mailhost",
    "SITE_SUBHEADER": "All times are UTC",
    "SITE_SYMBOL": "mail",
    "SITE_URL": "/admin/",
    "SITE_FAVICONS": [{"rel": "icon", "type": "image/svg+xml", "href": "apps.console.navigation.icon_url"}],
    "SHOW_HISTORY": True,
    "SHOW_VIEW_ON_SITE": False,
    "DASHBOARD_CALLBACK": "apps.console.overview.build_overview",
    "SIDEBAR": {"show_search": False, "navigation": "apps.console.navigation.build_navigation"},
    "STYLES": ["apps.console.navigation.style_url"],
    "SCRIPTS": ["apps.console.navigation.script_url"],
    "COLORS": {
        "primary": {
            "50": "oklch(97.0% .014 254.604)",
            "100": "oklch(93.2% .032 255.585)",
            "200": "oklch(88.2% .059 254.128)",
            "300": "oklch(80.9% .105 251.813)",
            "400": "oklch(70.7% .165 254.624)",
            "500": "oklch(62.3% .214 259.815)",
            "600": "oklch(54.6% .245 262.881)",
            "700": "oklch(48.8% .243 264.376)",
            "800": "oklch(42.4% .199 265.638)",
            "900": "oklch(37.9% .146 265.522)",
            "950": "oklch(28.2% .091 267.935)",
        }
    },
}

# --- Logging --------------------------------------------------------------------------------------

LOGGING = build_logging(log_format=ENV.mailhost_log_format, level=ENV.mailhost_log_level)
