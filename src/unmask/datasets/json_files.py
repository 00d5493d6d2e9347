"""JSON files of other programs, whatever they hold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from unmask.datasets.wording import placed
from unmask.errors import DatasetError


def read_json(file: Path) -> Any:
    """Read a JSON file in UTF-8, with or without a byte order mark, or in UTF-16 with one.

    Raises:
        DatasetError: it cannot be read, or is no JSON.
    """
    try:
        content = file.read_bytes()
        return json.loads(content)
    except OSError as error:
        raise DatasetError(f"{placed(file)}: cannot be read ({error.strerror}); check the file") from error
    except (ValueError, RecursionError, MemoryError) as error:
        line = f", line {error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
        raise DatasetError(f"{placed(file)}{line}: not JSON, or damaged; write the file again") from error
