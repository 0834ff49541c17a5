"""What the API is, as an OpenAPI 3.1 document.

A new path needs one row in operations.py; its summary is the view's docstring. Fields of requests come from the schemas that
check them, and where those read a field by hand, from contents.py. Loaded when the document is first asked for.
"""

from gateway.api.description.document import build_document

__all__ = ["build_document"]
