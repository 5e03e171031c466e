"""What gunicorn loads: guestbook.wsgi:app."""

from guestbook import create_app

app = create_app()
