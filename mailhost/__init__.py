"""The mail engine: how mail works, and nothing of what the product does with it.

Plain Python: no Django, no Celery, no settings, no environment, no database. Whatever a function needs is an
argument. Read `mailhost/README.md` first.
"""
