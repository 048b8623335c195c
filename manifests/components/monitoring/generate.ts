// Writes the dashboards beside it: a JSON file each, and the ConfigMaps Grafana's sidecar collects.
// Run: node manifests/components/monitoring/generate.ts
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { stringify } from "yaml";
import { grafanaJson } from "./dashboard.ts";
import { DASHBOARDS } from "./dashboards.ts";

/** Path from here → text. */
export function dashboardFiles(): ReadonlyMap<string, string> {
  const files = new Map<string, string>();
  const maps: string[] = [];
  for (const dashboard of DASHBOARDS) {
    const json = `${JSON.stringify(grafanaJson(dashboard), null, 2)}\n`;
    files.set(`dashboards/${dashboard.uid}.json`, json);
    maps.push(
      stringify(
        {
          apiVersion: "v1",
          kind: "ConfigMap",
          metadata: {
            name: `dashboard-${dashboard.uid}`,
            namespace: "istio-system",
            labels: { grafana_dashboard: "1", "app.kubernetes.io/part-of": "ambit" },
          },
          data: { [`${dashboard.uid}.json`]: json },
        },
        { lineWidth: 0 },
      ),
    );
  }
  files.set("dashboards.yaml", `# Made by generate.ts\n${maps.join("---\n")}`);
  return files;
}

if (import.meta.main)
  for (const [name, text] of dashboardFiles()) writeFileSync(join(import.meta.dirname, name), text);
