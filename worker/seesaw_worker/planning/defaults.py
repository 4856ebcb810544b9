"""Configs that leave out what their type's defaults say."""

from collections.abc import Mapping
from typing import Any

from seesaw_core.planner.model_configs import leaves_fields_out


def with_defaults(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config with transformers' defaults where fields that a plan needs are left out.

    A config that lacks none, or whose type transformers does not know, comes back as it is.
    """
    model_type = config.get("model_type")
    if not leaves_fields_out(config) or not isinstance(model_type, str):
        return dict(config)
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    if model_type not in CONFIG_MAPPING:
        return dict(config)
    try:
        whole = CONFIG_MAPPING[model_type].from_dict(dict(config)).to_dict()
    except Exception:  # noqa: BLE001 - whatever it finds wrong, describing the model says better
        return dict(config)
    given = {name: value for name, value in config.items() if name != "text_config"}
    return {**whole, **given}
