"""Bearer tokens for ASGI and WSGI applications: any token in, an identity out."""

from bearer_middleware.access.identity import Identity as Identity
from bearer_middleware.errors import ConfigError as ConfigError
from bearer_middleware.resource_server import ResourceServer as ResourceServer
from bearer_middleware.settings import Settings as Settings
from bearer_middleware.web.asgi import BearerMiddleware as BearerMiddleware
from bearer_middleware.web.wsgi import WSGIBearerMiddleware as WSGIBearerMiddleware
