"""YAML that people write, read strictly: what is wrong is told with file and line."""

from collections.abc import Sequence
from typing import Any

import jsonschema_rs
import yaml

from headwater.errors import SetupError


def read_strictly(text: str, origin: str, validator: jsonschema_rs.Validator) -> tuple[Any, yaml.Node | None]:
    """The document, and its nodes for `line_of`. `origin` is the file's name for messages.

    Raises SetupError for what is no YAML, for a key that is no text or is there twice, and for what the
    validator does not take.
    """
    try:
        document, node = yaml.safe_load(text), yaml.compose(text)
    except yaml.MarkedYAMLError as fault:
        line = fault.problem_mark.line + 1 if fault.problem_mark else 1
        raise SetupError(f"{origin}:{line}: {fault.problem}") from None
    _refuse_doubled(node, origin)
    refuse_unknown(text, origin, document, validator)
    return document, node


def refuse_unknown(text: str, origin: str, document: Any, validator: jsonschema_rs.Validator) -> None:
    """Raise at the first thing that the validator does not take, with its line."""
    for error in validator.iter_errors(document):
        line = line_of(yaml.compose(text), list(error.instance_path), error.message)
        raise SetupError(f"{origin}:{line}: {error.message}")


def line_of(node: yaml.Node | None, path: Sequence[str | int], message: str = "") -> int:
    """The line of the node at `path`, or of the one of its keys that the message quotes."""
    for step in path:
        if isinstance(node, yaml.MappingNode):
            node = next((v for k, v in node.value if k.value == step), node)
        elif isinstance(node, yaml.SequenceNode) and isinstance(step, int):
            node = node.value[step]
    keys = [k for k, _ in node.value] if isinstance(node, yaml.MappingNode) else []
    named = next((k for k in keys if f"'{k.value}'" in message), node)
    return named.start_mark.line + 1 if named else 1


def _refuse_doubled(node: yaml.Node | None, origin: str) -> None:
    """YAML's reader would take the last of two and say nothing, so that rules would be lost; and JSON has no
    keys but texts."""
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _refuse_doubled(item, origin)
    if not isinstance(node, yaml.MappingNode):
        return
    seen: set[str] = set()
    for key, value in node.value:
        where = f"{origin}:{key.start_mark.line + 1}"
        if key.tag != "tag:yaml.org,2002:str":
            raise SetupError(f"{where}: {key.value!r} is no text; put it into quotation marks")
        if key.value in seen:
            raise SetupError(f"{where}: {key.value!r} is there twice")
        seen.add(key.value)
        _refuse_doubled(value, origin)
