"""The WSGI application: `gunicorn app:app`."""

from gateway.factory import create_app

app = create_app()
