"""Values about metrics, alerts and the dashboard."""

from pydantic import Field

from seesaw_generate.chart.kinds import UNIQUE, Annotations, Interval, Labels
from seesaw_generate.chart.part import KubernetesObject, Part


class Monitor(Part):
    """How the Prometheus operator is told to scrape something."""

    enabled: bool = Field(default=False, description="Make it; needs the Prometheus operator.")
    interval: Interval = Field(default="", description="Default: Prometheus' own, such as 30s.")
    scrape_timeout: Interval = Field(default="", description="Default: Prometheus' own.")
    labels: Labels = Field(
        default={}, description="Labels that your Prometheus selects monitors by."
    )
    relabelings: list[KubernetesObject] = Field(default=[], description="Added to the chart's own.")
    metric_relabelings: list[KubernetesObject] = Field(default=[], description="As they are.")


class Rules(Part):
    """Alerts."""

    enabled: bool = Field(
        default=False,
        description="Make the PrometheusRule. Its alerts need both monitors, or the same labels "
        "by other means.",
    )
    labels: Labels = Field(default={}, description="Labels that your Prometheus selects rules by.")
    disabled: list[str] = Field(
        default=[],
        json_schema_extra=UNIQUE,
        description="Names of alerts to leave out, as files/rules.yaml has them.",
    )


class Dashboard(Part):
    """A dashboard of Grafana."""

    enabled: bool = Field(
        default=False, description="Make the ConfigMap that Grafana's sidecar reads."
    )
    labels: Labels = Field(
        default={"grafana_dashboard": "1"}, description="Labels that the sidecar selects by."
    )
    annotations: Annotations = Field(
        default={}, description="Such as grafana_folder, where the sidecar knows it."
    )


class Monitoring(Part):
    """Metrics, alerts and a dashboard."""

    service_monitor: Monitor = Field(
        default=Monitor(), description="A ServiceMonitor: of the operator's metrics."
    )
    pod_monitor: Monitor = Field(
        default=Monitor(),
        description="Two PodMonitors: of all routers and workers, in watchNamespaces or anywhere.",
    )
    rules: Rules = Field(default=Rules(), description="A PrometheusRule.")
    dashboard: Dashboard = Field(default=Dashboard(), description="A ConfigMap for Grafana.")
