// A small language for Grafana dashboards: rows of panels with queries, laid out from left to right.

export interface Panel {
  readonly title: string;
  /** Grafana's name of the unit, such as `Bps` or `s`. */
  readonly unit?: string;
  /** What the reader should make of it. */
  readonly about?: string;
  /** Columns of 24. */
  readonly width?: number;
  readonly kind?: "timeseries" | "stat" | "table" | "heatmap";
  /** Legend → query; in legends `{{label}}`. */
  readonly queries: Readonly<Record<string, string>>;
}

export interface Row {
  readonly title: string;
  readonly panels: readonly Panel[];
}

export interface Dashboard {
  /** Stable: other dashboards and alerts link to it. */
  readonly uid: string;
  readonly title: string;
  readonly rows: readonly Row[];
}

const PANEL_HEIGHT = 8;
const DATASOURCE = { type: "prometheus", uid: "${datasource}" };

/** The value Grafana imports. */
export function grafanaJson({ uid, title, rows }: Dashboard): object {
  const panels: object[] = [];
  let y = 0;
  for (const row of rows) {
    panels.push({
      id: panels.length + 1,
      type: "row",
      title: row.title,
      collapsed: false,
      gridPos: { x: 0, y: y++, w: 24, h: 1 },
      panels: [],
    });
    let x = 0;
    for (const panel of row.panels) {
      const w = panel.width ?? 12;
      if (x + w > 24) {
        x = 0;
        y += PANEL_HEIGHT;
      }
      panels.push(panelJson(panel, panels.length + 1, { x, y, w, h: PANEL_HEIGHT }));
      x += w;
    }
    y += PANEL_HEIGHT;
  }
  return {
    uid,
    title,
    tags: ["ambit"],
    schemaVersion: 39,
    version: 1,
    editable: true,
    refresh: "15s",
    time: { from: "now-30m", to: "now" },
    links: [
      { type: "dashboards", title: "Mesh", tags: ["ambit"], asDropdown: true, keepTime: true },
    ],
    templating: {
      list: [
        { name: "datasource", type: "datasource", query: "prometheus", label: "Data source" },
        variable(
          "namespace",
          "label_values(istio_tcp_connections_opened_total, destination_workload_namespace)",
        ),
      ],
    },
    annotations: { list: [] },
    panels,
  };
}

function variable(name: string, query: string): object {
  return {
    name,
    type: "query",
    label: "Namespace",
    datasource: DATASOURCE,
    query,
    refresh: 2,
    sort: 1,
    multi: true,
    includeAll: true,
    allValue: ".*",
    current: { text: "All", value: "$__all" },
  };
}

function panelJson(panel: Panel, id: number, gridPos: object): object {
  const kind = panel.kind ?? "timeseries";
  return {
    id,
    type: kind,
    title: panel.title,
    ...(panel.about === undefined ? {} : { description: panel.about }),
    datasource: DATASOURCE,
    gridPos,
    fieldConfig: {
      defaults: {
        unit: panel.unit ?? "short",
        min: 0,
        ...(kind === "timeseries" ? { custom: { fillOpacity: 10, showPoints: "never" } } : {}),
      },
      overrides: [],
    },
    options:
      kind === "timeseries"
        ? { legend: { displayMode: "list", placement: "bottom" }, tooltip: { mode: "multi" } }
        : {},
    targets: Object.entries(panel.queries).map(([legendFormat, expr], i) => ({
      refId: String.fromCharCode(65 + i),
      datasource: DATASOURCE,
      expr,
      legendFormat,
      ...(kind === "table" ? { format: "table", instant: true } : {}),
      ...(kind === "heatmap" ? { format: "heatmap" } : {}),
    })),
  };
}
