// Metric families as OpenMetrics text, written by prom-client. Loaded at the first scrape: a proxy that
// nobody scrapes does not carry the library.
import type { Metric, OpenMetricsContentType } from "prom-client";
import type { Family } from "./metric-family.ts";

/** @returns the text, `# EOF` included */
export async function metricsText(families: readonly Family[]): Promise<string> {
  // a CommonJS package: its names are guesses of Node's, and in a bundle there are none besides `default`
  const {
    default: { Registry },
  } = await import("prom-client");
  const registry = new Registry<OpenMetricsContentType>();
  registry.setContentType(Registry.OPENMETRICS_CONTENT_TYPE);
  for (const { name: sampleName, help, type, samples } of families) {
    // OpenMetrics names a counter without its suffix, which the registry puts back on each sample.
    const name = type === "counter" ? sampleName.replace(/_total$/, "") : sampleName;
    const metric = { name, help, type, get: async () => ({ name, help, type, values: samples }) };
    // The registry only calls `get`; its type asks for the library's own counters, which would make
    // every scrape copy all values into them first.
    registry.registerMetric(metric as unknown as Metric);
  }
  return registry.metrics();
}
