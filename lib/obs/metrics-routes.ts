// The metrics port: one text under the two paths that scrapers of Istio know.
import { promisify } from "node:util";
import { gzip } from "node:zlib";
import type { HttpReply, HttpRequest, Route, Routes } from "./http-server.ts";
import type { Family } from "./metric-family.ts";
import { metricsText } from "./metrics-text.ts";

const compress = promisify(gzip);

/** @param collect  called for each scrape */
export function metricsRoutes(collect: () => Promise<readonly Family[]>): Routes {
  const route: Route = { handle: (request) => scrape(collect, request) };
  return new Map([
    ["/metrics", route],
    ["/stats/prometheus", route],
  ]);
}

async function scrape(
  collect: () => Promise<readonly Family[]>,
  { headers }: HttpRequest,
): Promise<HttpReply> {
  const text = await metricsText(await collect());
  const accepted = headers.accept ?? "";
  const type = accepted.includes("application/openmetrics-text")
    ? "application/openmetrics-text;charset=utf-8;version=1.0.0"
    : "text/plain; charset=utf-8";
  if (!/\bgzip\b/.test(String(headers["accept-encoding"] ?? ""))) return { type, body: text };
  return { type, headers: { "content-encoding": "gzip" }, body: await compress(text) };
}
