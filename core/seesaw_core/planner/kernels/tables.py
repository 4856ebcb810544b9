"""The tables of measured kernels that come with the package, one file for each accelerator.

``seesaw_generate.kernels`` makes them; each file names its source and versions.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from seesaw_core.planner.kernels.grids import Curve, Grid, grid_of


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelTables:
    """Measured times of one accelerator. Units: seconds; sizes are counts and bytes.

    products: by number format, one grid [outputs, inputs] for each number of ``tokens``.
    decode_attention: by number format of KV [key heads of all requests, context].
    prefill_attention: by number format of KV [query heads, prompt].
    all_reduce: bytes, by the number of devices.
    Heads have 128 elements.
    """

    accelerator: str
    source: str
    tokens: tuple[int, ...]
    products: Mapping[str, tuple[Grid, ...]]
    decode_attention: Mapping[str, Grid]
    prefill_attention: Mapping[str, Grid]
    all_reduce: Mapping[int, Curve]


@cache
def kernel_tables(accelerator: str) -> KernelTables | None:
    """Return the tables of an accelerator by its name in the catalogue, or None."""
    path = files("seesaw_core.planner.kernels") / "tables" / f"{accelerator}.json"
    if not path.is_file():
        return None
    content = json.loads(path.read_text())
    products, reduces = content["products"], content["all_reduce"]
    sizes, area = products["sizes"], len(products["sizes"]) ** 2
    return KernelTables(
        accelerator=accelerator,
        source=content["source"],
        tokens=tuple(products["tokens"]),
        products={
            dtype: tuple(grid_of(sizes, sizes, us[i : i + area]) for i in range(0, len(us), area))
            for dtype, us in products["us"].items()
        },
        decode_attention=_attention(content["decode_attention"], "contexts"),
        prefill_attention=_attention(content["prefill_attention"], "lengths"),
        all_reduce={
            int(number): Curve(tuple(reduces["bytes"]), tuple(1e-6 * each for each in us))
            for number, us in reduces["us"].items()
        },
    )


def _attention(table: Mapping[str, object], inner: str) -> dict[str, Grid]:
    heads, lengths, us = table["heads"], table[inner], table["us"]
    assert isinstance(heads, list)
    assert isinstance(lengths, list)
    assert isinstance(us, dict)
    return {dtype: grid_of(heads, lengths, times) for dtype, times in us.items()}
