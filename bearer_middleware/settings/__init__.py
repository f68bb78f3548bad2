"""What the user says, checked as a whole: keywords, ``BEARER_*`` variables, a TOML file.

Read from top to bottom: ``variables`` is the one table of all settings, ``parsing`` and
``files`` turn what was written into values, ``sources`` says where it was written,
``rules`` what must hold between values, ``assembly`` puts it together.
"""

from __future__ import annotations

from bearer_middleware.settings.issuers import IssuerSettings as IssuerSettings
from bearer_middleware.settings.secret import Secret as Secret
from bearer_middleware.settings.settings import Settings as Settings
