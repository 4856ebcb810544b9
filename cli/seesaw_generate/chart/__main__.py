"""Writes into the chart's folder what is made from code: ``make docs`` runs it."""

import sys
from pathlib import Path

from seesaw_generate.chart.dashboard import dashboard_json
from seesaw_generate.chart.render import forms_json, readme, schema_json, values_yaml

FILES = {
    "values.yaml": values_yaml,
    "values.schema.json": schema_json,
    "README.md": readme,
    "files/dashboard.json": dashboard_json,
    "files/forms.json": forms_json,
}


def write(folder: Path) -> None:
    """Write each file anew."""
    for name, made in FILES.items():
        (folder / name).write_text(made())


if __name__ == "__main__":
    write(Path(sys.argv[1]))
