"""Flask: whoever shows a good token may ask who he is; the scope `write` may write."""

import os
from typing import Any

from flask import Flask

from bearer_middleware import WSGIBearerMiddleware
from bearer_middleware.web.flask import current_identity, requires_scopes

app = Flask(__name__)
app.wsgi_app = WSGIBearerMiddleware(app.wsgi_app)


@app.get("/")
def whoami() -> dict[str, Any]:
    identity = current_identity()
    return {"subject": identity.subject, "scopes": sorted(identity.scopes)}


@app.get("/write")
@requires_scopes("write")
def write() -> dict[str, Any]:
    return {"written by": current_identity().subject}


if __name__ == "__main__":
    app.run(port=int(os.environ.get("PORT", "8000")))
