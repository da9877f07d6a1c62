"""What a fork server imports once, for all processes that it forks."""

from __future__ import annotations

import gc
from importlib import import_module

for name in ("hypothesis", "pytest", "api.cli", "tests.infra.erasures", "tests.infra.writer"):
    import_module(name)
gc.freeze()  # else each child copies what its collector looks at
