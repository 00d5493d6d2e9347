"""How annotations are checked while tests run: as mypy does, an int may stand where a float is wanted."""

from beartype import BeartypeConf, beartype

check = beartype(conf=BeartypeConf(is_pep484_tower=True))
