"""Completes configs that leave out fields with the default values of their model type."""

from collections.abc import Mapping
from typing import Any

from seesaw_core.planner.model_configs import leaves_fields_out


def with_defaults(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the config with transformers' defaults for the fields that a plan needs.

    A config that lacks none of them, or of a type that transformers does not know, is returned
    unchanged.
    """
    model_type = config.get("model_type")
    if not leaves_fields_out(config) or not isinstance(model_type, str):
        return dict(config)
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    if model_type not in CONFIG_MAPPING:
        return dict(config)
    try:
        whole = CONFIG_MAPPING[model_type].from_dict(dict(config)).to_dict()
    except Exception:  # noqa: BLE001 - describe_model reports what is wrong more clearly
        return dict(config)
    given = {name: value for name, value in config.items() if name != "text_config"}
    return {**whole, **given}
